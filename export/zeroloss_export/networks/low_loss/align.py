"""A spectrum on the grid of the zero-loss table, its zero-loss maximum at 0 eV."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.peak import channels, or_nothing

_UP: Final = 1.0 - 2.0**-12
"""To be added before the fraction is cut off: up to so little less than a channel."""


def align(
    counts: Tensor, place: Tensor, scale_ev: Tensor, first_ev: float, step_ev: float, points: int
) -> Tensor:
    """Counts per ``step_ev`` at ``first_ev + k * step_ev`` from the peak, [batch, points].

    ``counts`` [batch, channel]; ``place`` [batch] is the channel, with its fraction, of the
    zero-loss maximum; ``scale_ev`` [batch]. Interpolated linearly between two channels; NaN beyond
    the measured range and beside channels that were not measured.
    """
    energy = first_ev + step_ev * torch.arange(points, dtype=torch.float64)
    wanted = (place + 1.0)[:, None] + energy.float() * scale_ev.reciprocal()[:, None]
    # One channel in front and two behind that were not measured: what is beyond the range falls on
    # them and needs no look of its own. So channel k is held at k + 1.
    held = nn.functional.pad(counts, (1, 2), value=math.nan)
    inside = wanted.clamp(0.0, counts.shape[1] + 1.0)
    index = inside.int()
    before = held.gather(1, index)
    # On a channel it is that one itself: the one behind need not be there.
    after = held.gather(1, (inside + _UP).int())
    # Not torch.lerp: exported, it costs twice as much.
    value = before + (inside - index.float()) * (after - before)
    return value * (step_ev / scale_ev)[:, None]


def rebin(
    counts: Tensor, place: Tensor, scale_ev: Tensor, first_ev: float, step_ev: float, points: int
) -> Tensor:
    """Counts within bins of ``step_ev`` around ``first_ev + k * step_ev``, [batch, points].

    Arguments as of ``align``, any dispersion: counts are preserved, each taken as spread evenly
    over its channel. NaN where any of a bin was not measured.
    """
    edges = first_ev + step_ev * (torch.arange(points + 1, dtype=torch.float64) - 0.5)
    wanted = place.double()[:, None] + edges[None] / scale_ev.double()[:, None] + 0.5
    number = channels(counts)[:, -1:].double() + 1.0
    held = torch.minimum(wanted.clamp(min=0.0), number)
    low = torch.minimum(held.floor(), number - 1.0)
    index = low.long()

    def between(values: Tensor) -> Tensor:
        total = torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(1)], 1)
        at = torch.lerp(total.gather(1, index), total.gather(1, index + 1), held - low)
        return at[:, 1:] - at[:, :-1]

    missing = torch.isnan(counts)
    value = between(or_nothing(counts).double()).float()
    whole = (wanted[:, :-1] >= 0.0) & (wanted[:, 1:] <= number)
    whole = whole & (between(missing.double()) < 1e-9)
    return torch.where(whole, value, torch.nan)
