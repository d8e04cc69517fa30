"""Self-consistent Dirac-Slater atom in a B-spline basis.

The radial Dirac equation is solved as a matrix problem in B-splines with restricted kinetic balance
(R. E. Stanton, S. Havriliak, J. Chem. Phys. 81 (1984) 1910), so there are no spurious states.
Exchange is Slater's local one (J. C. Slater, Phys. Rev. 81 (1951) 385) with the tail of R. Latter
(Phys. Rev. 99 (1955) 510): no electron sees less than charge one. Hartree atomic units throughout;
the nucleus is a point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, CubicSpline
from scipy.linalg import eigh

from zeroloss_export.physics.configuration import Orbital, ground_state, kappa
from zeroloss_export.physics.constants import SPEED_OF_LIGHT_AU as C

FloatArray = NDArray[np.float64]

BOX_RADIUS: Final = 40.0
_DEGREE: Final = 7
_KNOTS: Final = 70
_GRID_POINTS: Final = 3000
_MIXING: Final = 0.4
_MAX_ITERATIONS: Final = 150
_TOLERANCE: Final = 1e-4


class NotConvergedError(RuntimeError):
    """The self-consistent field did not settle."""


@dataclass(frozen=True, eq=False)
class BoundOrbital:
    """One bound state on the atom's radial grid.

    ``energy`` in Hartree (negative when bound), ``large`` and ``small`` [radius] the radial
    components P and Q with the integral of P^2 + Q^2 over r equal to one.
    """

    quantum: Orbital
    energy: float
    large: FloatArray
    small: FloatArray


class _Basis:
    """B-splines that vanish at both ends, with derivatives, on a set of radii."""

    def __init__(self, knots: FloatArray, radius: FloatArray) -> None:
        count = len(knots) - _DEGREE - 1
        spline = BSpline(knots, np.eye(count), _DEGREE)
        self.value: FloatArray = spline(radius)[:, 1:-1]
        self.slope: FloatArray = spline.derivative()(radius)[:, 1:-1]
        self.over_r: FloatArray = self.value / radius[:, None]


class Atom:
    """An atom in its self-consistent field, solved on construction.

    ``hole`` removes one electron from that orbital. The potential is then the one an additional
    electron feels, its tail again that of charge one. ``start`` gives an already solved atom of
    the same element to begin from. Raises NotConvergedError.

    radius       [radius]  logarithmic radial grid in bohr
    potential_r  [radius]  potential energy times radius
    orbitals               the occupied orbitals
    """

    def __init__(
        self, atomic_number: int, hole: Orbital | None = None, start: Atom | None = None
    ) -> None:
        self.atomic_number = atomic_number
        self.occupation = ground_state(atomic_number)
        if hole is not None:
            self.occupation[hole] -= 1.0
        breaks = np.concatenate(([0.0], np.geomspace(1e-4 / atomic_number, BOX_RADIUS, _KNOTS)))
        knots = np.concatenate((np.zeros(_DEGREE), breaks, np.full(_DEGREE, BOX_RADIUS)))
        nodes, weights = np.polynomial.legendre.leggauss(_DEGREE + 2)
        width = np.diff(breaks)[:, None]
        self._points: FloatArray = (breaks[:-1, None] + width * (nodes + 1) / 2).ravel()
        self._weights: FloatArray = (width / 2 * weights).ravel()
        self._quadrature = _Basis(knots, self._points)
        self.radius: FloatArray = np.geomspace(1e-6, 0.9999 * BOX_RADIUS, _GRID_POINTS)
        self._log_step = float(np.log(self.radius[1] / self.radius[0]))
        self._grid = _Basis(knots, self.radius)
        if start is None:
            scaled = self.radius * atomic_number ** (1 / 3) / 0.8853  # Thomas-Fermi radius
            self.potential_r = -np.maximum(
                1.0, atomic_number / (1 + 0.6 * scaled + 0.3 * scaled**2)
            )
        else:
            self.potential_r = start.potential_r.copy()
        self.orbitals: dict[Orbital, BoundOrbital] = {}
        self._converge()

    def potential_times_r(self, radius: FloatArray) -> FloatArray:
        """Potential energy times radius at any radii, from the nucleus out to the box."""
        x = np.log(np.clip(radius, self.radius[0], self.radius[-1]))
        inside = CubicSpline(np.log(self.radius), self.potential_r)(x)
        return np.where(radius < self.radius[0], -float(self.atomic_number), inside)

    def bound_states(self, ell: int, twice_j: int, largest_n: int) -> list[BoundOrbital]:
        """The lowest states of a symmetry in the atom's potential, n = l + 1 .. largest_n."""
        k = kappa(ell, twice_j)
        energies, vectors = self._diagonalise(k, largest_n - ell)
        half = len(vectors) // 2
        kinetic = self._grid.slope + k * self._grid.over_r
        return [
            BoundOrbital(
                (ell + 1 + i, ell, twice_j),
                float(energy),
                self._grid.value @ vectors[:half, i],
                kinetic @ vectors[half:, i] / (2 * C),
            )
            for i, energy in enumerate(energies)
        ]

    def integrate(self, values: FloatArray) -> float:
        """Integral over r of values on the radial grid that vanish at its ends."""
        return float(np.sum(values * self.radius)) * self._log_step

    def _converge(self) -> None:
        largest: dict[tuple[int, int], int] = {}
        for n, ell, twice_j in self.occupation:
            largest[ell, twice_j] = max(n, largest.get((ell, twice_j), 0))
        change = np.inf
        for _ in range(_MAX_ITERATIONS):
            density = np.zeros_like(self.radius)
            for (ell, twice_j), n in largest.items():
                for state in self.bound_states(ell, twice_j, n):
                    electrons = self.occupation.get(state.quantum, 0.0)
                    if state.quantum in self.occupation:
                        self.orbitals[state.quantum] = state
                        density += electrons * (state.large**2 + state.small**2)
            fresh = self._field(density)
            change = float(np.max(np.abs(fresh - self.potential_r)))
            self.potential_r = (1 - _MIXING) * self.potential_r + _MIXING * fresh
            if change < _TOLERANCE * np.sqrt(self.atomic_number):
                return
        raise NotConvergedError(
            f"expected the field of Z = {self.atomic_number} to settle within {_MAX_ITERATIONS} "
            f"iterations, the last one still changed r V by {change:.2g} Hartree bohr"
        )

    def _field(self, density: FloatArray) -> FloatArray:
        """Potential energy times r of the nucleus and a radial density 4 pi r^2 n(r)."""
        r = self.radius
        inside = self._cumulative(density)
        outside = self._cumulative(density / r)
        hartree = inside / r + outside[-1] - outside
        exchange = -1.5 * (3 * np.maximum(density, 1e-30) / (4 * np.pi**2 * r * r)) ** (1 / 3)
        field: FloatArray = np.minimum(r * (hartree + exchange) - self.atomic_number, -1.0)
        return field

    def _cumulative(self, values: FloatArray) -> FloatArray:
        """Integral from 0 to every radius, trapezoidal in ln r with end correction."""
        scaled = values * self.radius
        total: FloatArray = np.zeros_like(scaled)
        total[1:] = np.cumsum((scaled[1:] + scaled[:-1]) / 2) * self._log_step
        slope = np.gradient(scaled, self._log_step)
        total += scaled[0] / 3 - self._log_step**2 / 12 * (slope - slope[0])
        return total

    def _diagonalise(self, k: int, count: int) -> tuple[FloatArray, FloatArray]:
        """The lowest ``count`` positive-energy states of a kappa: energies and coefficients."""
        basis, weights = self._quadrature, self._weights
        potential = self.potential_times_r(self._points) / self._points
        kinetic = basis.slope + k * basis.over_r
        overlap = (basis.value * weights[:, None]).T @ basis.value
        energy = 0.5 * (kinetic * weights[:, None]).T @ kinetic
        upper = (basis.value * (weights * potential)[:, None]).T @ basis.value
        lower = (kinetic * (weights * potential)[:, None]).T @ kinetic / (4 * C * C)
        zero = np.zeros_like(overlap)
        hamiltonian = np.block([[upper, energy], [energy, lower - energy]])
        metric = np.block([[overlap, zero], [zero, energy / (2 * C * C)]])
        first = len(overlap)
        energies, vectors = eigh(
            hamiltonian, metric, subset_by_index=[first, first + count - 1], driver="gvx"
        )
        return energies, vectors
