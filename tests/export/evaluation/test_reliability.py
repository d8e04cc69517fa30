from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.evaluation.reliability import reliability


def test_probabilities_that_come_true_have_no_error() -> None:
    rng = np.random.default_rng(1)
    probability = rng.random(200_000)
    curve = reliability(probability, rng.random(200_000) < probability)
    assert curve.expected_error < 0.006
    assert curve.claimed == pytest.approx(curve.found, abs=0.02)


def test_the_error_of_a_worked_example() -> None:
    probability = np.array([0.8] * 10 + [0.1] * 10)
    truth = np.array([True] * 6 + [False] * 4 + [True] * 2 + [False] * 8)
    curve = reliability(probability, truth, bins=2)
    # 0.8 claimed, 0.6 found; 0.1 claimed, 0.2 found; ten decisions each.
    assert curve.claimed == pytest.approx([0.1, 0.8])
    assert curve.found == pytest.approx([0.2, 0.6])
    assert curve.expected_error == pytest.approx((10 * 0.1 + 10 * 0.2) / 20)
    assert curve.largest_error == pytest.approx(0.2)


def test_bins_hold_equally_many_decisions() -> None:
    probability = np.random.default_rng(2).random(1003) ** 8
    curve = reliability(probability, probability > 0.5, bins=10)
    assert curve.decisions.sum() == 1003
    assert curve.decisions.max() - curve.decisions.min() <= 1
    assert (np.diff(curve.claimed) > 0).all()


def test_decisions_are_chosen_by_their_probability() -> None:
    probability = np.array([0.001, 0.3, 0.9])
    curve = reliability(probability, np.array([True, False, True]), at_least=0.3)
    assert curve.decisions.sum() == 2
    assert len(curve.claimed) == 2


def test_what_cannot_be_judged_is_said() -> None:
    truth = np.array([True, False])
    with pytest.raises(ValueError, match="finite"):
        reliability(np.array([0.5, np.nan]), truth)
    with pytest.raises(ValueError, match=r"0\.9 or more"):
        reliability(np.array([0.5, 0.1]), truth, at_least=0.9)
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        reliability(np.array([0.5]), truth)
