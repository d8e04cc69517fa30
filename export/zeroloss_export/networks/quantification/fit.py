"""Weighted least squares of counts on prepared columns, no amount below zero."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from zeroloss_export.networks.quantification.bins import into_bins
from zeroloss_export.networks.quantification.design import SLOTS, USUAL, Prepared
from zeroloss_export.networks.quantification.nnls import nonnegative

_FLOOR: Final = 0.02
"""Smallest variance, in units of that of the mean counts."""
_MEASURED: Final = 0.5
"""Share of a bin that must have been measured."""
_EDGE: Final = 0.5
"""Share of the square of an element's column that must have been measured."""
_NOTHING: Final = 1e-30


class Fitted(NamedTuple):
    """``amount`` [batch, slot] in units of the columns, ``covariance`` [batch, slot, slot];

    ``deviation`` [batch, slot]; ``chi2`` [batch] reduced, of counts; ``channels`` [batch] that the
    fit could use and ``measured`` [batch] those of them that were; ``level`` [batch] mean counts;
    ``seen`` [batch, slot] whether the edge of an element was measured, 1 or 0.
    """

    amount: Tensor
    covariance: Tensor
    deviation: Tensor
    chi2: Tensor
    channels: Tensor
    measured: Tensor
    level: Tensor
    seen: Tensor


def fit(counts: Tensor, prepared: Prepared) -> Fitted:
    """counts [batch, channel].

    A first fit under the nominal weights gives the model whose counts are the variances of the
    second; what one electron counts is the reduced chi^2 of that. Sums of products and what is
    solved are in double: the laws of the background are nearly one another's copies.
    """
    laws = prepared.columns.shape[1] - SLOTS
    first = (*USUAL, *range(laws, laws + SLOTS))
    nominal = torch.where(torch.isnan(counts), 0.0, prepared.nominal)
    part = into_bins(nominal)
    share = part / prepared.full.clamp(min=_NOTHING)
    share = torch.where(share >= _MEASURED, share, 0.0)
    size = prepared.size * share
    seen = into_bins(torch.where(nominal > 0.0, counts, 0.0))
    seen = torch.where(share > 0.0, seen, 0.0)
    channels = size.sum(1)
    level = seen.sum(1) / channels.clamp(min=1.0)
    unit = level.clamp(min=_NOTHING)
    # Counts of a whole bin, from those of its channels that were measured.
    seen = (seen / (unit[:, None] * torch.where(share > 0.0, share, 1.0))).double()
    use = share.double()
    tableau, square = _tableau(seen, use / prepared.full.clamp(min=_NOTHING), prepared)
    start = nonnegative(tableau, first, rounds=0).value / _length(square)
    # Under these weights the columns have a length of 1, where all of it was measured.
    edges = (square[laws:] >= _EDGE).float()
    model = _shared(start.transpose(0, 1), prepared.columns) @ prepared.columns
    model = model.reshape(-1, seen.shape[1])
    tableau, square = _tableau(
        seen, use / torch.maximum(model, _FLOOR * size.clamp(min=1.0)), prepared
    )
    solution = nonnegative(tableau, first)
    there = (square > 0.0).double()
    freedom = (use > 0.0).double().sum(1) - (solution.passive * there).sum(0)
    gain = (solution.rest / freedom.clamp(min=1.0)).clamp(min=0.0)
    length = _length(square[laws:])
    amount = (solution.value[laws:] / length).float()
    covariance = gain * solution.inverse[laws:, laws:] / (length[:, None] * length[None])
    structure = (amount.transpose(0, 1).square()[:, None] @ prepared.structure)[:, 0]
    structure = structure.transpose(0, 1).reshape(SLOTS, SLOTS, -1)
    structure = structure + prepared.misfit.transpose(0, 1).reshape(SLOTS, SLOTS, -1)
    passive = solution.passive[laws:].float()
    covariance = covariance.float() + structure * (passive[:, None] * passive[None])
    own = (structure * torch.eye(SLOTS)[:, :, None]).sum(1)
    counting = (gain * solution.variance[laws:] / length.square()).float()
    unit = unit[:, None]
    return Fitted(
        amount.transpose(0, 1) * unit,
        covariance.permute(2, 0, 1) * unit[:, :, None].square(),
        (counting + own).sqrt().transpose(0, 1) * unit,
        gain.float() * unit[:, 0],
        prepared.size.sum(1),
        channels,
        level,
        edges.transpose(0, 1),
    )


def _tableau(seen: Tensor, weight: Tensor, prepared: Prepared) -> tuple[Tensor, Tensor]:
    """What ``nonnegative`` takes, and the squares [column, batch] of the columns' lengths."""
    # One product of matrices where all spectra share the columns, not one for each of them.
    columns, count = prepared.columns, prepared.columns.shape[1]
    heavy = weight.double()
    pairs = prepared.products
    packed = (_shared(heavy, columns) @ pairs.transpose(1, 2)).reshape(-1, pairs.shape[1])
    number = torch.arange(count)
    high, low = torch.maximum(number[:, None], number), torch.minimum(number[:, None], number)
    place = (high * (high + 1) // 2 + low).flatten()
    matrix = packed.transpose(0, 1)[place].reshape(count, count, -1)
    moments = _shared(heavy * seen, columns) @ columns.transpose(1, 2)
    right = moments.reshape(-1, count).transpose(0, 1)
    square = packed.transpose(0, 1)[number * (number + 3) // 2]
    length = _length(square)
    matrix, right = matrix / (length[:, None] * length[None]), right / length
    # Of an element without an edge the column is empty.
    empty = (square <= 0.0).double()
    matrix = matrix + torch.eye(count)[:, :, None] * empty[:, None]
    corner = (heavy * seen.square()).sum(1)[None, None]
    top = torch.cat([matrix, right[:, None]], 1)
    return torch.cat([top, torch.cat([right[None], corner], 1)]), square


def _length(square: Tensor) -> Tensor:
    return torch.where(square > 0.0, square.sqrt(), 1.0)


def _shared(values: Tensor, columns: Tensor) -> Tensor:
    """``values`` [batch, n] as [rows of the columns, batch of each, n]."""
    return values.reshape(columns.shape[0], -1, values.shape[1])
