"""Zero-loss peaks of known shape: an asymmetric core, tails that level off, a halo."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Source = Literal["cold field emission", "Schottky", "monochromated"]

REFERENCE_KEV: Final = 200.0
"""Beam energy that a peak's own numbers are for."""
_HALO_END_EV: Final = 150.0


@dataclass(frozen=True, slots=True)
class ZeroLossPeak:
    """The shape of a zero-loss peak, 1 at its maximum at 0 eV.

    A Gaussian core and a tail |E|^-``tail_exponent`` share the maximum (``tail_share`` of it is the
    tail); both have the same half widths, (1 - a) on the left and (1 + a) on the right for the
    ``asymmetry`` a. From ``halo_from_ev`` on a flatter power law of ``halo_exponent`` outweighs the
    tail, so that the local exponent falls with energy as measured ones do (3.7 at 1 eV, 2.5 at
    3.5 eV and about 1 at 10 eV for a peak of 0.45 eV). ``foot`` times exp(-|E| / ``foot_ev``) is
    added: electrons that lost energy to phonons or were scattered inside the spectrometer.
    """

    fwhm_ev: float = 0.45
    asymmetry: float = 0.15
    tail_share: float = 0.9
    tail_exponent: float = 4.2
    halo_from_ev: float = 3.7
    halo_exponent: float = 0.9
    foot: float = 0.0
    foot_ev: float = 1.0

    def __post_init__(self) -> None:
        good = (
            self.fwhm_ev > 0
            and abs(self.asymmetry) < 1
            and 0 < self.tail_share < 1
            and self.tail_exponent > self.halo_exponent >= 0
            and self.halo_from_ev > self.fwhm_ev
            and self.foot >= 0
            and self.foot_ev > 0
        )
        if not good:
            raise ValueError(
                f"{self} is no zero-loss peak: expected a width above 0, an asymmetry inside "
                "(-1, 1), a tail share inside (0, 1), a tail steeper than its halo and a halo "
                "that begins outside the width"
            )

    def density(self, energy_ev: ArrayLike) -> Floats:
        """Relative counts at energies of any shape, in eV from the maximum."""
        energy = np.asarray(energy_ev, np.float64)
        sign = np.where(energy < 0, -1.0, 1.0)
        half = self.fwhm_ev / 2 * (1 + sign * self.asymmetry)
        square = (energy / half) ** 2
        core = np.exp(-math.log(2) * square)
        tail = (1 + square * self._steepness) ** (-self.tail_exponent / 2)
        halo = self._halo(energy)
        shape: Floats = (1 - self.tail_share) * core + self.tail_share * tail + halo
        shape += self.foot * np.exp(-np.abs(energy) / self.foot_ev)
        return shape / (1 + self._halo(np.zeros(())) + self.foot)

    def local_exponent(self, energy_ev: ArrayLike) -> Floats:
        """-d ln I / d ln E at energies in eV, by a difference over 2 %."""
        energy = np.asarray(energy_ev, np.float64)
        low, high = self.density(0.99 * energy), self.density(1.01 * energy)
        return -np.log(high / low) / math.log(1.01 / 0.99)

    def at_beam(self, beam_kev: float) -> ZeroLossPeak:
        """The same microscope at another beam energy (no model of a real one, only smooth).

        A lower energy widens the peak a little, moves the halo inwards and steepens the tail.
        Raises ValueError for a beam energy that is not above 0.
        """
        if not beam_kev > 0:
            raise ValueError(f"beam energy {beam_kev} keV: expected a value above 0")
        ratio = beam_kev / REFERENCE_KEV
        return dataclasses.replace(
            self,
            fwhm_ev=self.fwhm_ev * ratio**-0.12,
            halo_from_ev=self.halo_from_ev * ratio**0.25,
            tail_exponent=self.halo_exponent
            + (self.tail_exponent - self.halo_exponent) * ratio**-0.1,
        )

    @property
    def _steepness(self) -> float:
        return float(2 ** (2 / self.tail_exponent) - 1)

    def _halo(self, energy: Floats) -> Floats:
        """A power law that meets the tail at ``halo_from_ev``, flat under the peak."""
        there = self.halo_from_ev
        right = self.fwhm_ev / 2 * (1 + self.asymmetry)
        tail = (1 + (there / right) ** 2 * self._steepness) ** (-self.tail_exponent / 2)
        bend = self.fwhm_ev**2
        power = ((there**2 + bend) / (energy**2 + bend)) ** (self.halo_exponent / 2)
        halo: Floats = self.tail_share * tail * power * np.exp(-np.abs(energy) / _HALO_END_EV)
        return halo


@dataclass(frozen=True, slots=True)
class _Ranges:
    fwhm_ev: tuple[float, float]
    asymmetry: tuple[float, float]
    tail_exponent: tuple[float, float]


_SOURCES: Final[dict[Source, _Ranges]] = {
    "cold field emission": _Ranges((0.3, 0.6), (0.15, 0.35), (3.2, 4.6)),
    "Schottky": _Ranges((0.6, 1.0), (0.0, 0.2), (3.0, 4.6)),
    "monochromated": _Ranges((0.05, 0.2), (-0.08, 0.08), (2.6, 4.0)),
}


def draw_peak(rng: np.random.Generator, source: Source | None = None) -> ZeroLossPeak:
    """A random zero-loss peak of that electron source, or of any."""
    kinds: tuple[Source, ...] = tuple(_SOURCES)
    ranges = _SOURCES[source or kinds[rng.integers(len(kinds))]]
    fwhm = math.exp(rng.uniform(*np.log(ranges.fwhm_ev)))
    return ZeroLossPeak(
        fwhm_ev=fwhm,
        asymmetry=rng.uniform(*ranges.asymmetry),
        tail_share=1 - 10 ** rng.uniform(-2.0, -0.2),
        tail_exponent=rng.uniform(*ranges.tail_exponent),
        halo_from_ev=fwhm * 10 ** rng.uniform(0.75, 1.4),
        halo_exponent=rng.uniform(0.6, 1.5),
        foot=10 ** rng.uniform(-4.5, -3.0) if rng.random() < 0.5 else 0.0,
        foot_ev=fwhm * rng.uniform(1.5, 4.0),
    )
