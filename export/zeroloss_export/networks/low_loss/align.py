"""A spectrum on the grid of the zero-loss table, its zero-loss maximum at 0 eV."""

from __future__ import annotations

import torch
from torch import Tensor


def align(
    counts: Tensor, place: Tensor, scale_ev: Tensor, first_ev: float, step_ev: float, points: int
) -> Tensor:
    """Counts per ``step_ev`` at ``first_ev + k * step_ev`` from the peak, [batch, points].

    ``counts`` [batch, channel]; ``place`` [batch] is the channel, with its fraction, of the
    zero-loss maximum; ``scale_ev`` [batch]. Interpolated linearly between two channels; NaN beyond
    the measured range and beside channels that were not measured.
    """
    energy = first_ev + step_ev * torch.arange(points, dtype=torch.float64)
    wanted = place[:, None] + energy.float()[None] / scale_ev[:, None]
    last = torch.ones_like(counts[:1]).sum(1, keepdim=True) - 1.0
    inside = (wanted >= 0.0) & (wanted <= last)
    low = torch.minimum(wanted.clamp(min=0.0).floor(), last - 1.0)
    index = low.long()
    before = counts.gather(1, index)
    # Not torch.lerp: exported, it costs twice as much.
    value = before + (wanted - low) * (counts.gather(1, index + 1) - before)
    value = value * (step_ev / scale_ev)[:, None]
    return torch.where(inside, value, torch.full_like(value, torch.nan))


def rebin(
    counts: Tensor, place: Tensor, scale_ev: Tensor, first_ev: float, step_ev: float, points: int
) -> Tensor:
    """Counts within bins of ``step_ev`` around ``first_ev + k * step_ev``, [batch, points].

    Arguments as of ``align``, any dispersion: counts are preserved, each taken as spread evenly
    over its channel. NaN where any of a bin was not measured.
    """
    edges = first_ev + step_ev * (torch.arange(points + 1, dtype=torch.float64) - 0.5)
    wanted = place.double()[:, None] + edges[None] / scale_ev.double()[:, None] + 0.5
    number = torch.ones_like(counts[:1]).double().sum(1, keepdim=True)
    held = torch.minimum(wanted.clamp(min=0.0), number)
    low = torch.minimum(held.floor(), number - 1.0)
    index = low.long()

    def between(values: Tensor) -> Tensor:
        total = torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(1)], 1)
        at = torch.lerp(total.gather(1, index), total.gather(1, index + 1), held - low)
        return at[:, 1:] - at[:, :-1]

    missing = torch.isnan(counts)
    value = between(torch.nan_to_num(counts, nan=0.0).double()).float()
    whole = (wanted[:, :-1] >= 0.0) & (wanted[:, 1:] <= number)
    whole &= between(missing.double()) < 1e-9
    return torch.where(whole, value, torch.full_like(value, torch.nan))
