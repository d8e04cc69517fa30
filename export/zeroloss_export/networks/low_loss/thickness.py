"""Thickness in inelastic mean free paths by the log-ratio method.

t/λ = ln(I_total / I_zero), I_total all counts and I_zero those of the zero-loss peak (T. Malis,
S. C. Cheng and R. F. Egerton, J. Electron Microsc. Tech. 8, 193 (1988); R. F. Egerton, Rep. Prog.
Phys. 72, 016502 (2009), sec. 5). What lies beyond the measured range belongs to I_total.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zeroloss_export.networks.low_loss.faults import first_reason, or_else
from zeroloss_export.networks.low_loss.peak import Peak, channels, or_nothing
from zeroloss_export.networks.low_loss.table import Noise

SHORTEST_EV: Final = 40.0
"""Range above the zero-loss peak from which a thickness is given: it holds the plasmons."""
THINNEST: Final = 0.02
"""t/λ below which a spectrum counts as one of the vacuum."""
THICKEST: Final = 4.0
"""t/λ above which nearly nothing is left of the zero-loss peak."""
_FITTED: Final = 0.1
_EXPONENT: Final = (1.0, 6.0)
_LIMIT_EV: Final = 500.0


def thickness_reason(
    code: Tensor, thickness: Tensor, vacuum: Tensor, reach_ev: Tensor, codes: int
) -> Tensor:
    """Why there is no thickness [batch]: the ``code`` so far, then ``codes`` and what follows."""
    why = [vacuum, thickness > THICKEST, reach_ev < SHORTEST_EV]
    return or_else(code, first_reason(why, codes))


def total_counts(counts: Tensor, peak: Peak, scale_ev: Tensor) -> Tensor:
    """All counts [batch], with those beyond the end of the range."""
    return or_nothing(counts).sum(1) + counts_beyond(counts, peak, scale_ev)


def counts_beyond(counts: Tensor, peak: Peak, scale_ev: Tensor) -> Tensor:
    """Counts between the end of the range and 500 eV [batch], extrapolated.

    The power law A E^-r through the last tenth of the channels, 1 <= r <= 6, as users of
    DigitalMicrograph expect it. Where multiple scattering flattens the end of the range, r is held
    at 1, and t/λ comes out too large: about 1.4 becomes 1.7 with a range that ends at 48 eV.
    """
    channel = channels(counts)
    last = channel[:, -1:]
    energy = (channel - peak.place[:, None]) * scale_ev[:, None]
    used = (channel >= (1.0 - _FITTED) * (last + 1.0)) & ~torch.isnan(counts) & (energy > 0.0)
    weight = used.float()
    number = weight.sum(1).clamp(min=1.0)
    held = or_nothing(counts)
    # A straight line in ln E: over so short a span that is the power law, and unbiased at few
    # counts, of which there is no logarithm.
    log = torch.where(used, energy.clamp(min=1e-6).log(), 0.0)
    middle = log.sum(1) / number
    x = (log - middle[:, None]) * weight
    level = (held * weight).sum(1) / number
    slope = -(held * x).sum(1) / x.square().sum(1).clamp(min=1e-12)
    level_there = level > 0.0
    safe = torch.where(level_there, level, 1.0)
    exponent = (slope / safe).clamp(*_EXPONENT)
    end = (last[:, 0] + 0.5 - peak.place) * scale_ev
    end = end.clamp(min=1e-3)
    at_end = level - exponent * level * (end.log() - middle)
    span = (_LIMIT_EV / end).log().clamp(min=0.0)
    falls = (exponent - 1.0) * span
    small = falls < 0.02
    series = 1.0 - 0.5 * falls + falls.square() / 6.0
    exact = (1.0 - (-falls).exp()) / torch.where(small, 1.0, falls)
    beyond = at_end * end * span * torch.where(small, series, exact) / scale_ev
    return torch.where(level_there, beyond, 0.0).clamp(min=0.0)


def counts_below(counts: Tensor, place: Tensor) -> Tensor:
    """Counts of the channels up to the (fractional) channel ``place`` [batch], soft at its end."""
    share = (place[:, None] - channels(counts) + 0.5).clamp(0.0, 1.0)
    return (share * or_nothing(counts)).sum(1)


def log_ratio(total: Tensor, zero_loss: Tensor) -> Tensor:
    """ln(I_total / I_zero), at least 0; the tensors fit each other."""
    ratio = total.clamp(min=1e-6) / zero_loss.clamp(min=1e-6)
    return ratio.clamp(min=1.0).log()


def counting_variance(total: Tensor, zero_loss: Tensor, noise: Noise) -> Tensor:
    """Variance of t/λ from counting alone: zero-loss and other counts are independent."""
    zero = zero_loss.clamp(min=1.0)
    whole = torch.maximum(total, zero)
    of_zero = noise.gain * zero * (1.0 / zero - 1.0 / whole).square()
    of_rest = noise.gain * (whole - zero) / whole.square()
    return noise.pooling * (of_zero + of_rest)


def range_above(counts: Tensor, peak: Peak, scale_ev: Tensor) -> Tensor:
    """How far the spectrum reaches above its zero-loss peak [batch], eV."""
    return (channels(counts)[:, -1] - peak.place) * scale_ev
