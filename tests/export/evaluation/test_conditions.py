from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroloss_export.evaluation.conditions import BOUNDS, by_condition, micro_scores
from zeroloss_export.evaluation.judged import Judged, judge, single_elements
from zeroloss_export.evaluation.measured import Answers
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe

NO_DOUBT = np.zeros((2, 1), np.float32)


class Watcher:
    """A predictor that claims nothing and keeps the dose of each batch that it was shown."""

    def __init__(self) -> None:
        self.dose_per_ev: list[Tensor] = []

    def __call__(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Answers:
        middle = (torch.isfinite(counts).sum(1, keepdim=True) // 2).clamp(max=counts.shape[1] - 1)
        self.dose_per_ev.append(counts.gather(1, middle)[:, 0] / scale_ev)
        nothing = torch.zeros(len(counts), len(ELEMENTS))
        return nothing, nothing, nothing[:, :1]


def test_every_bin_is_simulated_with_its_own_dose(table: CrossSectionTable) -> None:
    watcher = Watcher()
    rows = by_condition(watcher, table, "counts_per_ev", 0.5, seed=5, count=48)
    assert [(row.low, row.high) for row in rows] == list(
        zip(BOUNDS["counts_per_ev"][:-1], BOUNDS["counts_per_ev"][1:], strict=True)
    )
    # Some spectra are in arbitrary units; the median is not one of them.
    for row, dose in zip(rows, watcher.dose_per_ev, strict=True):
        assert 0.3 * row.low < dose.nanmedian() < 3 * row.high
    assert all(row.recall == 0 for row in rows)
    assert rows[0].uncounted > rows[-1].uncounted


def test_micro_scores_of_a_worked_example() -> None:
    probability = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, 0.9]], np.float32)
    present = np.array([[True, False, True], [False, True, False]])
    known = np.array([[True, True, True], [True, True, False]])
    precision, recall, f1 = micro_scores(Judged(probability, present, known, NO_DOUBT), 0.5)
    assert precision == pytest.approx(2 / 3)
    assert recall == pytest.approx(2 / 3)
    assert f1 == pytest.approx(2 / 3)
    nothing = np.zeros((1, 3), bool)
    empty = Judged(np.zeros((1, 3), np.float32), nothing, ~nothing, NO_DOUBT[:1])
    assert all(np.isnan(value) for value in micro_scores(empty, 0.5))


def test_the_same_seed_gives_the_same_truth(table: CrossSectionTable) -> None:
    first, second = (judge(Watcher(), table, Recipe(), 3, 40) for _ in range(2))
    assert np.array_equal(first.present, second.present)
    assert np.array_equal(first.known, second.known)
    other = judge(Watcher(), table, Recipe(), 4, 40)
    assert not np.array_equal(first.present, other.present)
    probability, truth = first.decisions()
    assert len(probability) == len(truth) == first.known.sum()


def test_single_elements_come_alone(table: CrossSectionTable) -> None:
    judged = judge(Watcher(), table, single_elements(Recipe()), 3, 300)
    assert judged.present.shape == (300, len(ELEMENTS))
    assert judged.present.sum(1).max() == 1
    assert judged.present.any(0).sum() > 40
