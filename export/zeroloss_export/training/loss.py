"""Loss of multi-label identification."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

_ERROR_WEIGHT: Final = 0.5


def identification_loss(
    logits: Tensor,
    present: Tensor,
    known: Tensor,
    soft_f1_weight: float,
    taught: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy over known labels plus macro soft F1 of the batch.

    All of shape [batch, label]. Soft F1: 1 - 2 TP / (2 TP + FP + FN) with probabilities in place
    of decisions, averaged over the labels that occur in the batch. ``taught`` replaces the truth
    in the cross-entropy: the truth mixed with a teacher's probabilities (G. Hinton, O. Vinyals and
    J. Dean, Distilling the Knowledge in a Neural Network, 2015).
    """
    target = present if taught is None else taught
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (entropy * known).sum() / known.sum()
    if soft_f1_weight:
        probability = torch.sigmoid(logits) * known
        hits = (probability * present).sum(0)
        total = probability.sum(0) + (present * known).sum(0)
        occurs = present.sum(0) > 0
        f1 = 2 * hits / total.clamp(min=1e-6)
        loss = loss + soft_f1_weight * (1 - f1[occurs].mean())
    return loss


def axis_loss(answers: Tensor, unlike: Tensor, axis_error: Tensor) -> Tensor:
    """Loss of a check of the axis, whose answers are [batch, 3] (`AxisCheck`).

    Binary cross-entropy of ``unlike`` [batch], and of all others the absolute departure from
    ``axis_error`` [batch, 2], quadratic below a quarter of its unit: its smallest mean is at the
    median, which stays at no error where nothing tells one.
    """
    entropy = functional.binary_cross_entropy_with_logits(answers[:, 2], unlike)
    departure = functional.smooth_l1_loss(
        answers[:, :2], axis_error, reduction="none", beta=0.25
    ).mean(1)
    return entropy + _ERROR_WEIGHT * (departure * (1 - unlike)).mean()
