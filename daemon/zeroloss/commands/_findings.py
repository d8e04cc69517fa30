"""What the answers of a model say of a spectrum or an image, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ._evidence import LEAST_ALTERNATIVE, Edge, alike, detected, neighbours

SHOWN = 12
"""Elements named in one line."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answer:
    """Probability and spread [n, labels] of n spectra; spread is None where the model has none.

    `doubts` are the further probabilities of the model by label, each [n], with their threshold:
    that a spectrum is unlike its training, for instance. `axis_error_ev` [n, 2] is by how much
    the model took the energies for too high at the first and at the last measured channel, 0 where
    it left them alone; None where it does not look.
    """

    probability: Floats
    spread: Floats | None
    doubts: Mapping[str, tuple[Floats, float]] = field(default_factory=dict)
    axis_error_ev: Floats | None = None

    @property
    def axis_note(self) -> str | None:
        """What to tell of the axis where it was changed; None where it never was."""
        if self.axis_error_ev is None:
            return None
        changed = self.axis_error_ev[(self.axis_error_ev != 0).any(axis=1)]
        changed = changed[np.isfinite(changed).all(axis=1)]
        if not len(changed):
            return None
        first, last = np.median(changed, axis=0)
        pixels = "" if len(self.probability) == 1 else f" in {len(changed)} pixels (median)"
        return (
            f"energies seem too high by {first:.1f} eV at the first and {last:.1f} eV at the last "
            f"channel{pixels}; elements were looked for on an axis without this error"
        )


@dataclass(frozen=True, slots=True)
class Findings:
    """What is shown, in a line, and the labels of it with their probability."""

    line: str
    found: Sequence[tuple[str, float]]


def findings_of_spectrum(
    labels: Sequence[str], threshold: float, answer: Answer, edges: Mapping[str, list[Edge]]
) -> Findings:
    """The detected labels, the surest first, ` or ` between those that `edges` cannot tell apart.

    Everything at or above the threshold, and what `detected` adds to it. `answer` is of one.
    """
    probability = answer.probability[0]
    groups = detected(labels, probability, threshold, edges)

    def text(index: int) -> str:
        spread = "" if answer.spread is None else f" ± {answer.spread[0, index]:.2f}"
        return f"{labels[index]} {probability[index]:.2f}{spread}"

    texts = [" or ".join(text(index) for index in group) for group in groups]
    found = [(labels[index], float(probability[index])) for group in groups for index in group]
    doubts = [
        f"{name} {values[0]:.2f}"
        for name, (values, limit) in answer.doubts.items()
        if values[0] >= limit
    ]
    return Findings("; ".join([_listed(texts), *doubts]), found)


def findings_of_image(
    labels: Sequence[str],
    threshold: float,
    answer: Answer,
    share: float,
    edges: Mapping[str, list[Edge]],
) -> Findings:
    """What reaches the threshold in at least `share` of the pixels, with the mean over those.

    The rule of Annys et al., Sci. Rep. 13, 13724 (2023), with its 1 %. ` or ` stands between
    neighbours that `edges` (those of the mean over the pixels) cannot tell apart: two that are
    found, or one and another that is not unlikely in its pixels.
    """
    with np.errstate(invalid="ignore"):
        present = answer.probability >= threshold
    fraction = present.mean(axis=0)
    # The pixels of a label: its own, or those of the neighbour that it may be instead of.
    pixels = {index: present[:, index] for index in np.flatnonzero(fraction >= share).tolist()}
    for index, where in list(pixels.items()):
        for other in {index - 1, index + 1} & set(range(len(labels))) - set(pixels):
            likely = answer.probability[where, other].mean() >= LEAST_ALTERNATIVE
            if likely and alike(edges, labels[index], labels[other]):
                pixels[other] = where
    groups = neighbours(sorted(pixels), labels, edges)

    def mean(index: int) -> float:
        return float(answer.probability[pixels[index], index].mean())

    def text(index: int) -> str:
        spread = ""
        if answer.spread is not None:
            spread = f" ± {float(answer.spread[pixels[index], index].mean()):.2f}"
        return f"{labels[index]} {mean(index):.2f}{spread} in {fraction[index]:.0%}"

    for group in groups:
        group.sort(key=lambda index: -(float(fraction[index]) + mean(index)))
    groups.sort(key=lambda group: -(float(fraction[group[0]]) + mean(group[0])))
    texts = [" or ".join(text(index) for index in group) for group in groups]
    doubts = [
        f"{name} in {doubtful:.0%}"
        for name, (values, limit) in answer.doubts.items()
        if (doubtful := float((values >= limit).mean())) >= share
    ]
    line = "; ".join([_listed(texts), *doubts])
    return Findings(line, [(labels[index], mean(index)) for group in groups for index in group])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN
    line = ", ".join(texts[:SHOWN]) + (f" and {more} more" if more > 0 else "")
    return line or "nothing"
