"""From generalised oscillator strengths to dsigma/dE for a microscope's geometry.

Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011), section 3.6:
dsigma/dE = 4 pi a0^2 R^2 / (E T) * integral of df/dE d ln(q^2), with T = m v^2 / 2 and the exact
relativistic momenta before and after the loss. Scattering into the collection disc is weighted by
the fraction of the illuminating disc that reaches it (top-hat convergence and collection).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from zeroloss_export.physics.constants import (
    BOHR_SQUARED_BARN,
    ELECTRON_REST_EV,
    HBAR_C_EV_BOHR,
    RYDBERG_EV,
)

FloatArray = NDArray[np.float64]

_ANGLES = 400
_SMALLEST_ANGLE = 1e-6
_SUBDIVISIONS = 16
_FINE_MOMENTA = 400
_BEAM_EV = (1e4, 1e6)


def wave_number_au(kinetic_ev: ArrayLike) -> FloatArray:
    """Relativistic electron wave number in 1/bohr, p c / (hbar c)."""
    kinetic = np.asarray(kinetic_ev, dtype=np.float64)
    return np.sqrt(kinetic * (kinetic + 2 * ELECTRON_REST_EV)) / HBAR_C_EV_BOHR


def half_mass_velocity_squared_ev(beam_ev: float) -> float:
    """T = m v^2 / 2 in eV with the rest mass m and the relativistic v (Egerton 2011)."""
    gamma = 1 + beam_ev / ELECTRON_REST_EV
    return 0.5 * ELECTRON_REST_EV * (1 - gamma**-2)


def disc_overlap(angle: ArrayLike, alpha: ArrayLike, beta: ArrayLike) -> FloatArray:
    """Fraction of an incident disc that, scattered by an angle, falls into the collection disc.

    All in the same unit, broadcast against each other; ``alpha`` and ``beta`` are the convergence
    and the collection semi-angle. ``alpha`` = 0 is the parallel beam. The area is the common one
    of two circles whose centres lie the scattering angle apart.
    """
    d, a, b = np.broadcast_arrays(
        np.maximum(np.asarray(angle, dtype=np.float64), 1e-15),
        np.maximum(np.asarray(alpha, dtype=np.float64), 1e-12),
        np.asarray(beta, dtype=np.float64),
    )
    inner = np.minimum(1.0, b / a) ** 2
    at_a = np.clip((d * d + a * a - b * b) / (2 * d * a), -1, 1)
    at_b = np.clip((d * d + b * b - a * a) / (2 * d * np.maximum(b, 1e-15)), -1, 1)
    kite = np.maximum((a + b - d) * (d + a - b) * (d - a + b) * (d + a + b), 0)
    lens = a * a * np.arccos(at_a) + b * b * np.arccos(at_b) - 0.5 * np.sqrt(kite)
    partial = np.clip(lens / (np.pi * a * a), 0, inner)
    return np.where(d <= np.abs(a - b), inner, np.where(d >= a + b, 0.0, partial))


class AngleGrid:
    """Scattering angles (rad) over which cross sections are integrated.

    ``largest`` is the largest angle that counts: the sum of both semi-angles.
    """

    def __init__(self, largest: float) -> None:
        self.edges: FloatArray = np.concatenate(
            ([0.0], np.geomspace(_SMALLEST_ANGLE, largest, _ANGLES))
        )

    def weights(self, alpha: ArrayLike, beta: ArrayLike) -> FloatArray:
        """Mean disc overlap in every angle bin, shape ``broadcast(alpha, beta) + [bin]`` (rad)."""
        a, b = np.broadcast_arrays(
            np.asarray(alpha, dtype=np.float64), np.asarray(beta, dtype=np.float64)
        )
        fraction = (np.arange(_SUBDIVISIONS) + 0.5) / _SUBDIVISIONS
        low, high = self.edges[:-1, None], self.edges[1:, None]
        angle = low + (high - low) * fraction
        overlap = disc_overlap(angle, a[..., None, None], b[..., None, None])
        return np.asarray(overlap.mean(axis=-1))


def angular_integrand(
    energy_loss_ev: FloatArray,
    gos: NDArray[np.floating],
    momentum_au: FloatArray,
    beam_kev: float,
    grid: AngleGrid,
) -> FloatArray:
    """dsigma/dE (barn/eV) per angle bin for a fully collected bin, shape [bin, energy].

    energy_loss_ev [energy]; gos [momentum, energy] in 1/eV; momentum_au [momentum] in 1/bohr. The
    logarithm of the GOS is interpolated over ln q; below the smallest momentum it is constant
    (dipole limit), above the largest its last slope is kept.
    """
    beam_ev = 1e3 * beam_kev
    if not _BEAM_EV[0] <= beam_ev <= _BEAM_EV[1]:
        raise ValueError(f"expected a beam energy of 10 to 1000 keV, got {beam_kev} keV")
    if energy_loss_ev.min() <= 0 or energy_loss_ev.max() >= beam_ev / 2:
        raise ValueError(
            f"expected energy losses between 0 and half the beam energy, got "
            f"{energy_loss_ev.min()} to {energy_loss_ev.max()} eV at {beam_kev} keV"
        )
    before = wave_number_au(beam_ev)
    after = wave_number_au(beam_ev - energy_loss_ev)
    q_squared = (before - after) ** 2 + 4 * before * after * np.sin(grid.edges[:, None] / 2) ** 2
    log_q = 0.5 * np.log(q_squared)
    strength = np.exp(interpolate_gos(log_q, np.log(momentum_au), np.log(np.maximum(gos, 1e-30))))
    prefactor = (
        4 * np.pi * BOHR_SQUARED_BARN * RYDBERG_EV**2
        / (energy_loss_ev * half_mass_velocity_squared_ev(beam_ev))
    )  # fmt: skip
    per_bin: FloatArray = prefactor * (strength[1:] + strength[:-1]) * np.diff(log_q, axis=0)
    return per_bin


def cross_section(
    energy_loss_ev: FloatArray,
    gos: NDArray[np.floating],
    momentum_au: FloatArray,
    beam_kev: float,
    alpha_mrad: ArrayLike,
    beta_mrad: ArrayLike,
) -> FloatArray:
    """dsigma/dE in barn/eV per atom, shape ``broadcast(alpha_mrad, beta_mrad) + [energy]``.

    energy_loss_ev [energy] in eV; gos [momentum, energy] in 1/eV; momentum_au [momentum] in
    1/bohr; beam_kev scalar; semi-angles in mrad, scalars or arrays.
    """
    alpha = 1e-3 * np.asarray(alpha_mrad, dtype=np.float64)
    beta = 1e-3 * np.asarray(beta_mrad, dtype=np.float64)
    if np.any(alpha < 0) or np.any(beta <= 0):
        raise ValueError(
            f"expected alpha >= 0 and beta > 0 mrad, got {alpha_mrad!r} and {beta_mrad!r}"
        )
    grid = AngleGrid(float(np.max(alpha + beta)))
    per_bin = angular_integrand(energy_loss_ev, gos, momentum_au, beam_kev, grid)
    return grid.weights(alpha, beta) @ per_bin


def interpolate_gos(log_q: FloatArray, nodes: FloatArray, log_gos: FloatArray) -> FloatArray:
    """Cubic in ln q on a fine uniform grid, then linear: as good and much faster to look up."""
    fine = np.linspace(nodes[0], nodes[-1], _FINE_MOMENTA)
    values = CubicSpline(nodes, log_gos, axis=0)(fine)
    position = np.maximum((log_q - fine[0]) / (fine[1] - fine[0]), 0.0)
    index = np.minimum(position.astype(np.intp), _FINE_MOMENTA - 2)
    fraction = position - index
    column = np.arange(log_gos.shape[1])
    low = values[index, column]
    between: FloatArray = low + fraction * (values[index + 1, column] - low)
    return between
