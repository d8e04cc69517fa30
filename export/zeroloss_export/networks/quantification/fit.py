"""Weighted least squares of counts on prepared columns, element columns not below zero."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from zeroloss_export.networks.quantification.design import SLOTS, Prepared
from zeroloss_export.networks.quantification.nnls import nonnegative, solve, with_unit_diagonal

_FLOOR: Final = 0.02
"""Smallest variance, in units of that of the mean counts."""
_SOUND: Final = 1e-6
_RIDGE: Final = 1e-5


class Fitted(NamedTuple):
    """``amount`` [batch, slot] in units of the columns, ``covariance`` [batch, slot, slot];

    ``deviation`` [batch, slot]; ``chi2`` [batch] reduced, of counts; ``channels`` [batch] that the
    fit could use and ``measured`` [batch] those of them that were; ``level`` [batch] mean counts.
    """

    amount: Tensor
    covariance: Tensor
    deviation: Tensor
    chi2: Tensor
    channels: Tensor
    measured: Tensor
    level: Tensor


def fit(counts: Tensor, prepared: Prepared) -> Fitted:
    """counts [batch, channel].

    A first fit under the nominal weights gives the model whose counts are the variances of the
    second; what one electron counts is the reduced chi^2 of that. Sums of products and what is
    solved are in double: far from the nominal weights the columns are nearly one another's copies.
    """
    columns = prepared.columns
    laws = columns.shape[1] - SLOTS
    row, column = torch.tril_indices(laws + SLOTS, laws + SLOTS)
    exact = columns.double().transpose(1, 2)
    products = exact.index_select(2, row) * exact.index_select(2, column)
    missing = torch.isnan(counts)
    use = torch.where(missing, 0.0, (prepared.weight > 0.0).float())
    seen = torch.where(missing, 0.0, counts)
    number = use.sum(1)
    level = (use * seen).sum(1) / number.clamp(min=1.0)
    unit = level.clamp(min=1e-30)[:, None]
    seen = seen / unit
    weight = use * prepared.weight
    matrix, right = _normal(seen, weight, columns, products)
    first = solve(matrix, right[:, None])[:, 0]
    model = _model(first.float(), columns)
    weight = use / model.clamp(min=_FLOOR)
    matrix, right = _normal(seen, weight, columns, products)
    # What the background explains is taken out; it may be of any sign.
    crossed = solve(matrix[:laws, :laws], torch.cat([matrix[:laws, laws:], right[:laws, None]], 1))
    schur = matrix[laws:, laws:] - (matrix[laws:, :laws, None] * crossed[None, :, :-1]).sum(1)
    left = right[laws:] - (matrix[laws:, :laws] * crossed[None, :, -1]).sum(1)
    eye = torch.eye(SLOTS, dtype=torch.float64)[:, :, None]
    root = (schur * eye).sum(1).clamp(min=_SOUND).sqrt()
    # Rounding must not take its definiteness from a matrix of nearly equal columns.
    scaled = schur / (root[:, None] * root[None]) * (1.0 - eye)
    solution = nonnegative(scaled + (1.0 + _RIDGE) * eye, left / root)
    amount = solution.value / root
    law = crossed[:, -1] - (crossed[:, :-1] * amount[None]).sum(1)
    residual = seen - _model(torch.cat([law, amount]).float(), columns)
    freedom = number - laws - solution.passive.float().sum(0)
    gain = (weight * residual.square()).sum(1) / freedom.clamp(min=1.0)
    covariance = (solution.inverse / (root[:, None] * root[None])).float() * gain
    amount = amount.float()
    structure = (amount.transpose(0, 1).square()[:, None] @ prepared.structure)[:, 0]
    structure = structure.transpose(0, 1).reshape(SLOTS, SLOTS, -1)
    passive = solution.passive.float()
    both = passive[:, None] * passive[None]
    covariance = covariance + structure * both
    own = (structure * eye.float()).sum(1)
    deviation = (gain * (solution.variance / root.square()).float() + own).sqrt()
    allowed = (prepared.weight > 0.0).float().sum(1)
    return Fitted(
        amount.transpose(0, 1) * unit,
        covariance.permute(2, 0, 1) * unit[:, :, None].square(),
        deviation.transpose(0, 1) * unit,
        gain * unit[:, 0],
        allowed,
        number,
        level,
    )


def _normal(
    counts: Tensor, weight: Tensor, columns: Tensor, products: Tensor
) -> tuple[Tensor, Tensor]:
    """Normal matrix [column, column, batch] and right side [column, batch], in double."""
    # One product of matrices where all spectra share the columns, not one for each of them.
    heavy, size = weight.double(), columns.shape[1]
    packed = (_shared(heavy, columns) @ products).reshape(-1, products.shape[2]).transpose(0, 1)
    number = torch.arange(size)
    high, low = torch.maximum(number[:, None], number), torch.minimum(number[:, None], number)
    place = (high * (high + 1) // 2 + low).flatten()
    matrix = packed[place].reshape(size, size, -1)
    moments = _shared(heavy * counts.double(), columns) @ columns.double().transpose(1, 2)
    return with_unit_diagonal(matrix), moments.reshape(-1, size).transpose(0, 1)


def _model(answer: Tensor, columns: Tensor) -> Tensor:
    """Counts [batch, channel] of an answer [column, batch]."""
    model = _shared(answer.transpose(0, 1), columns) @ columns
    return model.reshape(-1, columns.shape[2])


def _shared(values: Tensor, columns: Tensor) -> Tensor:
    """``values`` [batch, n] as [rows of the columns, batch of each, n]."""
    return values.reshape(columns.shape[0], -1, values.shape[1])
