"""Why a spectrum has no answer: reason codes, 0 where it has one."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.peak import SPARSE, Peak, channels
from zeroloss_export.networks.low_loss.table import ZeroLossTable

MEASURED: Final = (
    "given",
    "no zero-loss peak",
    "saturated",
    "clipped",
    "negative counts",
)
"""What keeps a zero-loss peak from being measured."""
MODELLED: Final = (*MEASURED, "unlike the training", "instrument setting not known")
"""What keeps a trained model from answering."""

_SIGNIFICANT: Final = 6.0
_FEWEST: Final = 25.0
"""Counts of the weakest zero-loss peak, in units of the gain."""
_WIDEST_EV: Final = 3.0
"""Full width of what is no plasmon."""
_CLIPPED: Final = 100.0
"""Counts from which three equal channels are no accident."""
_NEGATIVE: Final = 1e-4
"""Mean of the left tail, in units of the peak's height, below whose negative it matters."""
_MARGIN: Final = 0.15
_LOG_MARGIN: Final = 0.7
_COVERED: Final = 0.25


def peak_fault(counts: Tensor, peak: Peak, gain: float = 1.0) -> Tensor:
    """Code [batch] of MEASURED, float32, of spectra [batch, channel] and what was found in them.

    The noise is estimated from the spectrum itself, outside three full widths around the peak, by
    differences over four channels.
    """
    # Not [:, ::SPARSE]: exported, that copies an input of the graph first.
    some = counts[..., ::SPARSE]
    distance = channels(counts)[:, ::SPARSE] - peak.place[:, None]
    width = peak.width[:, None]
    measured = ~torch.isnan(some)
    smooth = peak.sparse
    outside = (measured & (distance.abs() > 3.0 * width)).float()
    steps = _mean((smooth[:, 1:] - smooth[:, :-1]).abs(), outside[:, 1:] * outside[:, :-1])
    sigma = 0.5 * math.sqrt(math.pi) * steps
    above = peak.height - _mean(smooth, outside)
    wide = (peak.width_ev > _WIDEST_EV) & (peak.width > 4.0)
    lost = wide | peak.edge | (above <= _SIGNIFICANT * sigma) | (peak.counts < _FEWEST * gain)
    lost = lost | (above <= 0.0)
    top = torch.where(peak.away.abs() <= width.clamp(min=3.0), peak.core, 0.0)
    saturated = torch.isnan(top.sum(1))
    # The least of three neighbours; what a saturated peak makes of it does not matter.
    three = torch.minimum(torch.minimum(top[:, 2:], top[:, 1:-1]), top[:, :-2])
    highest = top.amax(1)
    clipped = (three.amax(1) >= highest) & (highest >= _CLIPPED)
    left = outside * (distance < 0.0).float()
    number = SPARSE * left.sum(1)
    mean = _mean(smooth, left)
    # Neighbours are correlated: three channels are as good as one.
    doubt = 2.0 * sigma * (3.0 / number.clamp(min=1.0)).sqrt()
    tail = (mean < -5.0 * doubt) & (mean < -_NEGATIVE * peak.height) & (number >= 8.0)
    share = _mean((some < 0.0).float(), outside)
    negative = tail | ((share > 0.75) & (SPARSE * outside.sum(1) >= 64.0))
    return first_reason([lost & ~saturated, saturated, clipped, negative])


class UnlikeTraining(nn.Module):
    """Whether a spectrum is outside of what the table was trained on, [batch] bool.

    By the width of its peak and its counts, with a margin, or because too little of the grid, or of
    the matching window, was measured.
    """

    def __init__(self, table: ZeroLossTable) -> None:
        super().__init__()
        self.window = table.match
        low, high = table.trained_width_ev
        self.width_ev = (low * (1.0 - _MARGIN), high * (1.0 + _MARGIN))
        low, high = table.trained_log_counts
        self.log_counts = (low - _LOG_MARGIN, high + _LOG_MARGIN)

    def forward(self, aligned: Tensor, peak: Peak) -> Tensor:
        """``aligned`` [batch, grid]."""
        log = peak.counts.clamp(min=1e-6).log()
        other = (peak.width_ev < self.width_ev[0]) | (peak.width_ev > self.width_ev[1])
        other = other | ((log < self.log_counts[0]) | (log > self.log_counts[1]))
        missing = torch.isnan(aligned).float()
        other = other | (missing.sum(1) > (1.0 - _COVERED) * aligned.shape[1])
        return other | (missing[:, self.window].mean(1) > 0.5)


def first_reason(reasons: list[Tensor], first: int = 1) -> Tensor:
    """Code [batch], float32: ``first`` plus the place of the first that is true, else 0."""
    code = torch.where(reasons[-1], float(first + len(reasons) - 1), 0.0)
    for index in reversed(range(len(reasons) - 1)):
        code = torch.where(reasons[index], float(first + index), code)
    return code


def or_else(code: Tensor, then: Tensor) -> Tensor:
    """The code [batch] where it is above 0, else the other one."""
    return torch.where(code > 0.0, code, then)


def spectra_reason(code: Tensor, curves: Tensor, codes: int) -> Tensor:
    """The code [batch], and ``codes`` where it is 0 and ``curves`` [batch, channel] have gaps."""
    return or_else(code, first_reason([torch.isnan(curves).float().sum(1) > 0.0], codes))


def given(values: Tensor, code: Tensor) -> Tensor:
    """The values [batch, ...], NaN where the code [batch] is above 0."""
    return values + nothing(code).reshape(-1, *[1] * (values.dim() - 1))


def all_given(values: dict[str, Tensor], code: Tensor) -> dict[str, Tensor]:
    """``given`` of values by name, each [batch] or [batch, n]."""
    missing = nothing(code)
    return {
        name: value + (missing if value.dim() == 1 else missing[:, None])
        for name, value in values.items()
    }


def nothing(code: Tensor) -> Tensor:
    """To be added to values: 0 where the code [batch] is 0, else NaN."""
    return torch.where(code > 0.0, torch.nan, 0.0)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1.0)
