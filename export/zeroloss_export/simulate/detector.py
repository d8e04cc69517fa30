"""From a noise-free spectrum to what a detector and its calibration make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.measured_range import measured_ends
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.recipe import Recipe

CHANNELS: Final = 1024


@dataclass(frozen=True, slots=True)
class Window:
    """True energy range [batch] that the detector covers, and its number of channels.

    Between ``signal_start_ev`` and ``signal_end_ev`` it carries signal; elsewhere it is dead (the
    range above the gain step of serial spectra, blanked first channels).
    """

    start_ev: Tensor
    end_ev: Tensor
    channels: Tensor
    signal_start_ev: Tensor
    signal_end_ev: Tensor

    @property
    def scale_ev(self) -> Tensor:
        return (self.end_ev - self.start_ev) / self.channels

    def axis_error_ev(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Tensor:
        """Written minus true energy [batch, 2] of the first and last channel that is not NaN."""
        ends = torch.stack(measured_ends(counts), 1)
        true = self.start_ev[:, None] + self.scale_ev[:, None] * (ends + 0.5)
        return offset_ev[:, None] + scale_ev[:, None] * ends - true


def draw_window(query_ev: Tensor, axis_end_ev: float, recipe: Recipe, draw: Draw) -> Window:
    """A window that starts 10 eV or more before ``query_ev`` and ends 25 eV or more behind it."""
    batch = len(query_ev)
    length = draw.log_uniform(*recipe.window_ev, batch)
    before = torch.minimum(length - 30, query_ev - 62).clamp(min=10.0)
    lead = 10 + draw.uniform(0.0, 1.0, batch) * (before - 10).clamp(min=0.0)
    start = query_ev - lead
    free = draw.chance(recipe.any_window_chance, batch)
    start = torch.where(free, draw.uniform(62.0, 2900.0, batch), start)
    end = (start + length).clamp(max=axis_end_ev)
    # Some ranges begin at or before the zero-loss peak.
    low = draw.chance(0.06, batch)
    start = torch.where(low & (start < 120), draw.uniform(-20.0, 62.0, batch), start)
    # Real detectors have about a thousand channels, some data are binned, few are scanned finely.
    choice = draw.pick(torch.tensor([7.0, 2.0, 1.0, 0.7]), batch)
    channels = torch.tensor([1024.0, 512.0, 256.0, 128.0])[choice] * draw.uniform(0.7, 1.0, batch)
    scale = torch.maximum((end - start) / channels, torch.tensor(0.05)).clamp(max=8.0)
    channels = ((end - start) / scale).round().clamp(12, CHANNELS)
    length = end - start
    cut = draw.chance(min(1.0, 0.06 * recipe.artefact_scale), batch)
    blank = draw.chance(min(1.0, 0.04 * recipe.artefact_scale), batch)
    signal_end = torch.where(cut, end - draw.uniform(0.0, 0.6, batch) * length, end)
    signal_start = torch.where(blank, start + draw.uniform(0.0, 0.1, batch) * length, start)
    return Window(start, end, channels, signal_start, signal_end)


def detect(
    rate: Tensor, taken: Tensor, first_ev: float, window: Window, recipe: Recipe, draw: Draw
) -> tuple[Tensor, Tensor, Tensor]:
    """Counts [batch, CHANNELS] (NaN: not measured), offset and scale written on the axis [batch].

    ``rate`` [batch, channel] holds expected counts per 1 eV channel centred on ``first_ev + k``,
    ``taken`` what is subtracted after counting. Negative results are not measured.
    """
    counts = _bin(rate, first_ev, window)
    position = torch.arange(CHANNELS)
    inside = position < window.channels[:, None]
    counts = _noise(counts, recipe, draw) - _bin(taken, first_ev, window)
    counts = _artefacts(counts, position, window, recipe, draw)
    counts = torch.where(inside & (counts >= 0), counts, torch.nan)
    batch = len(counts)
    tail_chance, tail_ev = recipe.shift_tail
    shift = recipe.shift_ev * draw.normal(batch)
    shift = torch.where(
        draw.chance(tail_chance, batch), draw.uniform(-tail_ev, tail_ev, batch), shift
    )
    tail_chance, tail = recipe.dispersion_tail
    error = recipe.dispersion_error * draw.normal(batch)
    error = torch.where(draw.chance(tail_chance, batch), draw.uniform(-tail, tail, batch), error)
    # Somebody set the axis right at one place of the range; the error grows away from it.
    pivot = draw.uniform(0.0, 1.0, batch) * (window.end_ev - window.start_ev)
    offset = window.start_ev + window.scale_ev / 2 + shift - pivot * error
    units = 10 ** draw.uniform(-4.0, 4.0, batch)
    scaled = torch.where(draw.chance(0.3, batch)[:, None], counts * units[:, None], counts)
    return scaled, offset, window.scale_ev * (1 + error)


def _bin(rate: Tensor, first_ev: float, window: Window) -> Tensor:
    """Integrate the rate over the detector's channels."""
    total = torch.nn.functional.pad(rate.double().cumsum(1), (1, 0))
    edge = window.start_ev[:, None] + window.scale_ev[:, None] * torch.arange(CHANNELS + 1)
    place = (edge - (first_ev - 0.5)).clamp(0.0, rate.shape[1] - 1e-3)
    low = place.long()
    part = (place - low).double()
    at = total.gather(1, low)
    at = at + part * (total.gather(1, low + 1) - at)
    return at.diff(dim=1).float()


def _noise(counts: Tensor, recipe: Recipe, draw: Draw) -> Tensor:
    batch = len(counts)
    noisy = draw.poisson(counts.clamp(min=0.0))
    gain = draw.log_uniform(*recipe.gain_noise, batch) * draw.chance(
        recipe.gain_noise_chance, batch
    )
    noisy = noisy * (1 + gain[:, None] * draw.normal(*counts.shape))
    read = draw.log_uniform(*recipe.read_noise, batch) * draw.chance(
        recipe.read_noise_chance, batch
    )
    noisy = noisy + read[:, None] * draw.normal(*counts.shape)
    # Point spread and interpolation correlate the noise of neighbours; 1-2-1 passes.
    blurred = noisy
    for _ in range(2):
        padded = torch.nn.functional.pad(blurred[:, None], (1, 1), mode="replicate")[:, 0]
        blurred = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    chosen = draw.chance(recipe.blur_chance, batch)[:, None]
    return torch.where(chosen, blurred, noisy)


def _artefacts(
    counts: Tensor, position: Tensor, window: Window, recipe: Recipe, draw: Draw
) -> Tensor:
    """Ends without signal, cuts above a gain step, steps, spikes, dark level, saturation."""
    batch = len(counts)
    channels = window.channels

    def chosen(probability: float) -> Tensor:
        return draw.chance(min(1.0, probability * recipe.artefact_scale), batch)[:, None]

    def part(low: float, high: float) -> Tensor:
        return (channels * draw.uniform(low, high, batch))[:, None]

    middle = counts.gather(1, (channels / 2).long()[:, None])
    noise_floor = middle * draw.log_uniform(1e-6, 1e-2, batch, 1)
    dead = noise_floor * (1 + 0.05 * draw.normal(*counts.shape))
    ramp = draw.uniform(0.2, 1.0, batch, 1)
    ramp_length = draw.uniform(2.0, 16.0, batch, 1)
    rising = (ramp + (1 - ramp) * position / ramp_length).clamp(max=1.0)
    counts = torch.where(chosen(0.3), counts * rising, counts)
    step = draw.log_uniform(0.5, 2.0, batch, 1)
    step = torch.where(draw.chance(0.6, batch)[:, None], 1 + 0.05 * draw.normal(batch, 1), step)
    counts = torch.where(chosen(0.05) & (position > part(0.1, 0.9)), counts * step, counts)
    end = counts.gather(1, (0.95 * channels).long()[:, None])
    counts = torch.where(chosen(0.04), counts + end * draw.uniform(-0.7, 3.0, batch, 1), counts)
    cap = counts.gather(1, part(0.01, 0.25).long().clamp(0, CHANNELS - 1))
    counts = torch.where(chosen(0.03), torch.minimum(counts, cap), counts)
    spiky = draw.chance(0.004, *counts.shape) & chosen(0.05)
    counts = torch.where(spiky, counts * draw.log_uniform(1.2, 6.0, *counts.shape), counts)
    energy = window.start_ev[:, None] + window.scale_ev[:, None] * (position + 0.5)
    alive = (energy >= window.signal_start_ev[:, None]) & (energy <= window.signal_end_ev[:, None])
    counts = torch.where(alive, counts, dead)
    last = channels[:, None] - 1 - position
    wild = counts * draw.log_uniform(1e-4, 5.0, batch, 1)
    return torch.where(chosen(0.35) & (last < draw.integers(1, 4, batch, 1)), wild, counts)
