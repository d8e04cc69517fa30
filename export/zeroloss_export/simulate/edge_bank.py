"""Cross sections of all edge groups, ready for vectorised evaluation in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import edge_groups

MAX_SUBSHELLS: Final = 5


@dataclass(frozen=True, slots=True)
class Microscope:
    """Beam energy in kV, semi-angles in mrad, each of shape [batch]."""

    beam_kev: Tensor
    alpha_mrad: Tensor
    beta_mrad: Tensor


class EdgeBank:
    """The 107 edge groups with up to five subshells each.

    group_z       [107]     atomic number
    group_onset   [107]     lowest onset of the major subshells, eV
    group_shell   [107]     0 K, 1 L, 2 M, 3 N
    groups_of     [84, 2]   group indices of an atomic number, -1 where there is none
    """

    def __init__(self, table: CrossSectionTable) -> None:
        groups = edge_groups()
        names = {name: i for i, name in enumerate("KLMN")}
        self.group_z = torch.tensor([group.atomic_number for group in groups])
        self.group_onset = torch.tensor([group.onset_ev for group in groups])
        self.group_shell = torch.tensor([names[group.shell] for group in groups])
        self.groups_of = torch.full((84, 2), -1, dtype=torch.long)
        self.member = torch.full((len(groups), MAX_SUBSHELLS), -1, dtype=torch.long)
        onsets: list[float] = []
        frozen: list[int] = []
        hole: list[int] = []
        for index, group in enumerate(groups):
            row = self.groups_of[group.atomic_number]
            row[0 if row[0] < 0 else 1] = index
            for place, subshell in enumerate(group.subshells):
                self.member[index, place] = len(onsets)
                onsets.append(subshell.onset_ev)
                entry = table.entry(subshell.label)
                frozen.append(entry)
                variant = int(table.core_hole_entry[entry])
                hole.append(entry if variant < 0 else variant)
        self.onset = torch.tensor(onsets)
        self.frozen = torch.tensor(frozen)
        self.hole = torch.tensor(hole)
        device = self.onset.device
        self.basis = torch.from_numpy(np.ascontiguousarray(table.basis)).to(device)
        self.coeff = torch.from_numpy(np.ascontiguousarray(table.coeff)).to(device)
        self.axes = tuple(
            torch.tensor(np.log(axis), dtype=torch.float32)
            for axis in (table.beam_kev, table.alpha_mrad, table.beta_mrad)
        )
        above = np.arange(0.5, 3400.0)
        position = np.interp(
            np.log(np.maximum(above, table.energy_ev[0])),
            np.log(table.energy_ev),
            np.arange(len(table.energy_ev)),
        )
        low = np.minimum(position.astype(np.int64), len(table.energy_ev) - 2)
        channel = np.arange(len(above))
        weights = np.zeros((len(table.energy_ev), len(above)), np.float32)
        weights[low, channel] = 1 - (position - low)
        weights[low + 1, channel] = position - low
        self.to_channels = torch.from_numpy(weights).to(device)

    def nodes(self, subshell: Tensor, mix: Tensor, scope: Microscope) -> Tensor:
        """dsigma/dE [n, n_E] at the table's energies above the onset, in barn/eV per atom.

        ``subshell`` [n] indexes the bank's subshells, ``mix`` [n] is the weight of the core-hole
        variant, ``scope`` holds one microscope per entry.
        """
        spots = [
            _locate(axis, value.log())
            for axis, value in zip(
                self.axes, (scope.beam_kev, scope.alpha_mrad, scope.beta_mrad), strict=True
            )
        ]
        result = torch.zeros(len(subshell), self.basis.shape[2])
        for entry, weight in (
            (self.frozen[subshell], 1 - mix),
            (self.hole[subshell], mix),
        ):
            coeff = torch.zeros(len(subshell), self.basis.shape[1])
            for corner in range(8):
                index, factor = [], torch.ones(len(subshell))
                for bit, (low, part) in enumerate(spots):
                    upper = corner >> bit & 1
                    index.append(low + upper)
                    factor = factor * (part if upper else 1 - part)
                coeff += self.coeff[entry, index[0], index[1], index[2]] * factor[:, None]
            result += torch.einsum("nr,nre->ne", coeff * weight[:, None], self.basis[entry])
        return result

    def add_to(self, total: Tensor, row: Tensor, nodes: Tensor, channel: Tensor) -> None:
        """Add ``nodes`` [n, n_E] to rows ``row`` [n] of ``total`` [edge, channel] (1 eV a channel).

        ``channel`` [n] is the channel of the onset. A loop of slices: ten times faster on a CPU
        than gathering or scattering whole index arrays.
        """
        size = total.shape[1]
        spectra = nodes @ self.to_channels[:, :size]
        for index, (place, first) in enumerate(zip(row.tolist(), channel.tolist(), strict=True)):
            first = max(first, 0)
            if first < size:
                total[place, first:] += spectra[index, : size - first]


def _locate(axis: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    low = (torch.searchsorted(axis, value.contiguous()) - 1).clamp(0, len(axis) - 2)
    part = (value - axis[low]) / (axis[low + 1] - axis[low])
    return low, part.clamp(0.0, 1.0)
