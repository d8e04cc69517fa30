"""What is no core-loss spectrum at all: gates on the raw counts, inside the exported graph."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

LEAST_CHANNELS: Final = 12
"""Measured channels inside the window; the simulation has never fewer."""
LEAST_EV: Final = 25.0
"""Measured energy inside the window, as a run's range must overlap it."""
LARGEST_PLATEAU: Final = 0.75
"""Share of channels at the largest count: saturated or clipped, or nearly always zero."""
SMALLEST_SPREAD: Final = 1e-5
"""Standard deviation over the largest count; anything below is constant but for rounding."""
FIRST_LAG: Final = 3
LAST_LAG: Final = 10
"""Channels; a detector's blur correlates noise at smaller lags."""
_CLIPS: Final = 2
_CLIP: Final = 3.0
"""Times, and standard deviations, that spikes are cut at: one of them outweighs all the rest."""
LEAST_CORRELATION: Final = 5.0
"""Mean autocorrelation in units of its standard deviation for white noise."""


class SpectrumGates(nn.Module):
    """counts [batch, channel] and their axis to [batch]: true where nothing may be claimed.

    That is where, inside ``window_ev``, fewer than `LEAST_CHANNELS` or `LEAST_EV` are measured, the
    counts are constant, more than `LARGEST_PLATEAU` of the channels stand at the largest count, or
    the mean autocorrelation at lags of 3 to 10 channels is less than 5 standard deviations of that
    of white noise, 1 / sqrt(pairs) (G. Box, G. Jenkins, Time Series Analysis, 1970, for the
    variance of a sample autocorrelation). NaN channels are not measured.
    """

    def __init__(self, window_ev: tuple[float, float]) -> None:
        super().__init__()
        self.window_ev = window_ev

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Tensor:
        channel = torch.ones_like(counts).cumsum(1) - 1
        energy = offset_ev[:, None] + scale_ev[:, None] * channel
        low, high = self.window_ev
        there = ~torch.isnan(counts) & (energy >= low) & (energy <= high)
        measured = there.float()
        held = torch.where(there, counts, torch.zeros_like(counts))
        channels = measured.sum(1)
        too_little = (channels < LEAST_CHANNELS) | (channels * scale_ev < LEAST_EV)
        largest = held.abs().amax(1, keepdim=True)
        held = held / torch.where(largest > 0, largest, torch.ones_like(largest))
        # What is zero where nothing is measured must not count as the largest of all zeros.
        on_top = ((held >= held.amax(1, keepdim=True)).float() * measured).sum(1)
        plateau = on_top > LARGEST_PLATEAU * channels
        rest = _centred(held, measured)
        variance = (rest * rest).sum(1) / channels.clamp(min=1.0)
        constant = variance <= SMALLEST_SPREAD**2
        for _ in range(_CLIPS):
            limit = _CLIP * ((rest * rest).sum(1) / channels.clamp(min=1.0)).sqrt()[:, None]
            rest = _centred(torch.minimum(torch.maximum(rest, -limit), limit), measured)
        variance = (rest * rest).sum(1) / channels.clamp(min=1.0)
        correlation, pairs = _lagged_products(rest, measured)
        white = correlation < LEAST_CORRELATION * variance * pairs.sqrt()
        return too_little | plateau | constant | white


def _centred(value: Tensor, measured: Tensor) -> Tensor:
    """Minus the mean over the measured channels, zero elsewhere."""
    mean = (value * measured).sum(1, keepdim=True) / measured.sum(1, keepdim=True).clamp(min=1.0)
    return (value - mean) * measured


def _lagged_products(rest: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of products over all pairs of channels at the lags, and their number, each [batch]."""
    after = _sum_of_later(torch.stack([rest, measured]), rest.shape[1])
    return (rest * after[0]).sum(1), (measured * after[1]).sum(1)


def _sum_of_later(value: Tensor, channels: int) -> Tensor:
    """For every channel the sum over those `FIRST_LAG` to `LAST_LAG` behind it."""
    total = nn.functional.pad(value, (1, LAST_LAG)).cumsum(2)
    return total[:, :, LAST_LAG + 1 :] - total[:, :, FIRST_LAG : FIRST_LAG + channels]
