"""The strongest plasmon and exciton peaks of the spectrum without its zero-loss peak."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.peak import channels, or_nothing
from zeroloss_export.networks.low_loss.table import ZeroLossTable

_SIGNIFICANT: Final = 4.0
"""Standard deviations by which a peak stands above what is beside it."""
_SCALES_EV: Final = (1.0, 2.0, 4.0, 8.0)
"""Distances within which a peak is a maximum; broad plasmons show over the larger ones only."""
_FIT: Final = 0.35
_POINTS: Final = 33
_STEEPNESS: Final = 2.0 * math.log(2.0)
"""Slope of a Gaussian at half maximum, in units of its height per full width."""


class LossPeaks(NamedTuple):
    """Each [batch, peak], the highest first, with one standard deviation; NaN where there is none.

    Heights are in counts per channel of the table. A width is twice the shorter distance to half
    the height, NaN where neither side comes down so far.
    """

    energy_ev: Tensor
    energy_error: Tensor
    height: Tensor
    height_error: Tensor
    width_ev: Tensor
    width_error: Tensor


class PeakSearch(nn.Module):
    """Finds maxima of the subtracted spectrum, smoothed by the resolution of the instrument.

    A maximum counts where it is the highest within 1, 2, 4 or 8 eV and falls by four standard
    deviations of the noise on both sides within that distance. Energy and height are those of a
    parabola over +-0.35 full widths.
    """

    energy: Tensor
    filter: Tensor
    after: Tensor
    fit: Tensor
    offsets: Tensor

    def __init__(self, table: ZeroLossTable) -> None:
        super().__init__()
        if table.peaks < 1:
            raise ValueError("the zero-loss table asks for no peaks")
        self.peaks = table.peaks
        self.noise = table.noise
        width = 0.5 * sum(table.trained_width_ev) / table.scale_ev
        self.merged = max(1, int(width / 4.0))
        self.step_ev = self.merged * table.scale_ev
        count = table.curves.shape[2] // self.merged
        self.columns = slice(0, count * self.merged)
        energy = table.energy_ev[self.columns].reshape(count, self.merged).mean(1)
        half = max(1, round(width / self.merged))
        triangle = half - torch.arange(1 - half, half).abs().double()
        triangle = triangle / triangle.sum()
        self.share = float(triangle.square().sum()) * table.noise.pooling / self.merged
        self.reaches = [max(2, round(scale / self.step_ev)) for scale in _SCALES_EV]
        longest = (count - 1) // 2
        self.reaches = sorted({min(reach, longest) for reach in self.reaches})
        offsets = torch.linspace(-1.0, 1.0, _POINTS, dtype=torch.float64)
        powers = torch.stack([torch.ones_like(offsets), offsets, offsets.square()], 1)
        buffers = {
            "energy": energy,
            "filter": triangle[None, None],
            "after": energy > table.match_ev[1] + 0.5 * sum(table.trained_width_ev),
            "fit": torch.linalg.pinv(powers),
            "offsets": offsets,
        }
        for name, value in buffers.items():
            value = value.float() if value.is_floating_point() else value
            self.register_buffer(name, value, persistent=False)

    def forward(self, aligned: Tensor, left: Tensor) -> LossPeaks:
        """``aligned`` [batch, grid] counts and ``left`` [batch, 3, grid] without zero loss."""
        merged = torch.cat([left, aligned[:, None]], 1)[..., self.columns]
        merged = merged.reshape(-1, 4, len(self.energy), self.merged).mean(3)
        measured = ~torch.isnan(merged[:, 3])
        merged = self._smooth(or_nothing(merged))
        curve, counts = merged[:, 1], merged[:, 3]
        band = 0.5 * (merged[:, 2] - merged[:, 0])
        variance = self.noise.gain * counts.clamp(min=1.0) + self.noise.readout**2
        sigma = (self.share * variance).sqrt()
        found = self._maxima(curve, sigma) & self.after & measured
        score = torch.where(found, curve, -1.0)
        height, place = score.topk(self.peaks, 1)
        there = height > 0.0
        width, closed = self._width(curve, place, height)
        reach = (_FIT * width).clamp(min=1.5)
        # The parabola over a window that grows with the peak: level, slope and bend.
        at = place[..., None].float() + reach[..., None] * self.offsets
        level, slope, bend = self._parabola(curve, at)
        bend = bend.clamp(max=-1e-3 * height.clamp(min=1e-3))
        move = (-0.5 * slope / bend).clamp(-1.0, 1.0)
        energy = self.energy[0] + self.step_ev * (place.float() + reach * move)
        top = level + move * (slope + bend * move)
        # Channels of the table that are independent under the parabola.
        number = (2.0 * reach * self.merged / self.noise.pooling).clamp(min=1.0)
        noise = variance.gather(1, place) / number
        of_band, tilt, _ = self._parabola(band, at)
        per = self.step_ev * reach * 0.5 / bend.abs()
        energy_error = per * (3.0 * noise + tilt.square()).sqrt()
        height_error = (2.25 * noise + of_band.square()).sqrt()
        crossing = sigma.gather(1, place) / (_STEEPNESS * height.clamp(min=1e-6))
        width_error = 2.0 * width * (crossing.square() + (0.5 * height_error / top).square()).sqrt()
        values = (energy, energy_error, top, height_error)
        widths = (self.step_ev * width, self.step_ev * width_error)
        given = [torch.where(there, value, torch.nan) for value in values]
        return LossPeaks(*given, *(torch.where(there & closed, item, torch.nan) for item in widths))

    def _smooth(self, values: Tensor) -> Tensor:
        reach = self.filter.shape[2] // 2
        flat = values.reshape(-1, 1, len(self.energy))
        padded = nn.functional.pad(flat, (reach, reach), mode="replicate")
        return nn.functional.conv1d(padded, self.filter).reshape(-1, 4, len(self.energy))

    def _maxima(self, curve: Tensor, sigma: Tensor) -> Tensor:
        found = torch.zeros_like(curve, dtype=torch.bool)
        both = torch.stack([curve, -curve], 1)
        needed = _SIGNIFICANT * sigma
        for reach in self.reaches:
            # Highest and deepest value of the windows that end or begin at every point.
            around = nn.functional.pad(both, (reach, reach), value=-3e38)
            around = nn.functional.max_pool1d(around, reach + 1, 1)
            before, after = around[..., :-reach], around[..., reach:]
            highest = torch.maximum(before, after)[:, 0]
            fall = torch.minimum(before, after)[:, 1] + curve
            found = found | ((curve >= highest) & (fall > needed))
        return found

    def _width(self, curve: Tensor, place: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """Twice the shorter way to half the height [batch, peak] in points, if there is one."""
        distance = channels(curve)[:, None] - place[..., None].float()
        below = curve[:, None] < 0.5 * height[..., None]
        nearest = torch.where(below, distance.abs(), 1e6).amin(2)
        # Where on the nearer side between two points the level is.
        side = torch.where((below & (distance == nearest[..., None])).any(2), 1.0, -1.0)
        last = curve.shape[1] - 1
        outer = (place + (side * nearest.clamp(max=float(last))).long()).clamp(0, last)
        inner = (outer - side.long()).clamp(0, last)
        low, high = curve.gather(1, outer), curve.gather(1, inner)
        rise = torch.where(high > low, high - low, 1.0)
        part = ((0.5 * height - low) / rise).clamp(0.0, 1.0)
        return 2.0 * (nearest - part).clamp(0.5, float(last)), nearest < 1e5

    def _parabola(self, curve: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Level, slope and bend [batch, peak] of the curve at points [batch, peak, _POINTS]."""
        at = at.clamp(0.0, float(curve.shape[1] - 1))
        low = at.floor().clamp(max=float(curve.shape[1] - 2))
        index = low.long().flatten(1)
        below = curve.gather(1, index)
        values = below + (at - low).flatten(1) * (curve.gather(1, index + 1) - below)
        found = values.reshape(-1, self.peaks, _POINTS) @ self.fit.T
        return found[..., 0], found[..., 1], found[..., 2]
