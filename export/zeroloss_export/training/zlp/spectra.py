"""From a recording or file to aligned mean spectra, clustered by thickness, with their noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from zeroloss.recording.spectrum_files import Axis, SpectrumFile, read_measurement
from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.peak import SEARCH_EV, PeakFinder

from .clusters import choose_clusters, cluster
from .noise import Floats, NoiseModel, estimate_noise
from .points import Cluster

_FAINTEST: Final = 30.0
"""Zero-loss height over the noise from which a pixel is worth training on."""
_ALIKE: Final = 2.0
"""Times the median width: peaks wider, or narrower by as much, are not those of the instrument."""
_DEAD: Final = 6.0
"""Standard deviations by which a channel that never changes must depart from its neighbours."""
_AROUND: Final = 0.01
"""Relative distance up to which a spectrum stands for its like, be it the only one."""
_KEPT_PIXELS: Final = 512
_NOISE_PIXELS: Final = 256


@dataclass(frozen=True, slots=True)
class LowLossSpectra:
    """Low-loss spectra of one dispersion: ``counts`` [pixels, channels], NaN where not measured.

    ``condition`` [pixels] is the value of an instrument setting, 0 where none is an input;
    ``offset_ev`` is that of all spectra or [pixels], as far as it tells where to look for the peak.
    """

    counts: Floats
    condition: Floats
    offset_ev: float | Floats
    scale_ev: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """Aligned spectra, ready for training.

    ``energy_ev`` [channels] from the zero-loss maximum, ``clusters`` by rising zero-loss counts,
    ``noise`` of one pixel, ``width_ev`` the median FWHM of the zero-loss peak, the smallest and
    largest width and ln of the zero-loss counts, and how many pixels were used of how many.
    """

    energy_ev: Floats
    clusters: list[Cluster]
    noise: NoiseModel
    width_ev: float
    widths_ev: tuple[float, float]
    log_counts: tuple[float, float]
    used: int
    pixels: int


def read_low_loss(
    paths: Sequence[Path],
    axis: Axis | None = None,
    *,
    lines: int | None = None,
    condition: str | None = None,
    values: Sequence[float] | None = None,
) -> LowLossSpectra:
    """The low-loss range of recordings or files, their pixels one after the other.

    Of several ranges the one that holds 0 eV is taken; ``lines`` keeps the first rows of a scan.
    ``condition`` is the name of an instrument setting and ``values`` what it was for each path;
    without, beam_kev and dwell_s are read from the files. Files may differ in their energy of
    channel 0, since spectra are aligned on their peaks. Raises ValueError where no range holds
    0 eV, the files differ in eV per channel or in channels, or a setting is unknown.
    """
    if values is not None and len(values) != len(paths):
        raise ValueError(
            f"{len(values)} values of {condition} for {len(paths)} files: expected one for each"
        )
    if lines is not None and lines < 1:
        raise ValueError(f"{lines} lines of a scan: expected 1 or more")
    read = []
    for index, path in enumerate(paths):
        file = read_measurement(path, axis=axis)
        value = None if values is None else values[index]
        if value is None and condition is not None:
            value = _setting(file, condition, path)
        read.append(_low_loss_of(file, path, lines, value or 0.0))
    first = read[0]
    for path, other in zip(paths[1:], read[1:], strict=True):
        same = np.isclose(other.scale_ev, first.scale_ev, rtol=1e-3)
        if not same or other.counts.shape[1] != first.counts.shape[1]:
            raise ValueError(
                f"{path.name} has {other.counts.shape[1]} channels of {other.scale_ev:.4g} eV, "
                f"{paths[0].name} {first.counts.shape[1]} of {first.scale_ev:.4g} eV: expected "
                "the same of all"
            )
    return LowLossSpectra(
        np.concatenate([item.counts for item in read]),
        np.concatenate([item.condition for item in read]),
        np.concatenate([np.full(len(item.counts), item.offset_ev) for item in read]),
        first.scale_ev,
    )


def _setting(file: SpectrumFile, name: str, path: Path) -> float:
    value = {"beam_kev": file.beam_kev, "dwell_s": file.dwell_s}.get(name)
    if value is None:
        raise ValueError(
            f"{path.name} does not tell {name}: give its value for every file, {name}=VALUE,VALUE"
        )
    return value


def _low_loss_of(
    file: SpectrumFile, path: Path, lines: int | None, setting: float
) -> LowLossSpectra:
    pixels = None if lines is None else lines * file.shape[1]
    for item in file.ranges:
        last = item.offset_ev + item.scale_ev * (item.size - 1)
        if item.offset_ev < 0 < last and file.modality == "eels":
            counts = np.asarray(file.counts[item.name][:pixels], np.float64)
            if item.saturation is not None:
                counts = np.where(counts >= item.saturation, np.nan, counts)
            settings = np.full(len(counts), setting)
            return LowLossSpectra(counts, settings, item.offset_ev, item.scale_ev)
    shown = ", ".join(
        f"{item.offset_ev:g} to {item.offset_ev + item.scale_ev * item.size:g} eV"
        for item in file.ranges
    )
    raise ValueError(f"{path.name}: no energy range holds the zero loss at 0 eV (it has {shown})")


def prepare(spectra: LowLossSpectra, clusters: int | None = None) -> Prepared:
    """Align the spectra, leave out those without a sound peak, estimate the noise, cluster.

    Spectra of different settings of the instrument are clustered apart.
    ``clusters`` None chooses as few as keep the zero-loss counts of each within about 10 %. Raises
    ValueError where no pixel has a zero-loss peak.
    """
    alive = without_dead_channels(spectra.counts)
    counts = torch.from_numpy(alive).float()
    pixels = len(counts)
    offset = torch.from_numpy(np.broadcast_to(spectra.offset_ev, pixels).astype(np.float32))
    scale = torch.full((pixels,), spectra.scale_ev)
    peak = PeakFinder()(counts, offset, scale)
    floor = torch.nan_to_num(counts, nan=0.0).kthvalue(counts.shape[1] // 4 + 1, 1).values
    floor = floor.clamp(min=1.0)
    sound = ~peak.edge & (peak.height > _FAINTEST * floor.sqrt()) & (peak.counts > 0)
    if not sound.any():
        raise ValueError(
            f"none of the {pixels} spectra has a zero-loss peak to train on: expected counts, not "
            f"normalised, with a maximum above {_FAINTEST:.0f} between {SEARCH_EV[0]:g} and "
            f"{SEARCH_EV[1]:g} eV, both of its flanks inside the range"
        )
    # A spike of one pixel is not to decide how far the common axis reaches.
    sound &= (peak.width_ev / peak.width_ev[sound].median()).log().abs() < np.log(_ALIKE)
    places, widths = peak.place[sound], peak.width_ev[sound]
    width = float(widths.median())
    below = int(places.min().floor())
    above = int((counts.shape[1] - 1 - places.max()).floor())
    energy: Floats = spectra.scale_ev * np.arange(-below, above + 1, dtype=np.float64)
    aligned = align(
        counts[sound], places, scale[sound], float(energy[0]), spectra.scale_ev, len(energy)
    )
    rows = aligned.double().numpy()
    strength = peak.counts[sound].double().numpy()
    noise = estimate_noise(_some(alive[sound.numpy()], _NOISE_PIXELS), width / spectra.scale_ev)
    logs = np.log(strength)
    settings = spectra.condition[sound.numpy()]
    groups = []
    for setting in np.unique(settings):
        here = settings == setting
        labels = choose_clusters(logs[here]) if clusters is None else cluster(logs[here], clusters)
        for item in range(labels.max() + 1):
            chosen = np.flatnonzero(here)[labels == item]
            groups.append(_mean_of(rows[chosen], strength[chosen], float(setting)))
    return Prepared(
        energy_ev=energy,
        clusters=groups,
        noise=noise,
        width_ev=width,
        widths_ev=(float(widths.min()) * (1.0 - _AROUND), float(widths.max()) * (1.0 + _AROUND)),
        log_counts=(float(logs.min()) - _AROUND, float(logs.max()) + _AROUND),
        used=int(sound.sum()),
        pixels=pixels,
    )


def without_dead_channels(counts: Floats) -> Floats:
    """The counts [pixels, channels] with NaN in channels that are dead or stuck.

    Such a channel holds the same number in every pixel (0, if there is one pixel only), far from
    what the measured channels beside it hold. Where all of them hold that number, as the empty
    tail of a counting detector does, nothing is dead.
    """
    rows = counts[np.isfinite(counts).any(1)]
    if len(rows) == 0:
        return counts
    held = rows[0]
    stuck = (rows == held).all(0) & ((held == 0) | (len(rows) > 1))
    alive = np.flatnonzero(~stuck & np.isfinite(rows).any(0))
    if not stuck.any() or len(alive) == 0:
        return counts
    mean = np.nanmean(rows[:, alive], 0)
    after = np.searchsorted(alive, np.arange(len(held)))
    beside = np.stack([mean[np.maximum(after - 1, 0)], mean[np.minimum(after, len(mean) - 1)]])
    low, high = beside.min(0), beside.max(0)
    dead = (held < low - _DEAD * np.sqrt(np.maximum(low, 1.0))) & stuck
    dead |= (held > high + _DEAD * np.sqrt(np.maximum(high, 1.0))) & stuck
    return np.where(dead, np.nan, counts)


def _some(rows: Floats, most: int) -> Floats:
    return rows[:: -(-len(rows) // most)]


def _mean_of(rows: Floats, strength: Floats, setting: float) -> Cluster:
    """Mean spectrum at the mean zero-loss counts, and some of the pixels scaled to it."""
    good = np.isfinite(rows)
    weights = np.where(good, strength[:, None], 0.0).sum(0)
    mean = np.where(good, rows, 0.0).sum(0) / np.maximum(weights, 1e-9)
    mean = np.where(weights > 0, mean, np.nan) * strength.mean()
    chosen = slice(None, None, -(-len(rows) // _KEPT_PIXELS))
    scaled = rows[chosen] / strength[chosen, None] * strength.mean()
    return Cluster(mean, scaled, float(np.log(strength.mean())), len(rows), setting)
