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


_LARGE: Final = 1e25
"""Beyond all counts, and far from what a float cannot hold."""
_ADJUGATE: Final = (
    (2, 2, 1, 2, 0, 1, 1, 1, 0),
    (4, 3, 3, 3, 4, 2, 3, 2, 2),
    (3, 1, 2, 1, 2, 0, 2, 0, 1),
    (3, 4, 2, 4, 2, 3, 2, 3, 1),
)
"""Element k of the adjugate of [[m0, m1, m2], [m1, m2, m3], [m2, m3, m4]], row by row, is the
moments m[p] m[q] - m[r] m[s] of these four rows."""


class Peak(NamedTuple):
    """The zero-loss peak of every spectrum, each [batch]; all finite whether there is one or not.

    ``place`` is its channel with the fraction, ``width`` the full width at half maximum in
    channels, ``height`` in counts per channel; ``edge`` is true where the half maximum is not
    reached on both sides within the spectrum and 160 channels. ``core`` [batch, 321] are the counts
    of the channels around it, 0 outside of the spectrum and NaN where not measured, ``away``
    [batch, 321] how far these channels are from ``place``; ``sparse`` every fourth channel of the
    filtered counts.
    """

    place: Tensor
    width: Tensor
    height: Tensor
    counts: Tensor
    position_ev: Tensor
    width_ev: Tensor
    edge: Tensor
    core: Tensor
    away: Tensor
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
    steps: Tensor
    inverse: Tensor
    powers: Tensor

    def __init__(self, search_ev: tuple[float, float] = SEARCH_EV) -> None:
        super().__init__()
        self.search_ev = search_ev
        steps = torch.arange(-REACH, REACH + 1).float()
        unit = torch.arange(-_FIT_REACH, _FIT_REACH + 1).double() / _FIT_REACH
        orders = torch.tensor([0, 1, 2, *(order for row in _ADJUGATE for order in row)])
        buffers = {
            # In a spectrum with so many channels more in front.
            "offsets": torch.arange(2 * REACH + 1, dtype=torch.int32),
            "steps": steps,
            "inverse": 1.0 / steps,
            # Those of the moments, then those of the adjugate: copies of columns are cheap here.
            "powers": (unit[:, None] ** orders).float(),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Peak:
        """counts [batch, channel] with NaN where not measured, offset_ev [batch], scale_ev."""
        smooth = smoothed(counts)
        channel = channels(counts)
        top = torch.minimum(smooth, self._cap(channel, offset_ev, scale_ev))
        top = top.argmax(1, keepdim=True).int()
        # Everything else needs the surroundings of the maximum only.
        index = top + self.offsets
        core = nn.functional.pad(counts, (REACH, REACH)).gather(1, index)
        near = nn.functional.pad(smooth, (REACH, REACH)).gather(1, index)
        height = near[:, REACH : REACH + 1]
        width = _flanks(near, self.inverse, None, 0.5 * height).width
        fitted = slice(REACH - _FIT_REACH, REACH + _FIT_REACH + 1)
        usable = torch.where(torch.isnan(core[:, fitted]), 0.0, near[:, fitted])
        shift, height = self._vertex(usable, height, width)
        away = self.steps - shift
        flanks = _flanks(near, away.reciprocal(), shift, 0.5 * height)
        place = top.float()
        edge = flanks.missing | (2.0 * flanks.width > REACH)
        edge = edge | ((place + flanks.left < 0.0) | (place + flanks.right > channel[:, -1:]))
        width = (flanks.width.square() - _FWHM2 * _SMOOTHING).clamp(min=0.0).sqrt().clamp(min=0.5)
        share = (width + 0.5 - away.abs()).clamp(0.0, 1.0)
        place, width = (place + shift)[:, 0], width[:, 0]
        return Peak(
            place=place,
            width=width,
            height=height[:, 0],
            counts=(share * or_nothing(core)).sum(1),
            position_ev=offset_ev + scale_ev * place,
            width_ev=scale_ev * width,
            edge=edge[:, 0],
            core=core,
            away=away,
            sparse=smooth[:, ::SPARSE],
        )

    def _cap(self, channel: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Tensor:
        """More than any counts between the two energies, less than any outside; [batch, channel].

        A parabola in the channel with its roots there: a product of matrices, and no choice.
        """
        low, high = self.search_ev
        begin = offset_ev - 0.5 * (low + high)
        within = (0.5 * (high - low)) ** 2 - begin * begin
        parts = (within, -2.0 * begin * scale_ev, -scale_ev * scale_ev)
        powers = torch.cat([torch.ones_like(channel), channel, channel * channel])
        return (_LARGE * torch.stack(parts, 1).float()) @ powers

    def _vertex(self, counts: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """Vertex and height [batch, 1] of the weighted parabola of ln counts, in two rounds."""
        reach = torch.clamp(_FIT * width, _NARROWEST, float(_FIT_REACH - 2))
        scale = height.clamp(min=1e-6)
        level = (counts / scale).clamp(min=0.02)
        log, level = level.log(), torch.where(counts > 0.0, level, 0.0)
        unit, step = reach / _FIT_REACH, self.steps[REACH - _FIT_REACH : REACH + _FIT_REACH + 1]
        vertex, _ = self._parabola(level, log, unit, None, step.abs())
        away = (step - vertex * _FIT_REACH).abs()
        vertex, top = self._parabola(level, log, unit, vertex, away)
        return vertex * _FIT_REACH, scale * top.clamp(-1.0, 1.0).exp()

    def _parabola(
        self, level: Tensor, log: Tensor, unit: Tensor, middle: Tensor | None, away: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Vertex of ln counts within ``unit`` of ``middle`` (None: 0), and ln counts there.

        Both [batch, 1], lengths in units of 64 channels but ``away``, which is how many channels
        each [129] is from the middle.
        """
        # A soft edge: the answer does not jump when the peak moves by a fraction of a channel.
        inside = (_FIT_REACH * unit + 0.5) - away
        weight = inside.clamp(0.0, 1.0) * level
        moments, p, q, r, s = torch.split(weight @ self.powers, [3, 9, 9, 9, 9], 1)
        sums = (weight * log) @ self.powers[:, :3]
        # Cramer's rule for level a, slope b and curvature c: the adjugate of the matrix of moments
        # m[j + k], row by row; -(x - y) is y - x.
        adjugate = (p * q - r * s).reshape(-1, 3, 3)
        whole = (adjugate[:, 0] * moments).sum(1, keepdim=True)
        a, b, c = torch.split((adjugate * sums[:, None]).sum(2), 1, 1)
        sound = (whole > 1e-9 * (moments[:, :1] * unit.square()).pow(3)) & (c < 0.0)
        vertex = -0.5 * b / torch.where(sound, c, -1.0)
        if middle is None:
            vertex = torch.where(sound, vertex, 0.0)
            vertex = torch.minimum(torch.maximum(vertex, -unit), unit)
        else:
            vertex = torch.where(sound, vertex, middle)
            vertex = torch.minimum(torch.maximum(vertex, middle - unit), middle + unit)
        top = (a + vertex * (b + vertex * c)) / torch.where(sound, whole, 1.0)
        return vertex, torch.where(sound, top, 0.0)


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
    """The counts, 0 where they are NaN."""
    return torch.where(torch.isnan(counts), 0.0, counts)


def smoothed(counts: Tensor) -> Tensor:
    """Counts through the filter (1, 2, 1) / 4, those not measured as nothing; [batch, channel]."""
    held = nn.functional.pad(or_nothing(counts), (1, 1), mode="replicate")
    return nn.functional.conv1d(held[:, None], torch.tensor([[[0.25, 0.5, 0.25]]])).squeeze(1)


class _Flanks(NamedTuple):
    """Where beside a peak its filtered counts come down to a level, in channels; [batch, 1]."""

    left: Tensor
    right: Tensor
    width: Tensor
    missing: Tensor


def _flanks(near: Tensor, inverse: Tensor, shift: Tensor | None, level: Tensor) -> _Flanks:
    """The nearest crossings on both sides of ``shift`` [batch, 1], by default 0.

    ``near`` [batch, 321] around the maximum, ``inverse`` [batch or 1, 321] one over the distance
    of its channels from ``shift``: the nearest channel has the largest.
    """
    below = torch.where(near < level, inverse, 0.0)
    farthest = 0.25 / REACH
    left = below.amin(1, keepdim=True).clamp(max=-farthest)
    right = below.amax(1, keepdim=True).clamp(min=farthest)
    outer = torch.cat([left, right], 1).reciprocal()
    outer = (outer if shift is None else outer + shift).round()
    missing = outer.abs().amax(1, keepdim=True) > REACH
    outer = outer.clamp(float(-REACH), float(REACH))
    # On each side between a channel below the level and its neighbour above it.
    inward = torch.tensor([1.0, -1.0])
    index = (outer + REACH).int()
    low = near.gather(1, index)
    rise = near.gather(1, index + inward.int()) - low
    part = (level - low) / torch.where(rise > 0.0, rise, 1.0)
    left, right = torch.split(outer + inward * part.clamp(0.0, 1.0), 1, 1)
    return _Flanks(left, right, (right - left).clamp(min=0.5), missing)
