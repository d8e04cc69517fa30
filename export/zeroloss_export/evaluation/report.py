"""The full evaluation of an element network on simulated spectra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.evaluation.conditions import Condition, by_condition
from zeroloss_export.evaluation.garbage import GarbageScore, garbage, score_garbage
from zeroloss_export.evaluation.judged import Judged, judge, single_elements
from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.evaluation.per_element import (
    CONTESTED,
    Confusion,
    ElementScore,
    confusions,
    element_scores,
)
from zeroloss_export.evaluation.reliability import Reliability, reliability
from zeroloss_export.networks.ensemble import UNLIKE_THRESHOLD
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import SpectrumSimulator

GARBAGE_SPECTRA: Final = 256
# Each set of simulated spectra has a seed of its own, counted from the test seed.
_SINGLES, _DOSE, _JUMP_RATIO, _SPOILED = 100, 200, 300, 400


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of an evaluation on simulated spectra.

    ``everything`` is the reliability over every label decision, ``contested`` over those with a
    probability of `CONTESTED` or more, ``claimed`` over those above the threshold (none: None),
    ``before`` as ``contested`` without the network's ``temperature`` and ``bias``. ``unlike`` is
    the share of the test spectra that are said to be unlike training.
    """

    threshold: float
    seed: int
    test: Judged
    singles: Judged
    everything: Reliability
    contested: Reliability
    claimed: Reliability | None
    temperature: float
    bias: float
    before: Reliability
    unlike: float
    elements: list[ElementScore]
    pairs: list[Confusion]
    dose: list[Condition]
    jump_ratio: list[Condition]
    garbage: list[GarbageScore]


def evaluate_elements(
    predictor: Predictor,
    table: CrossSectionTable,
    test: Judged,
    threshold: float,
    *,
    seed: int,
    temperature: float = 1.0,
    bias: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Everything about a network beyond ``test``, its judged test spectra, which set the sizes:

    half as many single-element spectra, a tenth for every bin of dose and jump ratio. No seed
    from ``seed`` to ``seed + 400`` may have been trained on.
    """
    count = len(test.probability)
    probability, truth = test.decisions()
    singles = judge(
        predictor, table, single_elements(Recipe()), seed + _SINGLES, max(1, count // 2)
    )
    say(f"{len(singles.probability)} spectra of single elements judged")
    each = max(1, count // 10)
    dose = by_condition(predictor, table, "counts_per_ev", threshold, seed=seed + _DOSE, count=each)
    jump_ratio = by_condition(
        predictor, table, "jump_ratio", threshold, seed=seed + _JUMP_RATIO, count=each
    )
    say(f"{each} spectra for each of {len(dose)} doses and {len(jump_ratio)} jump ratios judged")
    few = min(GARBAGE_SPECTRA, count)
    spoiled = SpectrumSimulator(table, Recipe(), seed + _SPOILED).batch(few)
    rubbish = garbage(few, seed + _SPOILED, spoiled)
    before, _ = test.without_calibration(temperature, bias).decisions()
    return Report(
        threshold,
        seed,
        test,
        singles,
        reliability(probability, truth, bins=100),
        _contested(probability, truth),
        reliability(probability, truth, at_least=threshold)
        if (probability >= threshold).any()
        else None,
        temperature,
        bias,
        _contested(before, truth),
        float((test.unlike >= UNLIKE_THRESHOLD).mean()),
        element_scores(test, threshold),
        confusions(singles, threshold),
        dose,
        jump_ratio,
        score_garbage(predictor, rubbish, threshold),
    )


def _contested(probability: NDArray[np.float64], truth: NDArray[np.bool_]) -> Reliability:
    least = min(CONTESTED, float(probability.max()))
    return reliability(probability, truth, bins=30, at_least=least)
