"""Scores of element identification as Annys et al. (Sci Rep 13, 13724, 2023) define them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Scores:
    """Weighted by how often each element occurs; ``exact_match`` is the share of spectra whose

    set of elements is right; ``rmse`` is over all probabilities.
    """

    f1: float
    precision: float
    recall: float
    exact_match: float
    rmse: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def scores(
    probability: FloatArray,
    truth: BoolArray,
    threshold: float,
    known: BoolArray | None = None,
) -> Scores:
    """Score probabilities [spectrum, label] against the truth; unknown labels do not count."""
    if probability.shape != truth.shape:
        raise ValueError(f"expected probabilities {truth.shape}, got {probability.shape}")
    counted = np.ones_like(truth) if known is None else known
    claimed = (probability >= threshold) & counted
    true = truth & counted
    hits = (claimed & true).sum(0)
    support = true.sum(0)
    precision = hits / np.maximum(claimed.sum(0), 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    weight = support / max(int(support.sum()), 1)
    error = np.where(counted, probability - truth, 0.0)
    return Scores(
        f1=float(weight @ f1),
        precision=float(weight @ precision),
        recall=float(weight @ recall),
        exact_match=float((claimed == true).all(1).mean()),
        rmse=float(np.sqrt(np.mean(error**2))),
    )


def balanced_threshold(
    probability: FloatArray, truth: BoolArray, known: BoolArray | None = None
) -> float:
    """Threshold at which weighted precision and recall are closest (ties: the higher F1)."""

    def imbalance(threshold: float) -> tuple[float, float]:
        result = scores(probability, truth, threshold, known)
        return round(abs(result.precision - result.recall), 3), -result.f1

    return float(min(np.linspace(0.02, 0.98, 97), key=imbalance))
