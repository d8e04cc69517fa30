"""Loss of multi-label identification."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


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
