"""Cross sections of all subshells for any beam energy and angles, small enough for a graph.

A differential cross section is an integral over the transverse momentum p that is transferred,
dsigma/dE = integral of w(p) f(p, E; E0) d ln p (see ``physics.cross_section``): w, the share of the
scattered electrons that reach the detector, is geometry and computed in the graph; f comes from the
generalised oscillator strengths and is stored at nodes of ln p and ln E0, its energies compressed
by a singular value decomposition per subshell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from zeroloss_export.physics.constants import (
    BOHR_SQUARED_BARN,
    ELECTRON_REST_EV,
    HBAR_C_EV_BOHR,
    RYDBERG_EV,
)
from zeroloss_export.physics.cross_section import (
    half_mass_velocity_squared_ev,
    interpolate_gos,
    wave_number_au,
)
from zeroloss_export.physics.edges import edge_groups, subshell
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.physics.table import GosTable

Floats = NDArray[np.float64]

BEAM_KEV: Final = (20.0, 400.0)
SUBSHELLS: Final = 10
"""Most subshells of an element."""
RANK: Final = 8
_BEAMS: Final = 7
_MOMENTUM_AU: Final = (1e-3, 64.0)
_MOMENTA: Final = 50
_FINE: Final = 1024
_FALL: Final = 3.0
"""Exponent of the energy loss that is taken out before interpolation over energies."""
_SHARPEST: Final = 0.02
"""Smallest convergence angle in units of the collection angle: the edge of the aperture is resolved
by the integration."""


@dataclass(frozen=True, eq=False)
class Compressed:
    """2^exponent [417, beam * momentum] times coeff [..., rank] times basis [417, rank, energy].

    energy_ev [energy] above the onset.
    """

    exponent: NDArray[np.int8]
    coeff: NDArray[np.float16]
    basis: NDArray[np.float16]
    energy_ev: Floats


def compress(gos: GosTable, rank: int = RANK) -> Compressed:
    """The frozen-core entries of a table as matrices; barn/eV, times (loss / onset)^3."""
    beams = np.geomspace(*BEAM_KEV, _BEAMS)
    momenta = np.geomspace(*_MOMENTUM_AU, _MOMENTA)
    labels = _labels()
    coeff = np.empty((len(labels), _BEAMS * _MOMENTA, rank), np.float16)
    basis = np.empty((len(labels), rank, len(gos.energy_ev)), np.float16)
    exponent = np.empty(coeff.shape[:2], np.int8)
    for index, label in enumerate(labels):
        onset = subshell(label).onset_ev
        loss = onset + gos.energy_ev
        strength = gos.gos[gos.entry(label)]
        rows = np.concatenate(
            [_integrand(loss, strength, gos.momentum_au, beam, momenta) for beam in beams.tolist()]
        )
        rows *= (loss / onset) ** _FALL
        scale = rows.max(axis=1, keepdims=True)
        left, singular, right = np.linalg.svd(rows / scale, full_matrices=False)
        # Within the range of float16: shapes and coefficients about 1.
        unit = np.sqrt(len(loss))
        exponent[index] = np.ceil(np.log2(scale[:, 0]))
        basis[index] = right[:rank] * unit
        coeff[index] = (
            scale * 0.5 ** exponent[index, :, None] * left[:, :rank] * singular[:rank] / unit
        )
    return Compressed(exponent, coeff, basis, gos.energy_ev)


class CrossSections(nn.Module):
    """Cross sections of the selected elements in the microscope of every spectrum."""

    exponent: Tensor
    coeff: Tensor
    basis: Tensor
    members: Tensor
    onsets: Tensor
    beams: Tensor
    momenta: Tensor
    fine: Tensor

    def __init__(self, table: Compressed) -> None:
        super().__init__()
        names = {label: index for index, label in enumerate(_labels())}
        nothing = len(names)
        members = torch.full((len(ELEMENTS), SUBSHELLS), nothing)
        onsets = torch.full((len(ELEMENTS), SUBSHELLS), 1e6)
        for label, index in names.items():
            item = subshell(label)
            row = ELEMENTS.index(item.element)
            place = int((members[row] != nothing).sum())
            members[row, place] = index
            onsets[row, place] = item.onset_ev
        # One more row of nothing, which elements with fewer subshells point at.
        coeff = np.concatenate([table.coeff, np.zeros_like(table.coeff[:1])])
        basis = np.concatenate([table.basis, np.zeros_like(table.basis[:1])])
        self.rank = coeff.shape[2]
        exponent = np.concatenate([table.exponent, np.zeros_like(table.exponent[:1])])
        self.register_buffer("exponent", torch.from_numpy(exponent))
        self.register_buffer("coeff", torch.from_numpy(coeff))
        self.register_buffer("basis", torch.from_numpy(basis))
        self.register_buffer("members", members)
        self.register_buffer("onsets", onsets)
        self.log_energy = np.log(table.energy_ev)
        self.register_buffer("beams", _cardinal(np.geomspace(*BEAM_KEV, _BEAMS), _FINE))
        nodes = np.geomspace(*_MOMENTUM_AU, _MOMENTA)
        self.register_buffer("momenta", _cardinal(nodes, _FINE))
        fine = np.geomspace(*_MOMENTUM_AU, _FINE)
        self.register_buffer("fine", torch.from_numpy(fine).float())

    def forward(
        self, selection: Tensor, beam_kev: Tensor, convergence_mrad: Tensor, collection_mrad: Tensor
    ) -> Tensor:
        """Coefficients [batch, slot, subshell * rank] of the spectra that ``on_grid`` gives.

        selection [slot] are indices of ELEMENTS, -1 where unused (which gives those of the first);
        the others [batch] in keV and mrad.
        """
        weights = self._weights(beam_kev, convergence_mrad, collection_mrad)
        chosen = self.members[selection.long().clamp(min=0)].flatten()
        scale = (self.exponent[chosen].float() * math.log(2.0)).exp()
        coeff = (self.coeff[chosen].float() * scale[:, :, None]).transpose(0, 1).flatten(1)
        return (weights @ coeff).reshape(-1, selection.shape[0], SUBSHELLS * self.rank)

    def on_grid(self, selection: Tensor, grid_ev: Tensor) -> Tensor:
        """Spectra [slot, subshell * rank, point] in barn/eV at energy losses [point]."""
        element = selection.long().clamp(min=0)
        chosen, onset = self.members[element].flatten(), self.onsets[element].flatten()
        above = grid_ev[None] - onset[:, None]
        first, last = float(self.log_energy[0]), float(self.log_energy[-1])
        steps = len(self.log_energy) - 1
        # The first interval is wider than the others, which are even in the logarithm.
        second = float(self.log_energy[1])
        log = above.clamp(min=float(np.exp(first)), max=float(np.exp(last))).log()
        even = (log - second) * ((steps - 1) / (last - second))
        place = torch.where(even >= 0.0, 1.0 + even, (log - first) / (second - first))
        low = place.floor().clamp(max=steps - 1.0)
        part = place - low
        # All functions of one energy at once: one index, not one for each of them.
        number = torch.arange(selection.shape[0] * SUBSHELLS)[:, None]
        index = (low.long() + (steps + 1) * number).flatten()
        basis = self.basis[chosen].float().transpose(1, 2).reshape(-1, self.rank)
        before, after = basis.index_select(0, index), basis.index_select(0, index + 1)
        fall = (onset[:, None] / grid_ev[None]).clamp(max=1.0) ** _FALL
        fall = torch.where(above >= 0.0, fall, torch.zeros_like(fall))
        later = (part * fall).flatten()[:, None]
        spectra = before * (fall.flatten()[:, None] - later) + after * later
        spectra = spectra.reshape(selection.shape[0], SUBSHELLS, -1, self.rank).transpose(2, 3)
        return spectra.reshape(selection.shape[0], SUBSHELLS * self.rank, -1)

    def _weights(
        self, beam_kev: Tensor, convergence_mrad: Tensor, collection_mrad: Tensor
    ) -> Tensor:
        """Of the nodes [batch, beam * momentum]: geometry of the aperture, interpolation of E0."""
        energy = 1e3 * beam_kev
        wave_number = (energy * (energy + 2.0 * ELECTRON_REST_EV)).sqrt() / HBAR_C_EV_BOHR
        beta = 1e-3 * collection_mrad[:, None]
        alpha = torch.maximum(1e-3 * convergence_mrad[:, None], _SHARPEST * beta)
        overlap = _overlap(self.fine[None] / wave_number[:, None], alpha, beta)
        low, high = (float(np.log(end)) for end in _MOMENTUM_AU)
        step = (high - low) / (_FINE - 1)
        # Below the first momentum f falls with p^2: half of it, integrated over ln p.
        inner = 0.5 * overlap[:, :1] * self.momenta[:1]
        angular = inner + step * (overlap @ self.momenta)
        low, high = (float(np.log(end)) for end in BEAM_KEV)
        place = ((beam_kev.log() - low) * ((_FINE - 1) / (high - low))).clamp(0.0, _FINE - 1.001)
        index = place.floor()
        part = (place - index)[:, None]
        before, after = self.beams[index.long()], self.beams[index.long() + 1]
        beam = before + part * (after - before)
        return (beam[:, :, None] * angular[:, None]).flatten(1)


def _labels() -> list[str]:
    return [item.label for group in edge_groups() for item in group.subshells]


def _integrand(
    loss_ev: Floats, gos: NDArray[np.floating], momentum_au: Floats, beam_kev: float, p_au: Floats
) -> Floats:
    """dsigma/dE/d ln p [p, energy] in barn/eV: d ln q^2 / d ln p times the integrand over ln q^2.

    p is the incident wave number times the scattering angle.
    """
    beam_ev = 1e3 * beam_kev
    before, after = wave_number_au(beam_ev), wave_number_au(beam_ev - loss_ev)
    angle = p_au[:, None] / before
    q_squared = (before - after) ** 2 + 4 * before * after * np.sin(angle / 2) ** 2
    rise = 2 * before * after * angle * np.sin(angle) / q_squared
    # Beyond the last momentum nothing is extrapolated: a rising slope would run away.
    nodes = np.log(momentum_au)
    log_q = np.minimum(0.5 * np.log(q_squared), nodes[-1])
    log_gos = interpolate_gos(log_q, nodes, np.log(np.maximum(gos, 1e-30)))
    half_mass_velocity_squared = half_mass_velocity_squared_ev(beam_ev)
    prefactor = 4 * np.pi * BOHR_SQUARED_BARN * RYDBERG_EV**2
    integrand: Floats = prefactor / (loss_ev * half_mass_velocity_squared) * np.exp(log_gos) * rise
    return integrand


def _cardinal(nodes: Floats, points: int) -> Tensor:
    """Cubic splines [point, node] that are 1 at one node, over the logarithm of the nodes."""
    log = np.log(nodes)
    spline = CubicSpline(log, np.eye(len(nodes)))
    return torch.from_numpy(spline(np.linspace(log[0], log[-1], points))).float()


def _overlap(angle: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """``physics.cross_section.disc_overlap`` as a graph; all in rad."""
    inner = torch.minimum(torch.ones_like(beta), beta / alpha).square()
    at_a = ((angle.square() + alpha.square() - beta.square()) / (2.0 * angle * alpha)).clamp(-1, 1)
    at_b = ((angle.square() + beta.square() - alpha.square()) / (2.0 * angle * beta)).clamp(-1, 1)
    kite = (alpha + beta - angle) * (angle + alpha - beta)
    kite = (kite * (angle - alpha + beta) * (angle + alpha + beta)).clamp(min=0.0)
    lens = alpha.square() * at_a.acos() + beta.square() * at_b.acos() - 0.5 * kite.sqrt()
    partial = torch.minimum((lens / (torch.pi * alpha.square())).clamp(min=0.0), inner)
    partial = torch.where(angle <= (alpha - beta).abs(), inner, partial)
    return torch.where(angle >= alpha + beta, torch.zeros_like(partial), partial)
