"""How right a network is as the dose falls and the edges sink into the background."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from zeroloss_export.evaluation.judged import Judged, judge
from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe

Quantity = Literal["counts_per_ev", "jump_ratio"]

BOUNDS: Final[dict[Quantity, tuple[float, ...]]] = {
    "counts_per_ev": (20.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7),
    "jump_ratio": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 20.0),
}
"""Bounds of the bins: counts per eV in the middle of the range; the peak of one of the edges over
the background below it. A bin is simulated with the recipe's range narrowed to it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Scores between ``low`` and ``high``, micro-averaged over all counted labels.

    ``uncounted`` is the number of labels per spectrum that do not count because the edge is cut or
    drowned in noise: the lower the dose, the more.
    """

    low: float
    high: float
    f1: float
    precision: float
    recall: float
    uncounted: float


def by_condition(
    predictor: Predictor,
    table: CrossSectionTable,
    quantity: Quantity,
    threshold: float,
    *,
    seed: int,
    count: int,
) -> list[Condition]:
    """Simulate and score ``count`` spectra for each bin of the quantity; bin i takes seed + i."""
    bounds = BOUNDS[quantity]
    rows = []
    for index, (low, high) in enumerate(itertools.pairwise(bounds)):
        recipe = Recipe().changed(**{quantity: (low, high)})
        judged = judge(predictor, table, recipe, seed + index, count)
        precision, recall, f1 = micro_scores(judged, threshold)
        uncounted = float((~judged.known).sum(1).mean())
        rows.append(Condition(low, high, f1, precision, recall, uncounted))
    return rows


def micro_scores(judged: Judged, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 over all counted labels together; NaN without any."""
    claimed = (judged.probability >= threshold) & judged.known
    true = judged.present & judged.known
    hits, said, support = int((claimed & true).sum()), int(claimed.sum()), int(true.sum())
    return (
        hits / said if said else np.nan,
        hits / support if support else np.nan,
        2 * hits / (said + support) if said + support else np.nan,
    )
