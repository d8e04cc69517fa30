"""Materials with a known dielectric function, and the energy losses they cause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.physics.constants import ELECTRON_REST_EV

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

BOHR_NM: Final = 0.0529177210903
_REACH_EV: Final = 4000.0
"""The loss function is integrated so far: what lies above adds little to 1 / eps below 100 eV."""
_STEP_EV: Final = 0.02


@dataclass(frozen=True, slots=True)
class Oscillator:
    """Lorentz oscillator: ``strength`` and ``width`` in eV, ``energy`` 0 for free electrons."""

    energy_ev: float
    width_ev: float
    strength_ev: float


@dataclass(frozen=True, slots=True)
class Material:
    """A semiconductor of known band gap, plasmons and refractive index.

    Its loss function Im(-1/eps) is that of a Drude-Lorentz dielectric function, cut off below and
    near the gap, plus the onset A (E - gap)^exponent above it. Re(1/eps) follows by Kramers and
    Kronig's relation, scaled so that the static refractive index is ``refractive_index``; so the
    dielectric function belongs exactly to the losses (Egerton, Electron Energy-Loss Spectroscopy
    in the Electron Microscope, 3rd ed. (2011), sections 3.3 and 4.2).

    ``onset`` is the height that the onset would have ``reach_ev`` above the gap, in units of the
    highest plasmon. Within a third of ``reach_ev`` the loss function is a power law to 2 %.
    """

    name: str
    gap_ev: float
    exponent: float
    onset: float
    reach_ev: float
    refractive_index: float
    oscillators: tuple[Oscillator, ...]

    def loss_function(self, energy_ev: Floats) -> Floats:
        """Im(-1/eps) at energies of any shape."""
        unscaled, missing = self._unscaled(energy_ev), 1 - self.refractive_index**-2
        return unscaled * (missing / self._sum_rule())

    def dielectric_function(self, energy_ev: Floats) -> Complex:
        """eps = eps1 + i eps2 at energies above 0, up to some 100 eV."""
        grid = _grid(_STEP_EV)
        loss = self.loss_function(grid)
        # The Hilbert transform of an odd function by FFT: causal in time means one-sided.
        size = 1 << (2 * len(grid)).bit_length()
        odd = np.zeros(size)
        odd[: len(grid)] = loss
        odd[-len(grid) :] = -loss[::-1]
        time = np.fft.fft(odd)
        sign = np.sign(np.fft.fftfreq(size))
        real = np.fft.ifft(-1j * sign * time).real[: len(grid)]
        inverse = 1 - np.interp(energy_ev, grid, -real)
        return np.reciprocal(inverse - 1j * self.loss_function(energy_ev))

    def _unscaled(self, energy_ev: Floats) -> Floats:
        energy = np.asarray(energy_ev, np.float64)
        above = np.clip((energy - self.gap_ev) / self.reach_ev, 0.0, None)
        plasmons = self._drude_lorentz(energy) / self._highest()
        onset = self.onset * above**self.exponent * np.exp(-((0.8 * above) ** 4))
        total: Floats = plasmons * -np.expm1(-((0.8 * above) ** 5)) + onset
        return total

    def _drude_lorentz(self, energy: Floats) -> Floats:
        eps = np.ones(energy.shape, np.complex128)
        for item in self.oscillators:
            eps += item.strength_ev**2 / (
                item.energy_ev**2 - energy**2 - 1j * item.width_ev * energy + 1e-12
            )
        loss: Floats = np.asarray((-1 / eps).imag)
        return loss

    def _highest(self) -> float:
        return float(self._drude_lorentz(_grid(0.1, 100.0)).max())

    def _sum_rule(self) -> float:
        """(2 / pi) times the integral of the unscaled loss function over E, divided by E."""
        grid = _grid(_STEP_EV)
        return float(2 / math.pi * (self._unscaled(grid) / grid).sum() * _STEP_EV)


@dataclass(frozen=True, slots=True)
class Beam:
    """What decides how strongly a material scatters into the spectrometer."""

    beam_kev: float
    collection_mrad: float

    def angular_factor(self, energy_ev: Floats) -> Floats:
        """ln(1 + (beta / theta_E)^2), with the characteristic angle theta_E = E / (gamma m v^2)."""
        with np.errstate(divide="ignore"):
            theta = np.abs(energy_ev) / self._gamma_m_v2()
            factor: Floats = np.log1p((1e-3 * self.collection_mrad / theta) ** 2)
        return np.where(energy_ev == 0, 0.0, factor)

    def single_scattering(self, material: Material, energy_ev: Floats) -> Floats:
        """Probability per eV and nm of losing ``energy_ev`` (Egerton, eq. 3.32 and 4.26).

        Bulk losses only: no surface modes, no Cherenkov radiation.
        """
        loss = material.loss_function(energy_ev) * self.angular_factor(energy_ev)
        return loss / (math.pi * BOHR_NM * self._m0_v2())

    def mean_free_path_nm(self, material: Material) -> float:
        """Mean free path of all losses into the collection angle."""
        losses = self.single_scattering(material, _grid(_STEP_EV))
        return float(1 / (losses.sum() * _STEP_EV))

    def _gamma(self) -> float:
        return 1 + 1e3 * self.beam_kev / ELECTRON_REST_EV

    def _m0_v2(self) -> float:
        return float(ELECTRON_REST_EV * (1 - self._gamma() ** -2))

    def _gamma_m_v2(self) -> float:
        return self._gamma() * self._m0_v2()


def _grid(step_ev: float, end_ev: float = _REACH_EV) -> Floats:
    """Middles of the cells of an integral from 0."""
    return step_ev * (np.arange(int(end_ev / step_ev), dtype=np.float64) + 0.5)


SULFIDE: Final = Material(
    name="layered sulfide",
    gap_ev=1.6,
    exponent=1.3,
    onset=0.10,
    reach_ev=4.0,
    refractive_index=3.6,
    oscillators=(
        Oscillator(4.5, 2.5, 8.0),
        Oscillator(7.0, 3.5, 9.0),
        Oscillator(12.0, 8.0, 16.0),
    ),
)
NITRIDE: Final = Material(
    name="nitride",
    gap_ev=3.4,
    exponent=0.5,
    onset=0.15,
    reach_ev=4.0,
    refractive_index=2.4,
    oscillators=(
        Oscillator(8.0, 3.0, 11.0),
        Oscillator(13.0, 6.0, 14.0),
        Oscillator(22.0, 6.0, 6.0),
    ),
)


def draw_material(rng: np.random.Generator, gap_ev: tuple[float, float] = (0.8, 4.0)) -> Material:
    """A random semiconductor with a gap from that range."""
    gap = rng.uniform(*gap_ev)
    first = gap + rng.uniform(2.0, 6.0)
    oscillators = [Oscillator(first, rng.uniform(1.5, 5.0), rng.uniform(5.0, 12.0))]
    while len(oscillators) < 3:
        oscillators.append(
            Oscillator(rng.uniform(8.0, 20.0), rng.uniform(3.0, 10.0), rng.uniform(8.0, 18.0))
        )
    return Material(
        name="random",
        gap_ev=gap,
        exponent=rng.uniform(0.4, 1.8),
        onset=10 ** rng.uniform(-1.7, -0.5),
        reach_ev=rng.uniform(2.5, 6.0),
        refractive_index=rng.uniform(1.6, 4.0),
        oscillators=tuple(oscillators),
    )
