"""Spectra that are none: negative examples for the label "unlike anything trained on".

They are made of simulated spectra, so that dose, range, channels and units are those of the rest.
A smooth background without an edge is no negative example: it is a spectrum that shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.spectra import LabelledSpectra

_FULL_SCALE: Final = 65535.0
_OTHER_AXIS_CHANCE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Raw:
    """Spectra to spoil, as in LabelledSpectra; ``level`` [batch, 1] is their mean count.

    ``other_offset_ev`` and ``other_scale_ev`` are an axis that has nothing to do with them.
    """

    counts: Tensor
    offset_ev: Tensor
    scale_ev: Tensor
    level: Tensor
    other_offset_ev: Tensor
    other_scale_ev: Tensor


Spoil = Callable[[Raw, Draw], tuple[Tensor, Tensor, Tensor]]
"""To counts, offset_ev and scale_ev."""


def spoiled(spectra: LabelledSpectra, chance: float, draw: Draw) -> tuple[LabelledSpectra, Tensor]:
    """Turn every spectrum into a negative example with the given chance.

    Returns the spectra and unlike [batch], 1 where it was done: no element is present there, and
    all labels are known. Kinds come as often as they are hard to tell (`_OFTEN`).
    """
    batch = len(spectra.counts)
    unlike = draw.chance(chance, batch)
    rows = torch.nonzero(unlike)[:, 0]
    if len(rows) == 0:
        return spectra, unlike.float()
    kind = draw.pick(torch.tensor(_OFTEN), len(rows))
    # A wrong axis is seen by edges in wrong places only.
    blank = spectra.present[rows].sum(1) == 0
    kind = torch.where(blank, kind % _WITHOUT_EDGES, kind)
    counts, offset, scale = (
        value.clone() for value in (spectra.counts, spectra.offset_ev, spectra.scale_ev)
    )
    for index, spoil in enumerate(KINDS.values()):
        chosen = rows[kind == index]
        if len(chosen):
            made = spoil(_raw(spectra, chosen, draw), draw)
            counts[chosen], offset[chosen], scale[chosen] = made
    known = torch.where(unlike[:, None], 1.0, spectra.known)
    present = torch.where(unlike[:, None], 0.0, spectra.present)
    new = replace(
        spectra, counts=counts, offset_ev=offset, scale_ev=scale, present=present, known=known
    )
    return new, unlike.float()


def _raw(spectra: LabelledSpectra, rows: Tensor, draw: Draw) -> Raw:
    counts, offset, scale = spectra.counts[rows], spectra.offset_ev[rows], spectra.scale_ev[rows]
    number = len(rows)
    other = draw.chance(_OTHER_AXIS_CHANCE, number)
    channels = (~counts.isnan()).sum(1).clamp(min=12)
    length = draw.log_uniform(60.0, 3000.0, number)
    return Raw(
        counts,
        offset,
        scale,
        counts.nanmean(1, keepdim=True).nan_to_num(1.0).clamp(min=1e-6),
        torch.where(other, draw.uniform(20.0, 2000.0, number), offset),
        torch.where(other, length / channels, scale),
    )


def _flat(values: Callable[[Raw, Draw], Tensor]) -> Spoil:
    """Counts without any shape on either axis, as many channels as the spectrum has."""

    def spoil(raw: Raw, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        made = torch.where(raw.counts.isnan(), torch.nan, values(raw, draw))
        made = torch.where(made >= 0, made, torch.nan)
        return made, raw.other_offset_ev, raw.other_scale_ev

    return spoil


def _constant(raw: Raw, draw: Draw) -> Tensor:
    spikes = draw.chance(0.002, *raw.counts.shape) & draw.chance(0.3, len(raw.counts))[:, None]
    return raw.level * (1 + 4 * spikes)


def _zeros(raw: Raw, draw: Draw) -> Tensor:
    """Nothing, or a single count here and there."""
    rate = draw.log_uniform(1e-3, 0.05, len(raw.counts), 1) * draw.chance(0.6, len(raw.counts), 1)
    return draw.poisson(rate.expand_as(raw.counts))


def _shot_noise(raw: Raw, draw: Draw) -> Tensor:
    return draw.poisson(raw.level.clamp(1.0, 1e6).expand_as(raw.counts))


def _uniform_noise(raw: Raw, draw: Draw) -> Tensor:
    return raw.level * draw.uniform(0.0, 1.0, *raw.counts.shape)


def _dark_frame(raw: Raw, draw: Draw) -> Tensor:
    """Read noise about a small level, correlated between next channels in half of them."""
    noise = draw.normal(*raw.counts.shape)
    smooth = torch.nn.functional.pad(noise[:, None], (1, 1), mode="replicate")[:, 0]
    smooth = (smooth[:, :-2] + 2 * smooth[:, 1:-1] + smooth[:, 2:]) / 2.45
    noise = torch.where(draw.chance(0.5, len(noise))[:, None], smooth, noise)
    return raw.level * (draw.uniform(0.0, 3.0, len(noise), 1) + noise)


def _saturated(raw: Raw, draw: Draw) -> Tensor:
    """At full scale but for the counts of a few channels."""
    under = draw.chance(0.01, *raw.counts.shape) & draw.chance(0.3, len(raw.counts))[:, None]
    return _FULL_SCALE * (1 - under * draw.uniform(0.0, 1.0, *raw.counts.shape))


def _clipped(raw: Raw, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Saturated in all but the lowest 2 to 15 % of the channels."""
    held = torch.where(raw.counts.isnan(), torch.inf, raw.counts).sort(1).values
    number = (~raw.counts.isnan()).sum(1)
    place = (draw.uniform(0.02, 0.15, len(held)) * number).long()
    cap = held.gather(1, place[:, None]).clamp(max=1e30)
    return torch.minimum(raw.counts, cap), raw.offset_ev, raw.scale_ev


def _low_loss(raw: Raw, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Zero-loss peak and plural plasmon losses; half of them on an axis of core losses.

    Drude losses and Poisson statistics of t/lambda: R. Egerton, Electron Energy-Loss Spectroscopy
    in the Electron Microscope, 3rd ed. (2011), eq. 3.43 and 4.10.
    """
    batch, channels = raw.counts.shape
    step = draw.log_uniform(0.05, 1.5, batch)[:, None]
    energy = step * torch.arange(2 * channels)
    plasmon, width = draw.uniform(5.0, 32.0, batch, 1), draw.uniform(1.0, 15.0, batch, 1)
    drude = energy * width * plasmon**2 / ((energy**2 - plasmon**2) ** 2 + (energy * width) ** 2)
    single = drude / drude.sum(1, keepdim=True)
    thickness = draw.log_uniform(0.05, 3.0, batch, 1)
    before = draw.uniform(10.0, 100.0, batch, 1) * step
    sigma = draw.log_uniform(0.1, 2.0, batch, 1).maximum(step)
    peak = torch.exp(-0.5 * ((energy - before) / sigma) ** 2)
    peak = peak / peak.sum(1, keepdim=True)
    transfer = torch.exp(thickness * (torch.fft.rfft(single) - 1))
    rate = torch.fft.irfft(torch.fft.rfft(peak) * transfer)[:, :channels].clamp(min=0.0)
    counts = draw.poisson(draw.log_uniform(1e3, 1e9, batch, 1) * rate)
    counts = torch.where(raw.counts.isnan(), torch.nan, counts)
    right = draw.chance(0.5, batch)
    offset = torch.where(right, -before[:, 0], raw.other_offset_ev)
    return counts, offset, torch.where(right, step[:, 0], raw.other_scale_ev)


def _reversed(raw: Raw, _draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """Mirrored from the first channel to the last that is measured."""
    channel = torch.arange(raw.counts.shape[1])
    last = torch.where(raw.counts.isnan(), -1, channel).amax(1, keepdim=True)
    mirrored = raw.counts.gather(1, (last - channel).clamp(min=0))
    return torch.where(channel <= last, mirrored, torch.nan), raw.offset_ev, raw.scale_ev


def _far_off(raw: Raw, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """The axis 40 to 600 eV off, far beyond the errors of usual spectra."""
    batch = len(raw.counts)
    away = draw.log_uniform(40.0, 600.0, batch)
    down = draw.chance(0.5, batch) & (raw.offset_ev - away > 40.0)
    return raw.counts, raw.offset_ev + torch.where(down, -away, away), raw.scale_ev


def _stretched(raw: Raw, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """A dispersion wrong by a factor of 1.25 to 3, or one over that."""
    factor = draw.log_uniform(1.25, 3.0, len(raw.counts))
    factor = torch.where(draw.chance(0.35, len(factor)), 1 / factor, factor)
    return raw.counts, raw.offset_ev, raw.scale_ev * factor


KINDS: Final[dict[str, Spoil]] = {
    "constant": _flat(_constant),
    "zeros": _flat(_zeros),
    "shot noise": _flat(_shot_noise),
    "uniform noise": _flat(_uniform_noise),
    "dark frame": _flat(_dark_frame),
    "saturated": _flat(_saturated),
    "clipped": _clipped,
    "low loss": _low_loss,
    "reversed": _reversed,
    "axis off": _far_off,
    "axis stretched": _stretched,
}
_OFTEN: Final = (0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 2.0, 4.0, 4.0)
"""Weight of every kind: noise and constants are told by the gates, wrong axes are hard."""
_WITHOUT_EDGES: Final = 9
"""So many of the first kinds can be told from a spectrum without edges."""
