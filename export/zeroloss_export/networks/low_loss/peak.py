"""Where the zero-loss peak is, how wide and how strong it is."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.table import Noise

SEARCH_EV: Final = (-20.0, 20.0)
"""Energies of the announced axis between which the peak is looked for."""
REACH: Final = 160
"""Channels on either side of the maximum that are looked at closely: a peak is narrower."""
SPARSE: Final = 4
"""Every so manieth channel is enough where only the level and the noise are asked for."""
_FIT_REACH: Final = 64
"""Channels on either side of the maximum that the parabola may use."""
_FIT: Final = 0.35
"""Half width of the parabola, in full widths at half maximum."""
_NARROWEST: Final = 1.25
_SMOOTHING: Final = 0.5
"""Variance in channels of the filter (1, 2, 1) / 4."""
_FWHM2: Final = 8.0 * math.log(2.0)
"""Full width at half maximum of a Gaussian squared, in units of its variance."""


class Peak(NamedTuple):
    """The zero-loss peak of every spectrum, each [batch]; all finite whether there is one or not.

    ``place`` is its channel with the fraction, ``width`` the full width at half maximum in
    channels, ``height`` in counts per channel; ``edge`` is true where the half maximum is not
    reached on both sides within the spectrum and 160 channels. ``core`` [batch, 321] are the counts
    around the channel ``top``, 0 outside of the spectrum and NaN where not measured; ``sparse``
    every fourth channel of the filtered counts.
    """

    place: Tensor
    width: Tensor
    height: Tensor
    counts: Tensor
    position_ev: Tensor
    width_ev: Tensor
    edge: Tensor
    core: Tensor
    top: Tensor
    sparse: Tensor


class PeakErrors(NamedTuple):
    """One standard deviation of what ``Peak`` says, each [batch]."""

    position_ev: Tensor
    width_ev: Tensor
    counts: Tensor


class PeakFinder(nn.Module):
    """Finds the largest maximum between two energies of the announced axis.

    Its position is the vertex of a parabola through the logarithm of the counts within +-0.35 full
    widths, weighted by the counts (their inverse relative variance), so that it does not depend on
    where the channels happen to lie. The width is taken between the half-maximum crossings,
    interpolated linearly. Both see the counts through the filter (1, 2, 1) / 4, whose broadening
    is taken out of the width in quadrature.
    """

    offsets: Tensor
    powers: Tensor

    def __init__(self, search_ev: tuple[float, float] = SEARCH_EV) -> None:
        super().__init__()
        self.search_ev = search_ev
        offsets = torch.arange(-REACH, REACH + 1)
        self.register_buffer("offsets", offsets, persistent=False)
        steps = torch.arange(-_FIT_REACH, _FIT_REACH + 1).double() / _FIT_REACH
        powers = torch.stack([steps**order for order in range(5)], 1).float()
        self.register_buffer("powers", powers, persistent=False)

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Peak:
        """counts [batch, channel] with NaN where not measured, offset_ev [batch], scale_ev."""
        smooth = smoothed(counts)
        channel = channels(counts)
        first, last = [((limit - offset_ev) / scale_ev)[:, None] for limit in self.search_ev]
        outside = (channel - 0.5 * (first + last)).abs() > 0.5 * (last - first)
        top = torch.where(outside, -3e38, smooth).argmax(1, keepdim=True)
        # Everything else needs the surroundings of the maximum only.
        index = top + self.offsets[None]
        end = channel[:, -1:].long()
        held = torch.minimum(index.clamp(min=0), end)
        core = torch.where(index == held, counts.gather(1, held), 0.0)
        near = smooth.gather(1, held)
        height = near[:, REACH : REACH + 1]
        rising = self.offsets[None].float()
        width, _ = _width(near, rising, torch.zeros_like(height), 0.5 * height)
        fitted = slice(REACH - _FIT_REACH, REACH + _FIT_REACH + 1)
        usable = torch.where(torch.isnan(core[:, fitted]), 0.0, near[:, fitted])
        usable = torch.where(index[:, fitted] == held[:, fitted], usable, 0.0)
        shift = torch.zeros_like(height)
        for _ in range(2):
            shift, height = self._vertex(usable, shift, width, height)
        width, edge = _width(near, rising, shift, 0.5 * height)
        width = (width.square() - _FWHM2 * _SMOOTHING).clamp(min=0.0).sqrt().clamp(min=0.5)
        share = (width + 0.5 - (rising - shift).abs()).clamp(0.0, 1.0)
        place, width = (top.float() + shift)[:, 0], width[:, 0]
        return Peak(
            place=place,
            width=width,
            height=height[:, 0],
            counts=(share * or_nothing(core)).sum(1),
            position_ev=offset_ev + scale_ev * place,
            width_ev=scale_ev * width,
            edge=edge[:, 0] | (2.0 * width > REACH),
            core=core,
            top=top[:, 0].float(),
            sparse=smooth[:, ::SPARSE],
        )

    def _vertex(
        self, counts: Tensor, shift: Tensor, width: Tensor, height: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Vertex and height [batch, 1] of the weighted parabola of ln counts around ``shift``."""
        reach = torch.clamp(_FIT * width, _NARROWEST, float(_FIT_REACH - 2))
        scale = height.clamp(min=1e-6)
        level = (counts / scale).clamp(min=0.02)
        # A soft edge: the answer does not jump when the peak moves by a fraction of a channel.
        inside = reach + 0.5 - (self.powers[:, 1] * _FIT_REACH - shift).abs()
        weight = torch.where(counts > 0.0, inside.clamp(0.0, 1.0) * level, 0.0)
        m0, m1, m2, m3, m4 = torch.split(weight @ self.powers, 1, 1)
        t0, t1, t2 = torch.split((weight * level.log()) @ self.powers[:, :3], 1, 1)
        # Cramer's rule for level a, slope b and curvature c.
        minor0, minor1, minor2 = m2 * m4 - m3 * m3, m1 * m4 - m2 * m3, m1 * m3 - m2 * m2
        whole = m0 * minor0 - m1 * minor1 + m2 * minor2
        a = t0 * minor0 - t1 * minor1 + t2 * minor2
        b = -t0 * minor1 + t1 * (m0 * m4 - m2 * m2) - t2 * (m0 * m3 - m1 * m2)
        c = t0 * minor2 - t1 * (m0 * m3 - m1 * m2) + t2 * (m0 * m2 - m1 * m1)
        unit = reach / _FIT_REACH
        sound = (whole > 1e-9 * m0 * m0 * m0 * unit.square() * unit.square() * unit.square()) & (
            c < 0.0
        )
        vertex = torch.where(sound, -0.5 * b / torch.where(sound, c, -1.0), shift / _FIT_REACH)
        nearest, farthest = shift / _FIT_REACH - unit, shift / _FIT_REACH + unit
        vertex = torch.minimum(torch.maximum(vertex, nearest), farthest)
        log = torch.where(
            sound, (a + vertex * (b + vertex * c)) / torch.where(sound, whole, 1.0), 0.0
        )
        return vertex * _FIT_REACH, scale * log.clamp(-1.0, 1.0).exp()


def peak_errors(peak: Peak, noise: Noise, scale_ev: Tensor) -> PeakErrors:
    """What the noise of the detector makes of position, width and counts.

    For a peak that is a Gaussian within its half maximum: the position by the inverse of the
    weighted sum of squares under the parabola, the width by the noise at the two crossings over the
    slope there.
    """
    height = peak.height.clamp(min=1e-6)
    variance = noise.gain * height + noise.readout**2
    curvature = _FWHM2 / peak.width.square()
    reach = torch.clamp(_FIT * peak.width, _NARROWEST, float(_FIT_REACH - 2))
    # Sum of x**2 over the window, by the integral; the counts hardly fall within it.
    moment = (reach**3) * (2.0 / 3.0)
    place = (noise.pooling * variance / moment).sqrt() / (height * curvature)
    half = noise.gain * 0.5 * height + noise.readout**2
    slope = 0.5 * height * curvature * 0.5 * peak.width
    # Three channels with the weights (1, 2, 1) / 4.
    filtered = 0.375 + 0.5 * sum(noise.correlation[:1]) + 0.125 * sum(noise.correlation[1:2])
    crossing = (filtered * half).sqrt() / slope
    level = 0.5 * (noise.pooling * variance / (2.0 * reach)).sqrt() / slope
    width = (2.0 * crossing.square() + 4.0 * level.square()).sqrt()
    counts = noise.gain * peak.counts.clamp(min=0.0) + noise.readout**2 * 2.0 * peak.width
    return PeakErrors(place * scale_ev, width * scale_ev, (noise.pooling * counts).sqrt())


def channels(counts: Tensor) -> Tensor:
    """0, 1, 2 ... as float32, [1, channel]."""
    return torch.ones_like(counts[:1]).cumsum(1) - 1.0


def or_nothing(counts: Tensor) -> Tensor:
    """The counts, 0 where they are NaN; exported, half the work of torch.nan_to_num."""
    return torch.where(torch.isnan(counts), 0.0, counts)


def smoothed(counts: Tensor) -> Tensor:
    """Counts through the filter (1, 2, 1) / 4, those not measured as nothing; [batch, channel]."""
    held = or_nothing(counts)
    before = torch.cat([held[:, :1], held[:, :-1]], 1)
    after = torch.cat([held[:, 1:], held[:, -1:]], 1)
    return 0.5 * held + 0.25 * (before + after)


def _width(near: Tensor, step: Tensor, shift: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Channels between the crossings of the level beside ``shift`` [batch, 1], and if one lacks.

    ``near`` [batch, 321] around the maximum, ``step`` [1, 321] the channels from it.
    """
    below = near < level
    limit = float(REACH)
    right = torch.where(below & (step > shift), step, limit + 1.0).amin(1, keepdim=True)
    left = torch.where(below & (step < shift), step, -limit - 1.0).amax(1, keepdim=True)
    edge = (left < -limit) | (right > limit)
    left, right = left.clamp(-limit, limit - 1.0), right.clamp(1.0 - limit, limit)
    rise = _crossing(near, left, left + 1.0, level)
    fall = _crossing(near, right, right - 1.0, level)
    return (fall - rise).clamp(min=0.5), edge


def _crossing(near: Tensor, outer: Tensor, inner: Tensor, level: Tensor) -> Tensor:
    """Where between a channel below the level and its neighbour above it the level is."""
    low = near.gather(1, outer.long() + REACH)
    rise = near.gather(1, inner.long() + REACH) - low
    part = (level - low) / torch.where(rise > 0.0, rise, 1.0)
    return outer + (inner - outer) * part.clamp(0.0, 1.0)
