"""Where the zero-loss peak is, how wide and how strong it is."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.table import Noise

SEARCH_EV: Final = (-10.0, 10.0)
"""Energies of the announced axis between which the peak is looked for; most plasmons lie above."""
_REACH: Final = 64
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
    reached on both sides within the spectrum.
    """

    place: Tensor
    width: Tensor
    height: Tensor
    counts: Tensor
    position_ev: Tensor
    width_ev: Tensor
    edge: Tensor


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

    def __init__(self, search_ev: tuple[float, float] = SEARCH_EV) -> None:
        super().__init__()
        self.search_ev = search_ev

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Peak:
        """counts [batch, channel] with NaN where not measured, offset_ev [batch], scale_ev."""
        measured = ~torch.isnan(counts)
        smooth = smoothed(counts)
        channel = channels(counts)
        first, last = [((limit - offset_ev) / scale_ev)[:, None] for limit in self.search_ev]
        eligible = measured & (channel >= first) & (channel <= last)
        score = torch.where(eligible, smooth, torch.full_like(smooth, -3e38))
        top = score.argmax(1, keepdim=True)
        centre = top.float()
        height = smooth.gather(1, top)
        width, _ = _width(smooth, channel, centre, 0.5 * height)
        place = centre
        near = _near(smooth, measured, top)
        for _ in range(2):
            place, height = _vertex(*near, place, width, height)
        width, edge = _width(smooth, channel, place, 0.5 * height)
        width = (width.square() - _FWHM2 * _SMOOTHING).clamp(min=0.0).sqrt().clamp(min=0.5)
        place, width = place[:, 0], width[:, 0]
        return Peak(
            place=place,
            width=width,
            height=height[:, 0],
            counts=zero_loss_counts(counts, place, width),
            position_ev=offset_ev + scale_ev * place,
            width_ev=scale_ev * width,
            edge=edge[:, 0],
        )


def zero_loss_counts(counts: Tensor, place: Tensor, width: Tensor) -> Tensor:
    """Counts within one full width at half maximum of the peak on both sides, [batch].

    ``place`` and ``width`` [batch] in channels. Channels at the ends count by the part of them that
    lies inside, channels that were not measured as nothing.
    """
    distance = (channels(counts) - place[:, None]).abs()
    share = (width[:, None] + 0.5 - distance).clamp(0.0, 1.0)
    return (share * torch.nan_to_num(counts, nan=0.0)).sum(1)


def peak_errors(peak: Peak, noise: Noise, scale_ev: Tensor) -> PeakErrors:
    """What the noise of the detector makes of position, width and counts.

    For a peak that is a Gaussian within its half maximum: the position by the inverse of the
    weighted sum of squares under the parabola, the width by the noise at the two crossings over the
    slope there.
    """
    height = peak.height.clamp(min=1e-6)
    variance = noise.gain * height + noise.readout**2
    curvature = _FWHM2 / peak.width.square()
    reach = torch.clamp(_FIT * peak.width, _NARROWEST, float(_REACH - 2))
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


def smoothed(counts: Tensor) -> Tensor:
    """Counts through the filter (1, 2, 1) / 4, those not measured as nothing; [batch, channel]."""
    held = torch.nan_to_num(counts, nan=0.0)
    before = torch.cat([held[:, :1], held[:, :-1]], 1)
    after = torch.cat([held[:, 1:], held[:, -1:]], 1)
    return 0.5 * held + 0.25 * (before + after)


def _width(smooth: Tensor, channel: Tensor, place: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Channels between the crossings of the level beside ``place`` [batch, 1], and if one lacks."""
    below = smooth < level
    last = channel[:, -1:]
    right = torch.where(below & (channel > place), channel, last + 1.0).amin(1, keepdim=True)
    left = torch.where(below & (channel < place), channel, -torch.ones_like(channel))
    left = left.amax(1, keepdim=True)
    edge = (left < 0.0) | (right > last)
    rise = _crossing(smooth, left.clamp(min=0.0), torch.minimum(left + 1.0, last), level)
    fall = _crossing(smooth, torch.minimum(right, last), (right - 1.0).clamp(min=0.0), level)
    return (fall - rise).clamp(min=0.5), edge


def _crossing(smooth: Tensor, outer: Tensor, inner: Tensor, level: Tensor) -> Tensor:
    """Where between a channel below the level and its neighbour above it the level is."""
    low, high = smooth.gather(1, outer.long()), smooth.gather(1, inner.long())
    rise = high - low
    part = (level - low) / torch.where(rise > 0.0, rise, torch.ones_like(rise))
    return outer + (inner - outer) * part.clamp(0.0, 1.0)


def _near(smooth: Tensor, measured: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """Channels around the maximum [batch, 129] and their counts, 0 where there are none."""
    index = top + torch.arange(-_REACH, _REACH + 1)[None]
    last = torch.ones_like(smooth[:1]).sum(1, keepdim=True).long() - 1
    held = torch.minimum(index.clamp(min=0), last)
    there = (index == held) & measured.gather(1, held)
    found = smooth.gather(1, held)
    return index.float(), torch.where(there, found, torch.zeros_like(found))


def _vertex(
    channel: Tensor, counts: Tensor, place: Tensor, width: Tensor, height: Tensor
) -> tuple[Tensor, Tensor]:
    """Vertex and height [batch, 1] of the weighted parabola of ln counts around ``place``."""
    reach = torch.clamp(_FIT * width, _NARROWEST, float(_REACH - 2))
    scale = height.clamp(min=1e-6)
    y = (counts / scale).clamp(min=0.02)
    x = (channel - place) / reach
    # A soft edge: the answer does not jump when the peak moves by a fraction of a channel.
    share = (reach + 0.5 - (channel - place).abs()).clamp(0.0, 1.0)
    weight = torch.where(counts > 0.0, share * y, torch.zeros_like(y))
    log = y.log()
    moments = []
    values = []
    power = weight
    for order in range(5):
        moments.append(power.sum(1, keepdim=True))
        if order < 3:
            values.append((power * log).sum(1, keepdim=True))
        power = power * x
    m0, m1, m2, m3, m4 = moments
    t0, t1, t2 = values
    # Cramer's rule for level a, slope b and curvature c.
    minor0, minor1, minor2 = m2 * m4 - m3 * m3, m1 * m4 - m2 * m3, m1 * m3 - m2 * m2
    whole = m0 * minor0 - m1 * minor1 + m2 * minor2
    a = t0 * minor0 - t1 * minor1 + t2 * minor2
    b = -t0 * minor1 + t1 * (m0 * m4 - m2 * m2) - t2 * (m0 * m3 - m1 * m2)
    c = t0 * minor2 - t1 * (m0 * m3 - m1 * m2) + t2 * (m0 * m2 - m1 * m1)
    sound = (whole > 1e-9 * m0 * m0 * m0) & (c < 0.0)
    move = torch.where(sound, -0.5 * b / torch.where(sound, c, -torch.ones_like(c)), 0.0 * b)
    move = move.clamp(-1.0, 1.0)
    level = a + move * (b + move * c)
    level = torch.where(sound, level / torch.where(sound, whole, torch.ones_like(whole)), 0.0 * a)
    return place + move * reach, scale * level.clamp(-1.0, 1.0).exp()
