"""What the answers of a model say of a spectrum or an image, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ._evidence import Edge, detected

SHOWN = 12
"""Elements named in one line."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answer:
    """Probability and spread [n, labels] of n spectra; spread is None where the model has none.

    `doubts` are the further probabilities of the model by label, each [n], with their threshold:
    that a spectrum is unlike its training, for instance.
    """

    probability: Floats
    spread: Floats | None
    doubts: Mapping[str, tuple[Floats, float]] = field(default_factory=dict)


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
    labels: Sequence[str], threshold: float, answer: Answer, share: float
) -> Findings:
    """What reaches the threshold in at least `share` of the pixels, with the mean over those.

    The rule of Annys et al., Sci. Rep. 13, 13724 (2023), with its 1 %.
    """
    with np.errstate(invalid="ignore"):
        present = answer.probability >= threshold
    fraction = present.mean(axis=0)
    shown: list[tuple[float, str, tuple[str, float]]] = []
    for index in np.flatnonzero(fraction >= share).tolist():
        where = present[:, index]
        p = float(answer.probability[where, index].mean())
        text = f"{labels[index]} {p:.2f}"
        if answer.spread is not None:
            text += f" ± {float(answer.spread[where, index].mean()):.2f}"
        text += f" in {fraction[index]:.0%}"
        shown.append((float(fraction[index]) + p, text, (labels[index], p)))
    shown.sort(key=lambda item: -item[0])
    doubts = [
        f"{name} in {doubtful:.0%}"
        for name, (values, limit) in answer.doubts.items()
        if (doubtful := float((values >= limit).mean())) >= share
    ]
    line = "; ".join([_listed([text for _, text, _ in shown]), *doubts])
    return Findings(line, [found for _, _, found in shown])


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN
    line = ", ".join(texts[:SHOWN]) + (f" and {more} more" if more > 0 else "")
    return line or "nothing"
