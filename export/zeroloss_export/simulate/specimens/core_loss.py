"""Single core losses of a material: edges with their near-edge structure, and what lies below."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import EdgeGroup, Subshell, edge_groups, subshell
from zeroloss_export.physics.table import GosTable
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.edge_bank import EdgeBank
from zeroloss_export.simulate.fine_structure import Edges, FineStructure
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.specimens.materials import Material

Floats = NDArray[np.float64]

_NONE: Final = Recipe().changed(
    white_line_strength=(0.0, 0.0),
    light_lines=False,
    molecular_chance=0.0,
    generic_structure_chance=0.0,
    exafs_chance=0.0,
    # The N4,5 edges lie below the ranges: only their tails come in.
    giant_resonance=False,
)
NEAR_EDGE: Final = _NONE.changed(
    # A solid, not everything that there may be: no molecules, no structure as strong as the edge.
    white_line_strength=(0.5, 1.0),
    light_lines=True,
    generic_structure_chance=0.8,
    generic_structure_scale=(0.02, 0.15),
)
EXTENDED: Final = _NONE.changed(exafs_chance=1.0)
CONFINED_EV: Final = 30.0
"""Above the last major onset: here near-edge structure has fallen to a half, within some eV.

Beyond, there are the few percent of the extended fine structure.
"""
SHIFT_EV: Final = 0.5
"""Standard deviation of the chemical shift of an edge."""
SECOND_SHARE: Final = 0.15
"""Of the background at the reference: a second power law, flatter by 1.2."""
_CONFINED_WIDTH_EV: Final = 5.0
_SUBDIVISIONS: Final = 2


class CoreLosses:
    """Core losses of materials at one microscope: beam energy in keV, semi-angles in mrad."""

    def __init__(self, beam_kev: float, convergence_mrad: float, collection_mrad: float) -> None:
        self._table = _table(beam_kev, convergence_mrad, collection_mrad)
        self._bank = EdgeBank(self._table)
        self._index = {group: index for index, group in enumerate(edge_groups())}

    def cross_section(self, subshell: Subshell, energy_ev: Floats) -> Floats:
        """dsigma/dE [n] in barn/eV per atom, of the free atom with a frozen core; 0 below."""
        table, entry = self._table, self._table.entry(subshell.label)
        node = table.coeff[entry, 0, 0, 0].astype(np.float64) @ table.basis[entry]
        above = energy_ev - subshell.onset_ev
        position = np.log(np.maximum(above, table.energy_ev[0]))
        value = np.interp(position, np.log(table.energy_ev), np.maximum(node, 0.0))
        found: Floats = np.where(above >= 0, value, 0.0)
        return found

    def material(self, material: Material, energy_ev: Floats, seed: int) -> Floats:
        """Losses [n] of a formula unit in barn/eV, means over even steps ``energy_ev`` [n].

        Atomic cross sections times atoms, plus near-edge structure drawn from ``seed``, plus the
        background. Energies are those of the specimen: nothing is scattered twice or blurred.
        """
        draw = Draw(seed)
        total = self.background(material, energy_ev)
        for group in edge_groups():
            if group.element in material.atoms and group.onset_ev < energy_ev[-1]:
                edge = self._group(group, energy_ev, draw)
                total = total + material.atoms[group.element] * edge
        return total

    def background(self, material: Material, energy_ev: Floats) -> Floats:
        """Valence losses and edges outside the tables, [n] in barn/eV per formula unit."""
        reference = subshell(material.reference)
        at = reference.onset_ev
        # The continuum is taken where delayed edges have risen too.
        height = self.cross_section(reference, np.array([at + 20.0]))[0]
        height = height * material.atoms[reference.element] * material.background
        ratio = energy_ev / at
        steep = ratio**-material.exponent
        flat = ratio ** -(material.exponent - 1.2)
        below: Floats = height * ((1 - SECOND_SHARE) * steep + SECOND_SHARE * flat)
        return below

    def _group(self, group: EdgeGroup, energy_ev: Floats, draw: Draw) -> Floats:
        step = float(energy_ev[1] - energy_ev[0])
        shift = SHIFT_EV * float(draw.normal(1)[0])
        parts = (np.arange(_SUBDIVISIONS) - (_SUBDIVISIONS - 1) / 2) * step / _SUBDIVISIONS
        fine = (energy_ev[:, None] + parts - shift).ravel()
        edge = self._smooth(group, fine).reshape(-1, _SUBDIVISIONS).mean(1)
        axis, structure = self._structure(group, float(energy_ev[-1]), draw)
        edge = edge + np.interp(energy_ev - shift, axis, structure, left=0.0, right=0.0)
        positive: Floats = np.maximum(edge, 0.0)
        return positive

    def _smooth(self, group: EdgeGroup, energy_ev: Floats) -> Floats:
        total = np.zeros_like(energy_ev)
        for item in group.subshells:
            total += self.cross_section(item, energy_ev)
        return total

    def _structure(self, group: EdgeGroup, end_ev: float, draw: Draw) -> tuple[Floats, Floats]:
        """What the near-edge structure adds to a group, on an axis of 1 eV."""
        # The structure is drawn in channels of 1 eV, the first of them at the onset itself.
        first = group.onset_ev - 64.0
        axis = first + np.arange(max(256, int(end_ev - first) + 64), dtype=np.float64)
        smooth = self._smooth(group, axis)
        # A little above the onset, so that rounding down finds its channel.
        group_and_onset = torch.tensor([self._index[group]]), torch.tensor([group.onset_ev + 1e-2])

        def added(recipe: Recipe) -> Floats:
            edge = torch.from_numpy(smooth).float()[None]
            structure = FineStructure(self._bank, first, recipe)
            changed = structure.apply(Edges(edge.clone(), *group_and_onset), draw)
            return np.asarray((changed - edge)[0], np.float64)

        near = added(NEAR_EDGE)
        last = max(item.onset_ev for item in group.subshells if item.major)
        distance = axis - last - CONFINED_EV
        near = near / (1 + np.exp(np.clip(distance / _CONFINED_WIDTH_EV, -50, 50)))
        return axis, near + added(EXTENDED)


@lru_cache(maxsize=4)
def _table(beam_kev: float, convergence_mrad: float, collection_mrad: float) -> CrossSectionTable:
    # Of one microscope the table is exact: a single spectrum is its own basis.
    return CrossSectionTable.build(
        GosTable.load(), (beam_kev,), (convergence_mrad,), (collection_mrad,), rank=1
    )
