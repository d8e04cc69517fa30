"""Tables 2 and 3 of Annys et al. (2023) for networks of this project.

A. Annys, D. Jannis and J. Verbeeck, Sci. Rep. 13, 13724 (2023). As there: thresholds are those
where precision and recall are closest on validation spectra, scores are weighted by how often each
element occurs, and carbon is left out on measured spectra. As there, measured spectra are divided
at random in two, one half for the threshold and the other for the scores; with few spectra one
division says little, so that the scores are means over many.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from zeroloss_export.evaluation.measured import Spectrum, as_inputs
from zeroloss_export.evaluation.metrics import Scores, balanced_threshold, scores
from zeroloss_export.networks.grid import grid_of
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.spectra import LabelledSpectra

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]

DIVISIONS: Final = 50
"""Random halves of the measured spectra."""

_FIGURES: Final = ("F1", "precision", "recall", "exact match", "RMSE", "threshold")
_HEADS: Final = (
    "network",
    "parameters, M",
    *(f"simulated {name}" for name in _FIGURES),
    *(f"measured {name}" for name in _FIGURES),
    "CPU ms a spectrum",
    "trained on",
)
_NOTE: Final = (
    "*In italics: A. Annys, D. Jannis and J. Verbeeck, Sci. Rep. 13, 13724 (2023), Tables 2 and 3. "
    "Their 100 measured test spectra are others, their simulated spectra come from other cross "
    "sections and from formulas of the Materials Project, and their inference time is in seconds, "
    "of how many spectra is not said. Thresholds, precision and recall are given for measured "
    "spectra only; how often the training set was passed is not given.*"
)
_AT_ONCE: Final = 128
_TIMED: Final = 32
_REPEATS: Final = 5
_SCORED: Final = np.array([element != "C" for element in ELEMENTS])


@dataclass(frozen=True, slots=True)
class Budget:
    """What a network was trained with: all its spectra, and those and the minutes of its last run,

    which may have started from the weights of an earlier one.
    """

    recipe: str
    spectra: int
    last: int
    minutes: float

    def __str__(self) -> str:
        last = "" if self.last == self.spectra else f", {self.last:,} of them in a last run"
        return f"{self.spectra:,} spectra{last}, {self.minutes:.0f} min, {self.recipe} recipe"


@dataclass(frozen=True, slots=True)
class Column:
    """Scores at a threshold on spectra of one kind."""

    scores: Scores
    threshold: float


@dataclass(frozen=True, slots=True)
class Row:
    """A network, or several whose mean logit is taken."""

    name: str
    parameters: int
    simulated: Column
    measured: Column | None
    milliseconds: float
    trained: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Spectra of ``element`` alone in which ``claimed`` was claimed, as a share of them."""

    element: str
    claimed: str
    share: float


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the paper; what it does not give is None."""

    name: str
    parameters_million: int | None
    simulated: tuple[float, float, float] | None
    measured: tuple[float, float, float] | None
    precision_recall: float | None
    threshold: float | None
    seconds: float | None


PUBLISHED: Final = (
    Published("MLP", 56, (0.50, 0.05, 0.16), (0.42, 0.12, 0.15), None, None, 0.1),
    Published("CNN", 45, (0.90, 0.68, 0.07), (0.76, 0.42, 0.12), None, None, 0.2),
    Published("ResNet", 41, (0.89, 0.68, 0.07), (0.77, 0.53, 0.10), None, None, 0.3),
    Published("U-Net", 20, (0.86, 0.63, 0.07), (0.84, 0.62, 0.09), 0.86, 0.95, 0.2),
    Published("ViT", 2, (0.84, 0.55, 0.09), (0.84, 0.60, 0.08), 0.86, 0.80, 0.6),
    Published("CCT", 5, (0.87, 0.60, 0.08), (0.79, 0.58, 0.08), None, None, 0.6),
    Published("2 ViT + 3 U-Net", None, None, (0.86, 0.70, float("nan")), 0.88, 0.75, None),
)
"""F1, exact match and RMSE on simulated and on measured spectra (Tables 2 and 3)."""


@torch.no_grad()
def predict(networks: Sequence[nn.Module], spectra: LabelledSpectra) -> FloatArray:
    """Probabilities [spectrum, 80] of the mean logit, without gates or temperature."""
    grids = {kind: kind() for kind in dict.fromkeys(grid_of(network) for network in networks)}
    parts = []
    for first in range(0, len(spectra.counts), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        inputs = (spectra.counts[rows], spectra.offset_ev[rows], spectra.scale_ev[rows])
        seen = {kind: grid(*inputs) for kind, grid in grids.items()}
        logits = [net(seen[grid_of(net)])[:, : len(ELEMENTS)] for net in networks]
        parts.append(torch.sigmoid(torch.stack(logits).mean(0)))
    probability: FloatArray = torch.cat(parts).numpy()
    return probability


def predict_measured(networks: Sequence[nn.Module], spectra: Sequence[Spectrum]) -> FloatArray:
    """Probabilities [spectrum, 80] of measured spectra, each on its own axis."""
    nothing = torch.zeros(1, len(ELEMENTS))
    return np.concatenate(
        [
            predict(networks, LabelledSpectra(*as_inputs(spectrum), nothing, nothing))
            for spectrum in spectra
        ]
    )


def simulated_column(
    validation: FloatArray, known: LabelledSpectra, test: FloatArray, judged: LabelledSpectra
) -> Column:
    """Threshold on validation spectra, scores on test spectra."""
    threshold = balanced_threshold(validation, _bool(known.present), _bool(known.known))
    result = scores(test, _bool(judged.present), threshold, _bool(judged.known))
    return Column(result, threshold)


def measured_column(probability: FloatArray, truth: BoolArray, seed: int = 0) -> Column:
    """Means over random halves, threshold on one, scores on the other; carbon is left out.

    Raises ValueError for fewer than two spectra.
    """
    if len(truth) < 2:
        raise ValueError(f"expected two measured spectra or more, got {len(truth)}")
    probability, truth = probability[:, _SCORED], truth[:, _SCORED]
    random = np.random.default_rng(seed)
    held: list[list[float]] = []
    for _ in range(DIVISIONS):
        order = random.permutation(len(truth))
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        threshold = balanced_threshold(probability[first], truth[first])
        result = scores(probability[second], truth[second], threshold)
        held.append([*result.as_dict().values(), threshold])
    mean = np.mean(held, axis=0).tolist()
    return Column(Scores(*mean[:-1]), mean[-1])


def cpu_milliseconds(networks: Sequence[nn.Module], spectra: LabelledSpectra) -> float:
    """Processor time of a spectrum in batches of 32, by torch with the threads it is given."""
    rows = slice(0, _TIMED)
    few = LabelledSpectra(
        spectra.counts[rows],
        spectra.offset_ev[rows],
        spectra.scale_ev[rows],
        spectra.present[rows],
        spectra.known[rows],
    )
    predict(networks, few)
    times = []
    for _ in range(_REPEATS):
        began = time.process_time()
        predict(networks, few)
        times.append(time.process_time() - began)
    return 1e3 * median(times) / len(few.counts)


def confused_pairs(
    probability: FloatArray, spectra: LabelledSpectra, threshold: float, most: int = 15
) -> list[Pair]:
    """The most frequent wrong claims in spectra of single elements, most frequent first."""
    truth = _bool(spectra.present)
    claimed = (probability >= threshold) & ~truth & _bool(spectra.known)
    seen = np.maximum(truth.sum(0), 1)
    share = (truth.T.astype(np.float64) @ claimed) / seen[:, None]
    order = np.argsort(-share, axis=None, kind="stable")[:most]
    places = zip(*np.unravel_index(order, share.shape), strict=True)
    return [
        Pair(ELEMENTS[int(true)], ELEMENTS[int(wrong)], float(share[true, wrong]))
        for true, wrong in places
        if share[true, wrong] > 0
    ]


def as_markdown(rows: Sequence[Row], pairs: Sequence[Pair], about: Sequence[str]) -> str:
    """The page: our rows, the paper's, and the pairs that are confused."""
    lines = ["# Networks in the form of Tables 2 and 3 of Annys et al. (2023)", ""]
    lines += [*(f"- {line}" for line in about), "", _line(_HEADS), "|" + "---|" * len(_HEADS)]
    for row in rows:
        cells = [row.name, f"{row.parameters / 1e6:.1f}"]
        cells += _cells(row.simulated) + _cells(row.measured)
        lines.append(_line([*cells, f"{row.milliseconds:.1f}", row.trained]))
    lines += [_line(_published(row)) for row in PUBLISHED]
    lines += ["", _NOTE]
    if pairs:
        lines += ["", _about_pairs(rows[-1]), "", "| element | claimed | share |", "|---|---|---|"]
        lines += [f"| {pair.element} | {pair.claimed} | {pair.share:.2f} |" for pair in pairs]
    return "\n".join(lines) + "\n"


def _about_pairs(row: Row) -> str:
    return (
        f"Most confused in simulated spectra of one element ({row.name}, threshold "
        f"{row.simulated.threshold:.2f}): the share of an element's spectra in which another is "
        "claimed too."
    )


def _cells(column: Column | None) -> list[str]:
    if column is None:
        return [""] * 6
    values = (*column.scores.as_dict().values(), column.threshold)
    return [f"{value:.2f}" for value in values]


def _published(row: Published) -> list[str]:
    def number(value: float | None) -> str:
        return "" if value is None or np.isnan(value) else f"{value:.2f}"

    def scored(values: tuple[float, float, float] | None, both: float | None) -> list[str]:
        f1, exact, rmse = values or (None, None, None)
        return [number(f1), number(both), number(both), number(exact), number(rmse)]

    million = "" if row.parameters_million is None else str(row.parameters_million)
    seconds = "" if row.seconds is None else f"{row.seconds} s"
    cells = [million, *scored(row.simulated, None), ""]
    cells += [*scored(row.measured, row.precision_recall), number(row.threshold), seconds]
    return [f"*{row.name} of the paper*", *cells, "a set of 560,000 spectra"]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _bool(value: torch.Tensor) -> BoolArray:
    result: BoolArray = value.cpu().numpy() > 0
    return result
