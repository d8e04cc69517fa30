"""Energy-normalised continuum waves of the radial Dirac equation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.physics.atom import BOX_RADIUS, Atom
from zeroloss_export.physics.constants import SPEED_OF_LIGHT_AU as C

FloatArray = NDArray[np.float64]

_OUTER_RADIUS: Final = 0.98 * BOX_RADIUS
_TAIL_START: Final = 0.85 * _OUTER_RADIUS
_TAIL_SAMPLES: Final = 60
_POINTS_PER_RADIAN: Final = 6
_MIN_POINTS: Final = 2500
_FIRST_AMPLITUDE: Final = 1e-100  # waves of large l grow by up to 1e160 on their way out


@dataclass(frozen=True, eq=False)
class Continuum:
    """Waves [symmetry, energy, radius] on the first radii of a mesh: large P and small Q.

    Normalised per Hartree: the integral of P P' + Q Q' over r is delta(energy - energy').
    """

    large: FloatArray
    small: FloatArray


class RadialMesh:
    """Integration radii of one element, uniform in a ln r + r: logarithmic inside, linear outside.

    radius   [point]
    weights  [point]  of integrals over r (trapezoidal in the uniform variable)
    """

    def __init__(self, atomic_number: int, largest_energy: float) -> None:
        wave_number = np.sqrt(2 * largest_energy + 0.2)
        stretch = 3.0 / wave_number
        first = 1e-5 / atomic_number

        def uniform(r: FloatArray) -> FloatArray:
            return np.asarray(stretch * np.log(r) + r)

        low, high = uniform(np.array([first, _OUTER_RADIUS]))
        steps = max(_MIN_POINTS, int((high - low) * wave_number * _POINTS_PER_RADIAN))
        nodes = np.linspace(low, high, 2 * steps + 1)
        guess = np.geomspace(first / 2, 1.01 * _OUTER_RADIUS, 20000)
        radius = np.interp(nodes, uniform(guess), guess)
        for _ in range(4):
            radius = radius - (uniform(radius) - nodes) / (stretch / radius + 1)
        self.step = float(nodes[2] - nodes[0])
        self.fine_radius: FloatArray = radius
        self.fine_slope: FloatArray = 1 / (stretch / radius + 1)
        self.radius: FloatArray = radius[::2]
        self.weights: FloatArray = self.step * self.fine_slope[::2]


def continuum(
    atom: Atom, mesh: RadialMesh, energy: FloatArray, kappas: NDArray[np.int64], stored: int
) -> Continuum:
    """Waves in the atom's potential, kept on the first ``stored`` radii of the mesh.

    energy [energy] in Hartree, kappas [symmetry]. Fourth-order Runge-Kutta outwards from the
    point-nucleus power solution; the amplitude is fixed in the outer region by the phase-amplitude
    form P = sqrt(2 / (pi k)) sin(phase) of M. J. Seaton, G. Peach, Proc. Phys. Soc. 79 (1962) 1296.
    """
    k, e = (
        grid.astype(np.float64) for grid in np.meshgrid(kappas, energy, indexing="ij", copy=True)
    )
    potential = atom.potential_times_r(mesh.fine_radius) / mesh.fine_radius
    charge = atom.atomic_number / C
    gamma = np.sqrt(k * k - charge * charge)
    p = np.full_like(k, _FIRST_AMPLITUDE)
    q = p * np.where(k < 0, -charge / (gamma - k), (k + gamma) / charge)
    large = np.empty((stored, *k.shape))
    small = np.empty((stored, *k.shape))
    large[0], small[0] = p, q
    points = len(mesh.radius)
    in_tail = np.flatnonzero(mesh.radius > _TAIL_START)
    sampled = in_tail[:: max(1, len(in_tail) // _TAIL_SAMPLES)]
    is_sampled = np.zeros(points, dtype=bool)
    is_sampled[sampled] = True
    tail_p: list[FloatArray] = []
    tail_q: list[FloatArray] = []
    h = mesh.step

    def coefficients(i: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        slope, v = mesh.fine_slope[i], potential[i]
        over_c = slope / C
        return k * (slope / mesh.fine_radius[i]), (e + 2 * C * C - v) * over_c, (e - v) * over_c

    here = coefficients(0)
    for i in range(points - 1):
        a, b, c = here
        p1, q1 = b * q - a * p, a * q - c * p
        a, b, c = coefficients(2 * i + 1)
        pt, qt = p + h / 2 * p1, q + h / 2 * q1
        p2, q2 = b * qt - a * pt, a * qt - c * pt
        pt, qt = p + h / 2 * p2, q + h / 2 * q2
        p3, q3 = b * qt - a * pt, a * qt - c * pt
        a, b, c = here = coefficients(2 * i + 2)
        pt, qt = p + h * p3, q + h * q3
        p = p + h / 6 * (p1 + 2 * (p2 + p3) + b * qt - a * pt)
        q = q + h / 6 * (q1 + 2 * (q2 + q3) + a * qt - c * pt)
        if i + 1 < stored:
            large[i + 1], small[i + 1] = p, q
        if is_sampled[i + 1]:
            tail_p.append(p)
            tail_q.append(q)

    squared = _squared_amplitude(
        np.stack(tail_p, axis=-1),
        np.stack(tail_q, axis=-1),
        k[..., None],
        e[..., None],
        mesh.radius[sampled],
        potential[::2][sampled],
    )
    norm = np.sqrt(2 / np.pi * (1 + e / (2 * C * C)) / squared)
    return Continuum(
        np.ascontiguousarray(np.moveaxis(large * norm, 0, -1)),
        np.ascontiguousarray(np.moveaxis(small * norm, 0, -1)),
    )


def _squared_amplitude(
    p: FloatArray, q: FloatArray, k: FloatArray, e: FloatArray, r: FloatArray, v: FloatArray
) -> FloatArray:
    """Local wave number times the squared amplitude of P, median over the outer radii."""
    ell = np.where(k < 0, -k - 1, k)
    kinetic = e - v
    local = np.sqrt(
        np.maximum(2 * kinetic * (1 + kinetic / (2 * C * C)) - ell * (ell + 1) / r**2, 1e-6)
    )
    drift = np.gradient(local**2, r, axis=-1) / (4 * local**2)
    slope = -k / r * p + (e + 2 * C * C - v) / C * q
    squared = local * p**2 + (slope + drift * p) ** 2 / local
    return np.asarray(np.median(squared, axis=-1))
