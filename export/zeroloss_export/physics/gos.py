"""Generalised oscillator strengths of a subshell from bound and continuum Dirac waves.

df/dE(q, E) = N (2 E / q^2) sum over final kappa' and multipoles L of
(2 j' + 1) (2 L + 1) (j L j'; 1/2 0 -1/2)^2 |integral of (P P' + Q Q') j_L(q r) dr|^2
for N electrons: the definition of M. Inokuti, Rev. Mod. Phys. 43 (1971) 297, with exp(i q r)
expanded in multipoles between central-field Dirac orbitals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.special import spherical_jn

from zeroloss_export.physics.atom import Atom, BoundOrbital
from zeroloss_export.physics.configuration import Orbital, kappa, spin_orbit_pair
from zeroloss_export.physics.constants import HARTREE_EV
from zeroloss_export.physics.continuum import RadialMesh, continuum

FloatArray = NDArray[np.float64]

MULTIPOLES: Final = 16
"""Largest multipole; the Bethe ridge of loosely bound orbitals at 100 mrad needs this many."""
_NEGLIGIBLE_DENSITY: Final = 1e-9
_LARGEST_N: Final = 6


@dataclass(frozen=True, slots=True)
class Line:
    """Dipole transition of a subshell into a bound, at least partly empty orbital.

    ``final`` is (n, l, 2j); ``offset_ev`` the transition energy minus the binding energy of the
    subshell (negative); ``strength`` the oscillator strength times the fraction of holes.
    """

    final: Orbital
    offset_ev: float
    strength: float


@dataclass(frozen=True, eq=False)
class SubshellGos:
    """df/dE [momentum, energy] in 1/eV, the binding energy, and the lines below the edge."""

    binding_ev: float
    gos: FloatArray
    lines: tuple[Line, ...]


class GosSolver:
    """Oscillator strengths of one element over fixed grids.

    energy_ev [energy] of the ejected electron above the onset, momentum_au [momentum] in 1/bohr.
    The mesh and the Bessel functions are shared by all atoms (with or without a core hole).
    """

    def __init__(self, atomic_number: int, energy_ev: FloatArray, momentum_au: FloatArray) -> None:
        self._energy = energy_ev / HARTREE_EV
        self._momentum = momentum_au
        self._mesh = RadialMesh(atomic_number, float(self._energy.max()))
        self._bessel = np.empty((MULTIPOLES + 1, len(momentum_au), 0))

    def solve(self, atom: Atom, orbitals: tuple[Orbital, ...]) -> list[SubshellGos]:
        """One result per occupied orbital (n, l, 2j) of the atom, all in the atom's own field."""
        bound = [atom.orbitals[orbital] for orbital in orbitals]
        extents = [self._extent(atom, state) for state in bound]
        self._extend_bessel(max(extents))
        largest_l = max(ell for _, ell, _ in orbitals) + MULTIPOLES
        symmetries = [(ell, j) for ell in range(largest_l + 1) for j in spin_orbit_pair(ell)]
        waves = continuum(
            atom,
            self._mesh,
            self._energy,
            np.array([kappa(ell, j) for ell, j in symmetries]),
            max(extents),
        )
        results = []
        for state, extent in zip(bound, extents, strict=True):
            large, small = self._on_mesh(atom, state, extent)
            total = np.zeros((len(self._momentum), len(self._energy)))
            for i, (ell, twice_j) in enumerate(symmetries):
                multipoles = allowed_multipoles(state.quantum, ell, twice_j)
                if not multipoles:
                    continue
                product = (
                    waves.large[i, :, :extent] * large + waves.small[i, :, :extent] * small
                ).T
                for multipole in multipoles:
                    radial = self._bessel[multipole, :, :extent] @ product
                    total += angular_weight(state.quantum[2], multipole, twice_j) * radial**2
            electrons = state.quantum[2] + 1
            transition = self._energy - state.energy
            gos = electrons * 2 * transition / self._momentum[:, None] ** 2 * total / HARTREE_EV
            results.append(SubshellGos(-state.energy * HARTREE_EV, gos, bound_lines(atom, state)))
        return results

    def _extent(self, atom: Atom, state: BoundOrbital) -> int:
        """Number of mesh points within which the orbital has its density."""
        density = state.large**2
        last = np.flatnonzero(density > _NEGLIGIBLE_DENSITY * density.max())[-1]
        return int(np.searchsorted(self._mesh.radius, atom.radius[last]))

    def _on_mesh(
        self, atom: Atom, state: BoundOrbital, extent: int
    ) -> tuple[FloatArray, FloatArray]:
        x = np.log(np.clip(self._mesh.radius[:extent], atom.radius[0], atom.radius[-1]))
        waves = CubicSpline(np.log(atom.radius), np.stack((state.large, state.small), -1))(x)
        weighted = waves * self._mesh.weights[:extent, None]
        return weighted[:, 0], weighted[:, 1]

    def _extend_bessel(self, extent: int) -> None:
        done = self._bessel.shape[-1]
        if extent <= done:
            return
        argument = self._momentum[:, None] * self._mesh.radius[done:extent]
        fresh = np.stack([spherical_jn(order, argument) for order in range(MULTIPOLES + 1)])
        fresh[0] -= 1  # initial and final states are orthogonal: keeps the dipole limit exact
        self._bessel = np.concatenate((self._bessel, fresh), axis=-1)


def bound_lines(atom: Atom, state: BoundOrbital) -> tuple[Line, ...]:
    """Dipole transitions from an orbital to bound orbitals with holes, up to n = 6.

    Oscillator strength N (2 E / 3) (2 j' + 1) (j 1 j'; 1/2 0 -1/2)^2 R^2 of the full subshell, R
    the integral of (P P' + Q Q') r dr, times the fraction of holes of the final orbital.
    """
    _, ell, twice_j = state.quantum
    lines = []
    for final_l in (ell - 1, ell + 1):
        for final_j in spin_orbit_pair(final_l) if final_l >= 0 else ():
            if abs(twice_j - final_j) > 2:
                continue
            for final in atom.bound_states(final_l, final_j, max(final_l + 2, _LARGEST_N)):
                holes = 1 - atom.occupation.get(final.quantum, 0.0) / (final_j + 1)
                if holes < 1e-6 or final.energy > 0 or final.quantum == state.quantum:
                    continue
                radial = atom.integrate(
                    (state.large * final.large + state.small * final.small) * atom.radius
                )
                weight = angular_weight(twice_j, 1, final_j) / 9
                transition = final.energy - state.energy
                strength = (twice_j + 1) * 2 * transition * weight * radial**2 * holes
                lines.append(Line(final.quantum, final.energy * HARTREE_EV, strength))
    return tuple(lines)


def allowed_multipoles(initial: Orbital, final_l: int, final_j: int) -> list[int]:
    """Multipoles that connect two symmetries: parity and the triangle of j."""
    _, ell, twice_j = initial
    return [
        multipole
        for multipole in range(MULTIPOLES + 1)
        if (ell + multipole + final_l) % 2 == 0
        and abs(twice_j - final_j) <= 2 * multipole <= twice_j + final_j
    ]


@cache
def angular_weight(twice_j: int, multipole: int, final_j: int) -> float:
    """(2 j' + 1) (2 L + 1) (j L j'; 1/2 0 -1/2)^2, summed over final, averaged over initial m."""
    return (final_j + 1) * (2 * multipole + 1) * _three_j(twice_j, 2 * multipole, final_j) ** 2


def _three_j(j1: int, j2: int, j3: int) -> float:
    """Wigner 3j symbol (j1 j2 j3; 1/2 0 -1/2) of doubled arguments by Racah's formula."""
    m1, m2, m3 = 1, 0, -1

    def f(doubled: int) -> int:
        return factorial(doubled // 2)

    triangle = f(j1 + j2 - j3) * f(j1 - j2 + j3) * f(j2 + j3 - j1) / f(j1 + j2 + j3 + 2)
    projections = f(j1 + m1) * f(j1 - m1) * f(j2 + m2) ** 2 * f(j3 + m3) * f(j3 - m3)
    first = max(0, j2 - j3 - m1, j1 + m2 - j3)
    last = min(j1 + j2 - j3, j1 - m1, j2 + m2)
    total = sum(
        (-1) ** (t // 2)
        / (
            f(t) * f(j3 - j2 + t + m1) * f(j3 - j1 + t - m2)
            * f(j1 + j2 - j3 - t) * f(j1 - t - m1) * f(j2 - t + m2)
        )
        for t in range(first, last + 1, 2)
    )  # fmt: skip
    return float((-1) ** ((j1 - j2 - m3) // 2) * np.sqrt(triangle * projections) * total)
