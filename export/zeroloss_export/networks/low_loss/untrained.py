"""Zero-loss peaks without training: the left flank mirrored, or a power law on the right one."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from zeroloss_export.networks.low_loss.peak import Peak, channels, or_nothing, smoothed

_FOOT: Final = 0.05
"""Share of the height at which the core ends and the tail begins."""
_FARTHEST: Final = 6.0
"""Full widths within which a flank comes down to its foot."""
_POWER_WINDOW: Final = 2.0
"""The power law is fitted from the foot of the right flank to so many times its energy."""
_EXPONENT: Final = (1.0, 10.0)


class Feet(NamedTuple):
    """Channels [batch] where the flanks have come down to 5 % of the maximum, and if they do."""

    left: Tensor
    right: Tensor
    there: Tensor


def feet(counts: Tensor, peak: Peak) -> Feet:
    """The feet of a zero-loss peak, interpolated linearly; ``counts`` [batch, channel]."""
    smooth, channel = smoothed(counts), channels(counts)
    last = channel[:, -1:]
    place, level = peak.place[:, None], _FOOT * peak.height[:, None]
    below = smooth < level
    right = torch.where(below & (channel > place), channel, last + 1.0).amin(1, keepdim=True)
    left = torch.where(below & (channel < place), channel, -1.0)
    left = left.amax(1, keepdim=True)
    farthest = _FARTHEST * peak.width[:, None].clamp(min=1.0)
    there = (left >= 0.0) & (right <= last)
    there = there & ((right - place <= farthest) & (place - left <= farthest))

    def crossing(outer: Tensor, inner: Tensor) -> Tensor:
        outer, inner = torch.minimum(outer, last).clamp(min=0.0), torch.minimum(inner, last)
        inner = inner.clamp(min=0.0)
        low, high = smooth.gather(1, outer.long()), smooth.gather(1, inner.long())
        rise = torch.where(high > low, high - low, 1.0)
        return (outer + (inner - outer) * ((level - low) / rise).clamp(0.0, 1.0))[:, 0]

    return Feet(crossing(left, left + 1.0), crossing(right, right - 1.0), there[:, 0])


def mirrored_tail(counts: Tensor, peak: Peak) -> tuple[Tensor, Tensor]:
    """Zero-loss peak [batch, channel], and where [batch] there is one.

    The counts themselves up to the right foot; beyond it the left tail mirrored about the middle
    between the feet, so that it continues the peak although its core is not symmetric. Nothing
    where the left tail ends. R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron
    Microscope, 3rd ed. (Springer, 2011), sec. 5.1.
    """
    found = feet(counts, peak)
    channel = channels(counts)
    held = or_nothing(counts)
    mirror = (found.left + found.right)[:, None] - channel
    low = mirror.clamp(min=0.0).floor()
    low = torch.minimum(low, channel[:, -1:] - 1.0).clamp(min=0.0)
    index = low.long()
    before = held.gather(1, index)
    tail = before + (mirror - low) * (held.gather(1, index + 1) - before)
    tail = torch.where(mirror >= 0.0, tail, 0.0)
    return torch.where(channel <= found.right[:, None], held, tail), found.there


def power_law_tail(counts: Tensor, peak: Peak) -> tuple[Tensor, Tensor]:
    """Zero-loss peak [batch, channel], and where [batch] there is one.

    The counts themselves up to the end of the fit; beyond it A E^-r, 1 <= r <= 10, fitted to the
    right flank from its foot to twice the energy of the foot. Wrong wherever the specimen loses
    energy within that window.
    """
    found = feet(counts, peak)
    channel = channels(counts)
    distance = channel - peak.place[:, None]
    foot = (found.right - peak.place).clamp(min=1.0)
    # At least four channels, so that there is a slope.
    end = torch.maximum(_POWER_WINDOW * foot, foot + 3.0)
    held = or_nothing(counts)
    used = (distance >= foot[:, None]) & (distance <= end[:, None]) & (held > 0.0)
    # The relative variance of counts is their inverse.
    weight = torch.where(used, held, 0.0)
    weight = weight / weight.amax(1, keepdim=True).clamp(min=1e-6)
    x = (distance / foot[:, None]).clamp(min=1e-3).log()
    y = torch.where(used, held, 1.0).log()
    total = weight.sum(1, keepdim=True).clamp(min=1e-6)
    mean_x = (weight * x).sum(1, keepdim=True) / total
    mean_y = (weight * y).sum(1, keepdim=True) / total
    spread = (weight * (x - mean_x).square()).sum(1, keepdim=True).clamp(min=1e-6)
    slope = -(weight * (x - mean_x) * (y - mean_y)).sum(1, keepdim=True) / spread
    exponent = slope.clamp(*_EXPONENT)
    tail = (mean_y - exponent * (x - mean_x)).clamp(max=80.0).exp()
    enough = used.float().sum(1) >= 4.0
    return torch.where(distance <= end[:, None], held, tail), found.there & enough
