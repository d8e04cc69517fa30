from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.evaluation.metrics import balanced_threshold, scores

TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
PROBABILITY = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.6, 0.9, 0.1], [0.9, 0.1, 0.1]])


def test_scores_of_a_worked_example() -> None:
    result = scores(PROBABILITY, TRUTH, 0.5)
    # Label 0: 3 true, 4 claimed, 3 hits; label 1: 2 true, 1 claimed, 1 hit; label 2: never true.
    f1 = [2 * 0.75 * 1 / 1.75, 2 * 1 * 0.5 / 1.5]
    assert result.precision == pytest.approx((3 * 0.75 + 2 * 1.0) / 5)
    assert result.recall == pytest.approx((3 * 1.0 + 2 * 0.5) / 5)
    assert result.f1 == pytest.approx((3 * f1[0] + 2 * f1[1]) / 5)
    assert result.exact_match == 0.5
    assert result.rmse == pytest.approx(np.sqrt(np.mean((PROBABILITY - TRUTH) ** 2)))


def test_unknown_labels_do_not_count() -> None:
    known = np.ones_like(TRUTH)
    known[1, 1] = known[2, 0] = False
    result = scores(PROBABILITY, TRUTH, 0.5, known)
    assert result.f1 == result.precision == result.recall == result.exact_match == 1.0


def test_the_balanced_threshold_brings_precision_and_recall_together() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((4000, 10)) < 0.2
    probability = np.clip(rng.normal(np.where(truth, 0.6, 0.3), 0.15), 0, 1)
    threshold = balanced_threshold(probability, truth)
    result = scores(probability, truth, threshold)
    assert abs(result.precision - result.recall) < 0.02
    assert 0.4 < threshold < 0.6


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"expected probabilities \(4, 3\)"):
        scores(PROBABILITY[:2], TRUTH, 0.5)
