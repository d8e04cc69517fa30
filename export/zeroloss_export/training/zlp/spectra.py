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
from zeroloss_export.networks.low_loss.peak import PeakFinder

from .clusters import choose_clusters, cluster
from .noise import Floats, NoiseModel, estimate_noise
from .points import Cluster

_FAINTEST: Final = 30.0
"""Zero-loss height over the noise from which a pixel is worth training on."""
_KEPT_PIXELS: Final = 512
_NOISE_PIXELS: Final = 256


@dataclass(frozen=True, slots=True)
class LowLossSpectra:
    """Low-loss spectra of one axis: ``counts`` [pixels, channels], NaN where not measured.

    ``condition`` [pixels] is the value of an instrument setting, 0 where none is an input.
    """

    counts: Floats
    condition: Floats
    offset_ev: float
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
    without, beam_kev and dwell_s are read from the files. Raises ValueError where no range holds
    0 eV, the files differ in their energy axes, or a setting is unknown.
    """
    if values is not None and len(values) != len(paths):
        raise ValueError(f"{len(values)} values of {condition} for {len(paths)} files")
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
                "one axis"
            )
    return LowLossSpectra(
        np.concatenate([item.counts for item in read]),
        np.concatenate([item.condition for item in read]),
        first.offset_ev,
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
    counts = torch.from_numpy(spectra.counts).float()
    pixels = len(counts)
    offset = torch.full((pixels,), spectra.offset_ev)
    scale = torch.full((pixels,), spectra.scale_ev)
    peak = PeakFinder()(counts, offset, scale)
    floor = torch.nan_to_num(counts, nan=0.0).kthvalue(counts.shape[1] // 4 + 1, 1).values
    floor = floor.clamp(min=1.0)
    sound = ~peak.edge & (peak.height > _FAINTEST * floor.sqrt()) & (peak.counts > 0)
    if not sound.any():
        raise ValueError(f"none of the {pixels} spectra has a zero-loss peak to train on")
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
    noise = estimate_noise(
        _some(spectra.counts[sound.numpy()], _NOISE_PIXELS), width / spectra.scale_ev
    )
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
        widths_ev=(float(widths.min()), float(widths.max())),
        log_counts=(float(logs.min()), float(logs.max())),
        used=int(sound.sum()),
        pixels=pixels,
    )


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
