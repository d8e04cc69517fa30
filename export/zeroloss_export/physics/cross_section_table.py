"""Cross sections over beam energy and semi-angles, compressed so that spectra are drawn quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zeroloss_export.physics.cross_section import AngleGrid, angular_integrand
from zeroloss_export.physics.edges import subshell
from zeroloss_export.physics.entries import SubshellEntries
from zeroloss_export.physics.table import GosTable

FloatArray = NDArray[np.float64]

RANK: Final = 6
BEAM_KEV: Final = (60.0, 80.0, 100.0, 120.0, 200.0, 300.0)
ALPHA_MRAD: Final = tuple(float(alpha) for alpha in np.geomspace(1.0, 36.0, 12))
BETA_MRAD: Final = tuple(float(beta) for beta in np.geomspace(1.0, 110.0, 16))


@dataclass(frozen=True, eq=False)
class CrossSectionTable(SubshellEntries):
    """dsigma/dE = sum over r of coeff[..., r] * basis[entry, r, energy], in barn/eV per atom.

    beam_kev [n_E0], alpha_mrad [n_alpha], beta_mrad [n_beta]: the grid, ascending
    energy_ev  [n_E]                      energy above the onset
    labels     [n_sub]                    subshell labels; first all frozen-core entries
    core_hole  [n_sub]                    True for the core-hole variants
    onset_ev   [n_sub]
    basis      [n_sub, rank, n_E]         float32
    coeff      [n_sub, n_E0, n_alpha, n_beta, rank]  float32
    """

    beam_kev: FloatArray
    alpha_mrad: FloatArray
    beta_mrad: FloatArray
    energy_ev: FloatArray
    labels: tuple[str, ...]
    core_hole: NDArray[np.bool_]
    onset_ev: FloatArray
    basis: NDArray[np.float32]
    coeff: NDArray[np.float32]

    @classmethod
    def build(
        cls,
        gos: GosTable,
        beam_kev: ArrayLike = BEAM_KEV,
        alpha_mrad: ArrayLike = ALPHA_MRAD,
        beta_mrad: ArrayLike = BETA_MRAD,
        rank: int = RANK,
        progress: Callable[[int, int], None] | None = None,
    ) -> CrossSectionTable:
        """Compute the table; ``progress(done, total)`` is called after every entry.

        Each entry's spectra over the grid are scaled to their maximum before the singular value
        decomposition, so that small apertures are reproduced as well as large ones.
        """
        beams, alphas, betas = (
            np.asarray(axis, dtype=np.float64) for axis in (beam_kev, alpha_mrad, beta_mrad)
        )
        grid = AngleGrid(1e-3 * float(alphas.max() + betas.max()))
        weights = grid.weights(1e-3 * alphas[:, None], 1e-3 * betas)
        shape = (len(beams), len(alphas), len(betas), rank)
        onsets = np.array([subshell(label).onset_ev for label in gos.labels])
        basis = np.empty((len(onsets), rank, len(gos.energy_ev)), np.float32)
        coeff = np.empty((len(onsets), *shape), np.float32)
        for entry, onset in enumerate(onsets):
            loss = onset + gos.energy_ev
            spectra = np.stack(
                [
                    weights @ angular_integrand(loss, gos.gos[entry], gos.momentum_au, beam, grid)
                    for beam in beams.tolist()
                ]
            ).reshape(-1, len(loss))
            scale = spectra.max(axis=1, keepdims=True)
            left, singular, right = np.linalg.svd(spectra / scale, full_matrices=False)
            basis[entry] = right[:rank]
            coeff[entry] = (scale * left[:, :rank] * singular[:rank]).reshape(shape)
            if progress is not None:
                progress(entry + 1, len(onsets))
        return cls(
            beams, alphas, betas, gos.energy_ev, gos.labels, gos.core_hole, onsets, basis, coeff
        )

    def save(self, path: Path) -> None:
        """Write the table as npz."""
        np.savez(
            path,
            beam_kev=self.beam_kev,
            alpha_mrad=self.alpha_mrad,
            beta_mrad=self.beta_mrad,
            energy_ev=self.energy_ev,
            labels=np.array(self.labels, dtype=np.str_),
            core_hole=self.core_hole,
            onset_ev=self.onset_ev,
            basis=self.basis,
            coeff=self.coeff,
        )

    @classmethod
    def load(cls, path: Path) -> CrossSectionTable:
        """Read a table that ``save`` wrote; ValueError if its arrays do not fit together."""
        with np.load(path, allow_pickle=False) as file:
            table = cls(
                **{name: file[name] for name in ("beam_kev", "alpha_mrad", "beta_mrad")},
                energy_ev=file["energy_ev"],
                labels=tuple(str(label) for label in file["labels"]),
                core_hole=file["core_hole"],
                onset_ev=file["onset_ev"],
                basis=file["basis"],
                coeff=file["coeff"],
            )
        n, rank = table.basis.shape[:2]
        axes = (len(table.beam_kev), len(table.alpha_mrad), len(table.beta_mrad))
        expected = (n, *axes, rank)
        if table.coeff.shape != expected or len(table.labels) != n:
            raise ValueError(f"{path}: expected coeff {expected}, got {table.coeff.shape}")
        return table

    @cached_property
    def core_hole_entry(self) -> NDArray[np.int64]:
        """For every entry its core-hole variant, or -1 where there is none, shape [n_sub]."""
        return np.array([self._positions.get((label, True), -1) for label in self.labels])

    def evaluate(
        self,
        entry: int,
        beam_kev: float,
        alpha_mrad: float,
        beta_mrad: float,
        energy_loss_ev: ArrayLike,
    ) -> FloatArray:
        """dsigma/dE in barn/eV per atom at energy losses; zero below the onset.

        Coefficients are interpolated over the logarithms of the beam energy and the semi-angles
        (held at the ends of the grid), spectra over the logarithm of the energy above the onset
        (held beyond the last energy).
        """
        coeff = self.coeff[entry].astype(np.float64)
        for axis, value in (
            (self.beam_kev, beam_kev),
            (self.alpha_mrad, alpha_mrad),
            (self.beta_mrad, beta_mrad),
        ):
            coeff = _between(axis, value, coeff)
        spectrum = coeff @ self.basis[entry]
        above = np.asarray(energy_loss_ev, dtype=np.float64) - self.onset_ev[entry]
        position = np.log(np.maximum(above, self.energy_ev[0]))
        value = np.interp(position, np.log(self.energy_ev), np.maximum(spectrum, 0.0))
        return np.where(above >= 0, value, 0.0)


def _between(axis: FloatArray, value: float, array: FloatArray) -> FloatArray:
    """Linear interpolation of ``array`` along its first dimension over the axis' logarithm."""
    position = float(np.interp(np.log(value), np.log(axis), np.arange(len(axis))))
    low = min(int(position), len(axis) - 2)
    between: FloatArray = array[low] + (position - low) * (array[low + 1] - array[low])
    return between
