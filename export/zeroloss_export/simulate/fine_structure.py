"""Near-edge and extended fine structure, drawn generically on top of the atomic cross sections.

White lines are the bound transitions that an atomic continuum leaves out. Their strengths relative
to the continuum within 50 eV above the onset follow hole-weighted Dirac-Slater transitions for the
L edges of the 3d row and for M4,5; those of the 4d row (L2,3 and M2,3) are estimates. A random hole
count lowers them. The N4,5 edges of the lanthanides are giant resonances (Fano shape)
with multiplets below them; U. Fano, Phys. Rev. 124, 1866 (1961); P. Trebbia & C. Colliex,
Phys. Status Solidi B 58, 523 (1973).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.edge_bank import EdgeBank
from zeroloss_export.simulate.recipe import Recipe

_L_LINES: Final = dict(
    zip(range(19, 30), (1.0, 1.0, 0.98, 0.98, 0.97, 0.95, 0.93, 0.92, 0.85, 0.6, 0.12), strict=True)
) | dict(zip(range(38, 47), (0.3, 0.5, 0.6, 0.6, 0.55, 0.5, 0.4, 0.3, 0.1), strict=True))
_M3_LINES: Final = dict(
    zip(range(37, 47), (0.2, 0.4, 0.7, 0.8, 0.8, 0.8, 0.7, 0.6, 0.45, 0.15), strict=True)
)
# La-Yb: maximum of the giant resonance above the tabulated N5 onset. Rounded positions set by eye
# against measured oxides where there were any, interpolated elsewhere; docs/training.md says so.
_RESONANCE_EV: Final = (19, 18, 19, 18, 16, 14, 11, 9, 8, 8, 7, 7, -1, -3)
# Where the multiplets, and with them the edge, begin below that maximum; set likewise.
_MULTIPLET_EV: Final = (10, 11, 10, 13, 13, 13, 11, 9, 9, 10, 12, 11, 10, 5)
_N3_SHIFT_EV: Final = 5.0
_MAX_LINES: Final = 4
_LINE_CHANNELS: Final = 48
_STRUCTURE_CHANNELS: Final = 128
_RESONANCE_CHANNELS: Final = 192
_PEAKS: Final = 25
_HBAR_VELOCITY: Final = 390.4  # hbar * v / nm in meV per sqrt(eV): v = sqrt(2 eps / m)


@dataclass(frozen=True, slots=True)
class Edges:
    """Single-edge spectra ``value`` [n, channel] of group ``group`` [n] with onset ``onset_ev``."""

    value: Tensor
    group: Tensor
    onset_ev: Tensor


class FineStructure:
    """Adds fine structure to edges on an axis of 1 eV per channel that starts at ``first_ev``."""

    def __init__(self, bank: EdgeBank, first_ev: float, recipe: Recipe) -> None:
        self.bank = bank
        self.first_ev = first_ev
        self.recipe = recipe
        groups = edge_groups()
        self.line_offset = torch.zeros(len(groups), _MAX_LINES)
        self.line_strength = torch.zeros(len(groups), _MAX_LINES)
        # Strength, centre above the onset, width, distance from the threshold to the centre.
        self.resonance = torch.zeros(len(groups), 4)
        self.roughness = torch.tensor(
            [_roughness(group.shell, group.atomic_number) for group in groups]
        )
        for index, group in enumerate(groups):
            z = group.atomic_number
            onset = {subshell.name: subshell.onset_ev for subshell in group.subshells}
            lines: list[tuple[float, float]] = []
            if group.shell == "L" and z in _L_LINES and "L2" in onset:
                lines = [(0.0, 2 / 3), (onset["L2"] - onset["L3"], 1 / 3)]
                lines = [(at, part * _L_LINES[z]) for at, part in lines]
            elif group.shell == "M" and 55 <= z <= 70:
                strength = 2.6 if z <= 64 else 2.6 * (71 - z) / 7
                split = onset["M4"] - onset["M5"]
                lines = [(0.0, 0.55 * strength), (split, 0.45 * strength)]
            elif group.shell == "M" and z in _M3_LINES:
                base = onset["M5"]
                lines = [(onset["M3"] - base, 0.25 * _M3_LINES[z])]
                lines += [(onset["M2"] - base, 0.14 * _M3_LINES[z])]
            elif group.shell == "N" and 57 <= z <= 70:
                lines = [(onset["N3"] - onset["N5"] - _N3_SHIFT_EV, 0.05)]
                holes = (71 - z) / 14
                centre = _RESONANCE_EV[z - 57]
                self.resonance[index] = torch.tensor(
                    [1.5 + 2.0 * holes, centre, 4 + 8 * holes, _MULTIPLET_EV[z - 57]]
                )
            for place, (at, part) in enumerate(lines):
                self.line_offset[index, place] = at
                self.line_strength[index, place] = part

    def apply(self, edges: Edges, draw: Draw) -> Tensor:
        """Value [n, channel] with fine structure added, never negative."""
        value = edges.value
        if self.recipe.giant_resonance:
            self._resonances(value, edges, draw)
        first = (edges.onset_ev - self.first_ev).long()
        near = first[:, None] + torch.arange(50)
        inside = (near >= 0) & (near < value.shape[1])
        continuum = (value.gather(1, near.clamp(0, value.shape[1] - 1)) * inside).sum(1)
        peak = value.amax(1)
        self._white_lines(value, edges, continuum, draw)
        if self.recipe.light_lines:
            self._light_lines(value, edges, continuum, draw)
        self._generic(value, edges, peak, draw)
        self._exafs(value, edges, draw)
        return value.clamp_(min=0.0)

    def _add(self, value: Tensor, rows: Tensor, start: Tensor, shape: Tensor) -> None:
        """Add ``shape`` [n, width] to rows of ``value`` from channel ``start`` [n] on."""
        index = start[:, None] + torch.arange(shape.shape[1])
        inside = (index >= 0) & (index < value.shape[1])
        flat = rows[:, None] * value.shape[1] + index.clamp(0, value.shape[1] - 1)
        value.view(-1).index_add_(0, flat.view(-1), (shape * inside).reshape(-1))

    def _lines(
        self, value: Tensor, rows: Tensor, centre_ev: Tensor, area: Tensor, fwhm_ev: Tensor
    ) -> None:
        """Lorentzian lines (half of them with Gaussian flanks by truncation at 24 eV)."""
        start = (centre_ev - self.first_ev).long() - _LINE_CHANNELS // 2
        energy = self.first_ev + start[:, None] + torch.arange(_LINE_CHANNELS)
        half = fwhm_ev[:, None].clamp(min=0.8) / 2
        shape = area[:, None] * half / math.pi / ((energy - centre_ev[:, None]) ** 2 + half**2)
        self._add(value, rows, start, shape)

    def _white_lines(self, value: Tensor, edges: Edges, continuum: Tensor, draw: Draw) -> None:
        n = len(edges.group)
        shell = self.bank.group_shell[edges.group]
        holes = draw.uniform(*self.recipe.white_line_strength, n)
        holes = torch.where(draw.chance(0.06, n), 0.05, holes)
        strength = self.line_strength[edges.group] * (holes * continuum)[:, None]
        ratio = torch.where(
            shell == 2, draw.log_uniform(0.6, 1.6, n), draw.log_uniform(0.7, 2.4, n)
        )
        tilt = torch.ones(n, _MAX_LINES)
        tilt[:, 0], tilt[:, 1] = ratio.sqrt(), 1 / ratio.sqrt()
        strength = strength * tilt
        centre = edges.onset_ev[:, None] + self.line_offset[edges.group]
        centre = centre + draw.uniform(0.0, 3.5, n, 1) + 0.5 * draw.normal(n, _MAX_LINES)
        fwhm = draw.log_uniform(0.9, 4.5, n)[:, None] * torch.tensor([1.0, 1.25, 1.2, 1.4])
        rows, place = torch.nonzero(strength > 0, as_tuple=True)
        area, at, width = strength[rows, place], centre[rows, place], fwhm[rows, place]
        split = draw.chance(0.4, n)[rows]
        part = torch.where(split, draw.uniform(0.25, 0.75, n)[rows], 1.0)
        apart = draw.uniform(1.0, 3.5, n)[rows]
        self._lines(value, rows, at, area * part, width)
        rows, part, area = rows[split], part[split], area[split]
        self._lines(value, rows, at[split] - apart[split], area * (1 - part), width[split])

    def _light_lines(self, value: Tensor, edges: Edges, continuum: Tensor, draw: Draw) -> None:
        """pi* and sigma* resonances of light K edges, pre-peaks of O K, molecular lines."""
        light = (self.bank.group_shell[edges.group] == 0) & (self.bank.group_z[edges.group] <= 17)
        rows = torch.nonzero(light)[:, 0]
        if not len(rows):
            return
        n = len(rows)
        z = self.bank.group_z[edges.group][rows]
        onset, area = edges.onset_ev[rows], continuum[rows]
        first = draw.uniform(0.02, 0.3, n) * draw.chance(0.65, n)
        molecular = draw.chance(self.recipe.molecular_chance, n) & (z >= 6) & (z <= 9)
        first = torch.where(molecular, draw.uniform(0.3, 1.5, n), first)
        first_ev = onset + draw.uniform(-0.5, 2.5, n)
        first_ev = torch.where(molecular, first_ev - draw.uniform(0.0, 2.0, n), first_ev)
        first_ev = torch.where(z == 8, first_ev + draw.uniform(-4.0, 0.5, n), first_ev)
        first_fwhm = draw.log_uniform(0.8, 3.0, n)
        self._lines(value, rows, first_ev, first * area, first_fwhm)
        gap = draw.uniform(4.0, 12.0, n)
        gap = torch.where(molecular, draw.uniform(8.0, 14.0, n), gap)
        self._delay(value, rows, onset, gap, molecular, draw)
        for chance, strongest, widest in ((0.75, 0.5, 6.0), (0.6, 0.4, 9.0), (0.4, 0.3, 12.0)):
            part = draw.uniform(0.02, strongest, n) * draw.chance(chance, n)
            part = torch.where(molecular, 0.3 * part, part)
            self._lines(value, rows, first_ev + gap, part * area, draw.uniform(1.5, widest, n))
            gap = gap + draw.uniform(4.0, 14.0, n)

    def _delay(
        self,
        value: Tensor,
        rows: Tensor,
        onset: Tensor,
        gap: Tensor,
        molecular: Tensor,
        draw: Draw,
    ) -> None:
        """Let the continuum of some edges start at sigma*, so that pi* stands alone before it."""
        n = len(rows)
        first = (onset - self.first_ev).long()
        index = first[:, None] + torch.arange(24)
        chosen = (draw.chance(self.recipe.delayed_continuum_chance, n) | molecular)[:, None]
        rise = torch.sigmoid((torch.arange(24) - gap[:, None]) / draw.uniform(0.5, 2.0, n, 1))
        floor = draw.uniform(0.0, 0.6, n, 1)
        loss = torch.where(chosen, (1 - floor) * (rise - 1), 0.0)
        held = value[rows].gather(1, index.clamp(0, value.shape[1] - 1))
        self._add(value, rows, first, loss * held)

    def _resonances(self, value: Tensor, edges: Edges, draw: Draw) -> None:
        """Replace part of the N4,5 continuum of La-Yb by a giant resonance with multiplets."""
        strength, centre, width, extent = self.resonance[edges.group].unbind(1)
        rows = torch.nonzero(strength > 0)[:, 0]
        if not len(rows):
            return
        n = len(rows)
        strength, centre, width, extent = (part[rows] for part in (strength, centre, width, extent))
        onset = edges.onset_ev[rows]
        centre = onset + centre + 1.3 * draw.normal(n)
        width = width * draw.log_uniform(0.6, 1.7, n)
        start = (onset - self.first_ev).long() - 24
        energy = self.first_ev + start[:, None] + torch.arange(_RESONANCE_CHANNELS)
        q = draw.log_uniform(1.2, 8.0, n)[:, None]
        # A Fano line is highest at x = 1 / q: count from there, so that `centre` is the maximum.
        x = (energy - centre[:, None]) / (width[:, None] / 2) + 1 / q
        fano = (q + x) ** 2 / (1 + x**2) / (1 + q**2)
        decay = torch.exp(
            -(energy - centre[:, None]).clamp(min=0) / draw.uniform(8, 70, n)[:, None]
        )
        extent = extent * draw.uniform(0.7, 1.25, n)
        first = centre - extent
        gate = torch.sigmoid((energy - first[:, None]) / draw.uniform(0.7, 2.0, n, 1))
        # The continuum starts with the resonance, not at the tabulated edge of the free atom.
        ramp = (1 - (energy - first[:, None]) / 160).clamp(0.0, 1.0)
        shape = gate * (fano * decay + draw.uniform(0.05, 0.5, n, 1) * ramp)
        for chance, strongest in ((0.6, 0.9), (0.4, 0.4), (0.3, 0.15)):
            at = (centre - draw.uniform(0.15, 1.0, n) * extent)[:, None]
            sigma = draw.log_uniform(1.0, 3.0, n)[:, None]
            height = (draw.uniform(0.0, strongest, n) * draw.chance(chance, n))[:, None]
            shape = shape + height * torch.exp(-0.5 * ((energy - at) / sigma) ** 2)
        peak = value[rows].amax(1)
        value[rows] *= draw.uniform(0.05, 0.7, n)[:, None]
        height = peak * strength * draw.log_uniform(0.4, 2.0, n)
        self._add(value, rows, start, shape * height[:, None])

    def _generic(self, value: Tensor, edges: Edges, peak: Tensor, draw: Draw) -> None:
        """Random Gaussians with lifetime widths (Annys et al., Seah & Dench mean free path)."""
        n = len(peak)
        reach = draw.uniform(50.0, 100.0, n)[:, None]
        centre = draw.uniform(0.0, 1.0, n, _PEAKS) * reach
        above = centre.clamp(min=0.5)
        diameter = draw.uniform(0.025, 0.25, n)[:, None]
        free_path_nm = 538 * diameter / above**2 + 0.41 * diameter**1.5 * above.sqrt()
        sigma = (_HBAR_VELOCITY * 1e-3 * above.sqrt() / free_path_nm / 2.355).clamp(0.5, 20.0)
        count = draw.integers(5, _PEAKS + 1, n)
        amplitude = draw.normal(n, _PEAKS) * (torch.arange(_PEAKS) < count[:, None])
        x = torch.arange(_STRUCTURE_CHANNELS).float()
        shape = (
            amplitude[..., None]
            * torch.exp(-0.5 * ((x - centre[..., None]) / sigma[..., None]) ** 2)
        ).sum(1)
        top = shape.amax(1).clamp(min=1e-6)
        bottom = (-shape.amin(1)).clamp(min=1e-6)
        limit = torch.minimum(top / bottom, torch.tensor(10.0))
        scale = torch.minimum(draw.log_uniform(*self.recipe.generic_structure_scale, n), limit)
        if self.recipe.smooth_heavy_edges:
            scale = scale * self.roughness[edges.group]
        scale = scale * draw.chance(self.recipe.generic_structure_chance, n)
        shape = shape * (scale * peak / top)[:, None]
        start = (edges.onset_ev - self.first_ev).long()
        self._add(value, torch.arange(n), start, shape)

    def _exafs(self, value: Tensor, edges: Edges, draw: Draw) -> None:
        """Damped oscillation sin(2 k R), k from the energy above the onset (k^2 = eps/3.81)."""
        n = len(edges.group)
        rows = torch.nonzero(draw.chance(self.recipe.exafs_chance, n))[:, 0]
        channels = 320
        above = torch.arange(channels) + 1.0
        phase = 2 * torch.sqrt(above / 3.81) * draw.uniform(1.6, 3.2, len(rows))[:, None]
        phase = phase + draw.uniform(0.0, 2 * math.pi, len(rows))[:, None]
        damping = torch.exp(-above / draw.uniform(40.0, 160.0, len(rows))[:, None])
        wave = draw.uniform(0.01, 0.08, len(rows))[:, None] * torch.sin(phase) * damping
        start = (edges.onset_ev[rows] - self.first_ev).long()
        index = start[:, None] + torch.arange(channels)
        held = value[rows].gather(1, index.clamp(0, value.shape[1] - 1))
        self._add(value, rows, start, wave * held)


def _roughness(shell: str, atomic_number: int) -> float:
    """How much generic structure an edge bears relative to a light K edge.

    Near-edge peaks come from sharp final states at low kinetic energy; delayed edges (M4,5 of the
    4d and 5d rows) reach their maximum where scattering is weak, and are smooth.
    """
    if shell == "K":
        return 1.0 if atomic_number <= 9 else 0.6
    if shell == "L":
        return 0.5 if atomic_number <= 18 else 0.25
    if shell == "M":
        return 0.15
    return 0.25
