"""Simulated low-loss spectra and spectrum images whose zero-loss peak is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from zeroloss_export.simulate.dielectric import (
    NITRIDE,
    SULFIDE,
    Beam,
    Material,
    draw_material,
)
from zeroloss_export.simulate.zero_loss_peak import Source, ZeroLossPeak, draw_peak

Floats = NDArray[np.float64]

_BLOCK: Final = 128
VACUUM: Final = -1
"""Index of the material where there is none."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A microscope, its spectrometer and its detector.

    The energy axis as written in a file is ``offset_ev + k * scale_ev``. ``electrons`` is the mean
    number of electrons that hit the detector in a pixel. A detected electron counts ``gain``,
    spread over neighbouring channels by a Gaussian of ``point_spread`` channels (standard
    deviation), which correlates their noise; reading adds noise of ``readout`` counts.
    ``misalignment_ev`` is where the zero-loss peak of the first pixel lies, ``drift_ev`` the
    standard deviation of its walk from one pixel to the next, ``flicker`` the relative standard
    deviation of the beam current.
    """

    peak: ZeroLossPeak = field(default_factory=ZeroLossPeak)
    beam: Beam = field(default_factory=lambda: Beam(200.0, 20.0))
    convergence_mrad: float = 10.0
    offset_ev: float = -4.0
    scale_ev: float = 0.05
    channels: int = 1024
    electrons: float = 2e6
    gain: float = 4.0
    point_spread: float = 0.7
    readout: float = 15.0
    misalignment_ev: float = 0.0
    drift_ev: float = 0.004
    flicker: float = 0.01
    dwell_s: float = 0.05

    def __post_init__(self) -> None:
        if not (self.scale_ev > 0 and self.channels >= 16 and self.electrons > 0 < self.gain):
            raise ValueError(
                "expected a dispersion, electrons and a gain above 0 and at least 16 channels, "
                f"got {self.scale_ev} eV, {self.electrons}, {self.gain} and {self.channels}"
            )
        if min(self.point_spread, self.readout, self.drift_ev, self.flicker) < 0:
            raise ValueError("point spread, readout noise, drift and flicker are 0 or more")

    def at_beam(self, beam_kev: float) -> Instrument:
        """The same instrument at another beam energy: another peak, other mean free paths."""
        beam = dataclasses.replace(self.beam, beam_kev=beam_kev)
        return dataclasses.replace(self, beam=beam, peak=self.peak.at_beam(beam_kev))

    @property
    def energy_ev(self) -> Floats:
        """The axis as written [channels]."""
        return self.offset_ev + self.scale_ev * np.arange(self.channels, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class LowLossScan:
    """Counts [rows, columns, channels] float32 with everything that is true about them.

    ``zero_loss`` and ``inelastic`` [rows, columns, channels] are expected counts; their sum is the
    mean of ``counts``. All that follows is [rows, columns]: ``shift_ev`` is where the zero-loss
    maximum lies on the written axis; ``material`` an index into ``materials`` or ``VACUUM``;
    ``thickness`` is t / lambda of all losses, in or beyond the range, ``thickness_nm`` the same in
    nm; ``gap_ev`` and ``exponent`` are NaN in vacuum.
    """

    instrument: Instrument
    materials: tuple[Material, ...]
    counts: NDArray[np.float32]
    zero_loss: NDArray[np.float32]
    inelastic: NDArray[np.float32]
    shift_ev: Floats
    material: NDArray[np.int64]
    thickness: Floats
    thickness_nm: Floats
    gap_ev: Floats
    exponent: Floats

    @property
    def variance(self) -> Floats:
        """Variance [rows, columns, channels] of the noise."""
        mean = self.zero_loss.astype(np.float64) + self.inelastic
        return noise_variance(self.instrument, mean)


def noise_variance(instrument: Instrument, mean: Floats) -> Floats:
    """Variance of channels of that mean: counting, smoothed by the point spread, and readout."""
    smoothing = 1.0
    if instrument.point_spread > 0:
        spike = np.zeros(129)
        spike[64] = 1.0
        smoothing = float((gaussian_filter1d(spike, instrument.point_spread) ** 2).sum())
    variance: Floats = instrument.gain * smoothing * mean + instrument.readout**2
    return variance


def simulate(
    seed: int,
    instrument: Instrument,
    thickness: Floats,
    material: NDArray[np.int64],
    materials: Sequence[Material],
) -> LowLossScan:
    """A scan of given ``thickness`` (t / lambda) and ``material`` (index), both [rows, columns].

    Losses are scattered as often as Poisson's statistics have it: in Fourier space the spectrum is
    Z exp(t/lambda (s - 1)) for the zero-loss peak Z and the normalised single losses s (Egerton,
    Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011), section 4.1). The
    same seed gives the same scan. Raises ValueError for maps of different shapes, negative
    thickness or a material that is not there.
    """
    if thickness.ndim != 2 or thickness.shape != material.shape:
        raise ValueError(
            f"thickness {thickness.shape} and material {material.shape}: expected two maps of one "
            "shape [rows, columns]"
        )
    if not (thickness >= 0).all():
        raise ValueError("expected a thickness of 0 or more in every pixel")
    if material.min() < VACUUM or material.max() >= len(materials):
        raise ValueError(f"expected materials from {VACUUM} to {len(materials) - 1}")
    rng = np.random.default_rng(seed)
    shape = thickness.shape
    inside = material != VACUUM
    depth = np.where(inside, thickness, 0.0)
    shift = instrument.misalignment_ev + _drift(rng, instrument, shape)
    electrons = instrument.electrons * (1 + instrument.flicker * rng.standard_normal(shape))
    elastic, lost = _mean_counts(
        instrument, depth.ravel(), material.ravel(), shift.ravel(), electrons.ravel(), materials
    )
    counts = _detect(rng, instrument, elastic, lost)
    whole = (*shape, instrument.channels)
    path = np.array([instrument.beam.mean_free_path_nm(item) for item in materials] or [np.nan])
    gap = np.array([item.gap_ev for item in materials] or [np.nan])
    exponent = np.array([item.exponent for item in materials] or [np.nan])
    return LowLossScan(
        instrument=instrument,
        materials=tuple(materials),
        counts=counts.reshape(whole),
        zero_loss=elastic.reshape(whole),
        inelastic=lost.reshape(whole),
        shift_ev=shift,
        material=material,
        thickness=depth,
        thickness_nm=np.where(inside, depth * path[material], 0.0),
        gap_ev=np.where(inside, gap[material], np.nan),
        exponent=np.where(inside, exponent[material], np.nan),
    )


def vacuum_scan(
    seed: int, shape: tuple[int, int] = (8, 8), instrument: Instrument | None = None
) -> LowLossScan:
    """A scan without a specimen: zero-loss peaks only."""
    empty = np.full(shape, VACUUM)
    return simulate(seed, instrument or Instrument(), np.zeros(shape), empty, ())


def specimen_scan(
    seed: int,
    shape: tuple[int, int] = (32, 32),
    instrument: Instrument | None = None,
    materials: tuple[Material, Material] = (SULFIDE, NITRIDE),
    thickness: tuple[float, float] = (0.1, 0.8),
) -> LowLossScan:
    """A flake with vacuum around it: a thickness wedge from left to right, two materials.

    The upper half is the first material, the lower half the second. t / lambda rises linearly
    between the two values of ``thickness`` inside a disc of 0.8 of the scan's extent.
    """
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    y, x = (y + 0.5) / rows, (x + 0.5) / columns
    inside = np.hypot(2 * y - 1, 2 * x - 1) < 0.8
    low, high = thickness
    wedge = low + (high - low) * np.clip((x - 0.1) / 0.8, 0.0, 1.0)
    material = np.where(inside, (y > 0.5).astype(np.int64), VACUUM)
    return simulate(seed, instrument or Instrument(), wedge * inside, material, materials)


def draw_instrument(rng: np.random.Generator, source: Source | None = None) -> Instrument:
    """A random instrument that resolves its own zero-loss peak (six channels or more)."""
    peak = draw_peak(rng, source)
    fine = peak.fwhm_ev / rng.uniform(6.0, 20.0)
    channels = int(rng.integers(800, 2049))
    # A range that shows the tail and a gap: at least 12 eV where the resolution allows it.
    scale = max(fine, min(14.0 / channels, peak.fwhm_ev / 6))
    return Instrument(
        peak=peak,
        beam=Beam(float(rng.choice([60.0, 80.0, 200.0, 300.0])), rng.uniform(10.0, 40.0)),
        offset_ev=-rng.uniform(4.0, 12.0) * peak.fwhm_ev,
        scale_ev=scale,
        channels=channels,
        electrons=10 ** rng.uniform(5.8, 7.3),
        gain=rng.uniform(1.0, 8.0),
        point_spread=rng.uniform(0.3, 1.2),
        readout=rng.uniform(3.0, 40.0),
        drift_ev=0.05 * peak.fwhm_ev * rng.random(),
    )


def random_scan(seed: int, shape: tuple[int, int] = (1, 8)) -> LowLossScan:
    """Pixels of one random material in a random instrument, t / lambda within 30 %."""
    rng = np.random.default_rng(seed)
    instrument = draw_instrument(rng)
    # Where the tail drowns in noise nothing hides a gap; inside the peak's core nobody finds one.
    peak, energy = instrument.peak, instrument.energy_ev
    low = 2.5 * peak.fwhm_ev
    area = float(peak.density(energy).sum())
    tail = instrument.gain * instrument.electrons / area * peak.density(energy)
    seen = energy[tail > 4.0 * np.sqrt(noise_variance(instrument, tail))]
    high = min(4.0, 0.4 * float(energy[-1]), float(seen.max(initial=0.0)))
    material = draw_material(rng, (low, max(1.1 * low, high)))
    mean = 10 ** rng.uniform(-1.3, 0.0)
    thickness = mean * rng.uniform(0.85, 1.15, shape)
    return simulate(seed, instrument, thickness, np.zeros(shape, np.int64), (material,))


def _drift(rng: np.random.Generator, instrument: Instrument, shape: tuple[int, int]) -> Floats:
    steps = instrument.drift_ev * rng.standard_normal(shape[0] * shape[1])
    walk: Floats = np.cumsum(steps).reshape(shape)
    return walk


def _mean_counts(
    instrument: Instrument,
    thickness: Floats,
    material: NDArray[np.int64],
    shift_ev: Floats,
    electrons: Floats,
    materials: Sequence[Material],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Expected counts [pixels, channels] of electrons without and with losses."""
    scale, channels = instrument.scale_ev, instrument.channels
    lead = max(0, math.ceil(-instrument.offset_ev / scale))
    # Losses are followed twice as far as the range goes; the rest leaves it for good.
    size = 1 << (2 * (channels + lead)).bit_length()
    loss_ev = scale * np.arange(size // 2, dtype=np.float64)
    single = [instrument.beam.single_scattering(item, loss_ev) * scale for item in materials]
    lambdas = [instrument.beam.mean_free_path_nm(item) for item in materials]
    transforms = [np.fft.rfft(s * p, size) for s, p in zip(single, lambdas, strict=True)]
    wide = np.arange(-lead, channels + lead)
    axis = instrument.offset_ev + scale * wide
    area = float(instrument.peak.density(np.arange(-20.0, 60.0, scale)).sum())
    elastic = np.empty((len(thickness), channels), np.float32)
    lost = np.zeros_like(elastic)
    for first in range(0, len(thickness), _BLOCK):
        rows = slice(first, first + _BLOCK)
        peak = instrument.peak.density(axis - shift_ev[rows, None]) * electrons[rows, None] / area
        depth = thickness[rows]
        none = peak * np.exp(-depth)[:, None]
        blurred = _blur(instrument, none)
        elastic[rows] = instrument.gain * blurred[:, lead : lead + channels]
        spectrum = np.fft.rfft(none, size)
        for index, transform in enumerate(transforms):
            here = material[rows] == index
            if not here.any():
                continue
            grown = spectrum[here] * np.expm1(depth[here, None] * transform)
            scattered = np.fft.irfft(grown, size)[:, : len(axis)]
            blurred = _blur(instrument, scattered)[:, lead : lead + channels]
            lost[rows][here] = instrument.gain * np.clip(blurred, 0.0, None)
    return elastic, lost


def _detect(
    rng: np.random.Generator,
    instrument: Instrument,
    elastic: NDArray[np.float32],
    lost: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Counts: the mean is blurred already, so only the noise of its electrons is blurred here."""
    counts = np.empty_like(elastic)
    for first in range(0, len(elastic), _BLOCK):
        rows = slice(first, first + _BLOCK)
        mean = (elastic[rows].astype(np.float64) + lost[rows]) / instrument.gain
        noise = instrument.gain * _blur(instrument, rng.poisson(mean) - mean)
        noise += instrument.readout * rng.standard_normal(mean.shape)
        counts[rows] = instrument.gain * mean + noise
    return counts


def _blur(instrument: Instrument, values: Floats) -> Floats:
    if instrument.point_spread == 0:
        return values
    blurred: Floats = gaussian_filter1d(values, instrument.point_spread, axis=-1, mode="nearest")
    return blurred
