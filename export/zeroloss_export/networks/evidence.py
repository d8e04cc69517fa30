"""Where each core-loss edge begins in a spectrum and how far it stands above the noise.

All of it runs inside the exported graph, from the raw counts: it owes the networks nothing.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.physics.edges import EdgeGroup, edge_groups

SEARCH_EV: Final = 12.0
"""Largest departure from the tabulated onset: the axis errors and chemical shifts trained on."""
STEP_EV: Final = 0.25
"""Between two energies at which the rise is looked at."""
FIRST_RISE: Final = 0.7
"""The onset is the first maximum of the rise that reaches this share of the highest one."""
_GAP_EV: Final = 2.0
"""Before the onset, left out of the background fit: half a rise."""
_BINS: Final = 12
_LEAST_BEFORE_EV: Final = 8.0
_LEAST_BEHIND_EV: Final = 10.0
_LEAST_COVER: Final = 0.5
_MODEL_ERROR: Final = 0.003
"""Of the background, for structure that a power law does not have (as the labels of training)."""
_LAG: Final = 4
"""Channels between the three of a second difference; blur correlates nearer ones."""
_OUTLIERS: Final = 9.0


def edge_labels() -> tuple[str, ...]:
    """Names of the 107 edges, such as ``Mn L3``: the lowest major subshell of every group."""
    return tuple(f"{group.element} {_first(group)}" for group in edge_groups())


def _first(group: EdgeGroup) -> str:
    majors = [subshell for subshell in group.subshells if subshell.major]
    return min(majors, key=lambda subshell: subshell.onset_ev).name


class EdgeEvidence(nn.Module):
    """counts [batch, channel] and their axis to onset_ev, snr and expected_ev, each [batch, 107].

    ``expected_ev`` is the tabulated onset. ``onset_ev`` is where the counts rise most steeply
    within `SEARCH_EV` of it: the difference between the mean counts per eV of two adjoining windows
    (half a per cent of the energy wide, 2.5 to 10 eV, at least two channels), of several maxima the
    first that reaches `FIRST_RISE` of the highest. ``snr`` is the counts of the edge in 12 to 40 eV
    behind that onset over their standard error. The background is a power law fitted to the
    counts in up to a tenth of the energy before (Egerton, Electron Energy-Loss Spectroscopy in the
    Electron Microscope, 3rd ed., sect. 4.4); its error is that of the fit and 0.3 % for what is no
    power law. The variance of the counts is their number times a gain: the larger of that from the
    scatter of neighbouring channels and that from the scatter about the fit.

    Onset and snr are 0 where the range does not hold the edge with 8 eV before and 10 eV behind it.
    Where there is no edge the onset is that of the largest fluctuation.
    """

    expected: Tensor
    rise: Tensor
    before: Tensor
    behind: Tensor

    def __init__(self) -> None:
        super().__init__()
        onset = torch.tensor([group.onset_ev for group in edge_groups()], dtype=torch.float64)
        self.register_buffer("expected", onset, persistent=False)
        self.register_buffer("rise", (0.005 * onset).clamp(2.5, 10.0), persistent=False)
        self.register_buffer("before", (0.1 * onset).clamp(25.0, 150.0), persistent=False)
        self.register_buffer("behind", (0.03 * onset).clamp(12.0, 40.0), persistent=False)

    def forward(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        spectrum = _Cumulative(counts, offset_ev, scale_ev)
        onset, found = self._onset(spectrum)
        snr, judged = self._snr(spectrum, onset, _gain(counts))
        there = found & judged
        zero = torch.zeros_like(onset)
        expected = self.expected[None] + torch.zeros_like(onset)
        onset, snr = torch.where(there, onset, zero), torch.where(there, snr, zero)
        return onset.float(), snr.float(), expected.float()

    def _onset(self, spectrum: _Cumulative) -> tuple[Tensor, Tensor]:
        """Energy of the steepest rise [batch, 107], and whether there was any to look at."""
        half = round(SEARCH_EV / STEP_EV)
        steps = STEP_EV * torch.arange(-half, half + 1, dtype=torch.float64)
        place = (self.expected[:, None] + steps)[None]
        width = torch.maximum(self.rise[None], 2 * spectrum.scale)[:, :, None]
        lower, _ = spectrum.counts(place - width, place)
        upper, _ = spectrum.counts(place, place + width)
        inside = (place - width >= spectrum.start[:, :, None]) & (
            place + width <= spectrum.end[:, :, None]
        )
        lowest = torch.full_like(lower, -torch.inf)
        slope = torch.where(inside, (upper - lower) / width, lowest)
        highest = slope.amax(2, keepdim=True)
        left, right = slope[:, :, :-2], slope[:, :, 2:]
        middle = slope[:, :, 1:-1]
        # Counted from the smallest slope: a falling background takes as much from all of them.
        least = torch.where(inside, slope, torch.full_like(slope, torch.inf)).amin(2, keepdim=True)
        high = middle - least >= FIRST_RISE * (highest - least)
        peak = (middle >= left) & (middle >= right) & high & inside[:, :, 1:-1]
        # At the border of the search the highest slope is no maximum; it is taken all the same.
        any_peak = peak.any(2)
        index = torch.where(any_peak, peak.float().argmax(2) + 1, slope.argmax(2))
        onset = place.expand(index.shape[0], -1, -1).gather(2, index[:, :, None])[:, :, 0]
        return onset, inside.any(2)

    def _snr(self, spectrum: _Cumulative, onset: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        stop = onset - _GAP_EV
        before = torch.minimum(self.before[None], stop - spectrum.start)
        end = torch.minimum(onset + self.behind[None], spectrum.end)
        enough = (before >= _LEAST_BEFORE_EV) & (end - onset >= _LEAST_BEHIND_EV)
        before = before.clamp(min=_LEAST_BEFORE_EV)
        end = torch.maximum(end, onset + _LEAST_BEHIND_EV)
        share = torch.arange(_BINS, dtype=torch.float64) / _BINS
        low = (stop - before)[:, :, None] + before[:, :, None] * share
        width = before[:, :, None] / _BINS
        held, cover = spectrum.counts(low, low + width)
        measured = (cover >= _LEAST_COVER * width) & (held > 0)
        level = held / torch.where(measured, cover, torch.ones_like(cover))
        signal, signal_cover = spectrum.counts(onset[:, :, None], end[:, :, None])
        signal, signal_cover = signal[:, :, 0], signal_cover[:, :, 0]
        enough = enough & (measured.sum(2) >= _BINS // 2)
        enough = enough & (signal_cover >= _LEAST_COVER * (end - onset))
        # A straight line in log-log, every bin weighted by its counts.
        weight = torch.where(measured, held, torch.zeros_like(held))
        x = ((low + 0.5 * width) / onset[:, :, None]).clamp(min=1e-3).log()
        y = torch.where(measured, level, torch.ones_like(level)).log()
        total = weight.sum(2, keepdim=True).clamp(min=1e-30)
        x_mean, y_mean = (
            (weight * x).sum(2, keepdim=True) / total,
            (weight * y).sum(2, keepdim=True) / total,
        )
        x, y = x - x_mean, y - y_mean
        spread = (weight * x * x).sum(2, keepdim=True).clamp(min=1e-30)
        exponent = (weight * x * y).sum(2, keepdim=True) / spread
        # counts times squared relative residual is chi square in units of the gain
        misfit = (weight * (y - exponent * x) ** 2).sum(2) / (measured.sum(2) - 2).clamp(min=1.0)
        at = ((0.5 * (onset + end) / onset).log())[:, :, None] - x_mean
        background = (y_mean + exponent * at).clamp(-60.0, 60.0).exp()[:, :, 0] * signal_cover
        gain = torch.maximum(gain, misfit)
        relative = (1 / total + at**2 / spread)[:, :, 0]
        variance = gain * signal + gain * relative * background**2
        variance = variance + (_MODEL_ERROR * background) ** 2
        snr = (signal - background) / variance.clamp(min=1e-30).sqrt()
        return snr, enough & (variance > 0)


class _Cumulative:
    """Running sum of counts and of measured eV, to integrate between any two energies."""

    def __init__(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> None:
        measured = ~torch.isnan(counts)
        held = torch.where(measured, counts, torch.zeros_like(counts)).double()
        zero = torch.zeros_like(held[:, :1])
        self.total = torch.cat([zero, held.cumsum(1)], 1)
        self.cover = torch.cat([zero, measured.double().cumsum(1)], 1)
        self.channels = torch.ones_like(held).sum(1, keepdim=True)
        self.scale = scale_ev.double()[:, None]
        self.begin = offset_ev.double()[:, None] - 0.5 * self.scale
        first = measured.float().argmax(1, keepdim=True)
        behind = measured.flip(1).float().argmax(1, keepdim=True)
        self.start = self.begin + self.scale * first
        self.end = self.begin + self.scale * (self.channels - behind)

    def counts(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Counts and measured eV between energies [batch or 1, ...]."""
        counts_below, cover_below = self._at(low)
        counts, cover = self._at(high)
        return counts - counts_below, (cover - cover_below) * self.scale[:, :, None]

    def _at(self, energy: Tensor) -> tuple[Tensor, Tensor]:
        place = ((energy - self.begin[:, :, None]) / self.scale[:, :, None]).clamp(min=0.0)
        place = torch.minimum(place, self.channels[:, :, None])
        shape = place.shape
        place = place.flatten(1)
        low = torch.minimum(place.floor(), self.channels - 1)
        index, part = low.long(), place - low
        total = torch.lerp(self.total.gather(1, index), self.total.gather(1, index + 1), part)
        cover = torch.lerp(self.cover.gather(1, index), self.cover.gather(1, index + 1), part)
        return total.reshape(shape), cover.reshape(shape)


def _gain(counts: Tensor) -> Tensor:
    """Variance over mean of the counts [batch, 1], of second differences without outliers."""
    padded = nn.functional.pad(counts.double(), (0, 2 * _LAG), value=torch.nan)
    size = counts.shape[1]
    first, middle, last = (padded[:, k * _LAG : k * _LAG + size] for k in range(3))
    difference = middle - 0.5 * (first + last)
    # 1.5 is the variance of the difference for a variance of one.
    expected = 0.5 * (first + middle + last)
    usable = ~torch.isnan(difference) & (expected > 0)
    zero = torch.zeros_like(difference)
    square = torch.where(usable, difference**2, zero)
    expected = torch.where(usable, expected, zero)
    gain = square.sum(1, keepdim=True) / expected.sum(1, keepdim=True).clamp(min=1e-30)
    for _ in range(2):
        kept = (square <= _OUTLIERS * gain * expected).double()
        gain = (square * kept).sum(1, keepdim=True) / (expected * kept).sum(1, keepdim=True).clamp(
            min=1e-30
        )
    return gain
