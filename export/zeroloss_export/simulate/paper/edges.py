"""Core-loss edges of whole groups, counted from the group's onset, drawn by matrix products."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.simulate.edge_bank import MAX_SUBSHELLS, EdgeBank, Microscope

LENGTH: Final = 3072


class PaperEdges:
    """The 107 edge groups on an axis of 1 eV a channel whose channel 0 holds the group's onset.

    The subshells of a group keep their distances whatever the chemical shift, so that a group is
    one linear map from the coefficients of all its subshells to channels: basis [107, k, LENGTH]
    with k = MAX_SUBSHELLS x rank. Frozen-core cross sections; the paper's tables have no core hole.
    """

    def __init__(self, table: CrossSectionTable, device: torch.device) -> None:
        bank = EdgeBank(table)
        groups = edge_groups()
        rank = bank.basis.shape[1]
        self.element = (bank.group_z - 4).to(device)
        self.groups_of = bank.groups_of.to(device)
        self.onset = bank.group_onset.to(device)
        majors = [[part.onset_ev for part in group.subshells if part.major] for group in groups]
        self.last_onset = torch.tensor([max(onsets) for onsets in majors], device=device)
        basis = torch.zeros(len(groups), MAX_SUBSHELLS, rank, LENGTH)
        first = bank.group_onset.round()
        reach = bank.to_channels[:, :LENGTH]
        for group, members in enumerate(bank.member.tolist()):
            for place, subshell in enumerate(members):
                if subshell < 0:
                    continue
                late = int(bank.onset[subshell].round() - first[group])
                spectra = bank.basis[bank.frozen[subshell]] @ reach
                basis[group, place, :, late:] = spectra[:, : LENGTH - late]
        self.basis = basis.flatten(1, 2).to(device)
        # Absent subshells point at entry 0 and have no basis.
        entry = torch.where(bank.member >= 0, bank.frozen[bank.member.clamp(min=0)], 0)
        self.entry = entry.to(device)
        self.coeff = bank.coeff.to(device)
        self.axes = tuple(axis.to(device) for axis in bank.axes)

    def draw(self, group: Tensor, scope: Microscope) -> Tensor:
        """dsigma/dE [n, LENGTH] in barn/eV per atom of rising ``group`` [n], one scope for each."""
        coefficients = self._coefficients(group, scope)
        value = torch.empty(len(group), LENGTH, device=group.device)
        at = 0
        # Rows of one group share one product: its basis is read once.
        for index, rows in enumerate(torch.bincount(group, minlength=len(self.basis)).tolist()):
            if rows:
                part = slice(at, at + rows)
                torch.mm(coefficients[part], self.basis[index], out=value[part])
                at += rows
        return value.clamp_(min=0.0)

    def _coefficients(self, group: Tensor, scope: Microscope) -> Tensor:
        """[n, MAX_SUBSHELLS x rank], linear in the logarithms of beam energy and semi-angles."""
        entry = self.entry[group]
        settings = (scope.beam_kev, scope.alpha_mrad, scope.beta_mrad)
        low, part = [], []
        for axis, value in zip(self.axes, settings, strict=True):
            log = value.log().contiguous()
            place = (torch.searchsorted(axis, log) - 1).clamp(0, len(axis) - 2)
            low.append(place)
            part.append(((log - axis[place]) / (axis[place + 1] - axis[place])).clamp(0.0, 1.0))
        total = torch.zeros(*entry.shape, self.coeff.shape[-1], device=group.device)
        for corner in range(8):
            upper = [corner >> bit & 1 for bit in range(3)]
            weight = torch.ones_like(part[0])
            for share, high in zip(part, upper, strict=True):
                weight = weight * (share if high else 1 - share)
            spot = [(place + high)[:, None] for place, high in zip(low, upper, strict=True)]
            total += self.coeff[entry, spot[0], spot[1], spot[2]] * weight[:, None, None]
        return total.flatten(1)


def place(value: Tensor, row: Tensor, channel: Tensor, rows: int, size: int) -> Tensor:
    """Sum ``value`` [n, length] into [rows, size], each from ``channel`` [n] of ``row`` [n] on.

    Channels lie in 0 to size - 1. On a CPU slices, ten times faster there than gathering;
    elsewhere gathering, which unlike scattering sums in a fixed order.
    """
    if value.device.type == "cpu":
        total = torch.zeros(rows, size)
        length = value.shape[1]
        for index, (target, first) in enumerate(zip(row.tolist(), channel.tolist(), strict=True)):
            total[target, first : first + length].add_(value[index, : size - first])
        return total
    return gathered(value, row, channel, rows, size)


def gathered(value: Tensor, row: Tensor, channel: Tensor, rows: int, size: int) -> Tensor:
    """What ``place`` gives, without a loop over edges."""
    index = torch.arange(size, device=value.device) - channel[:, None]
    inside = (index >= 0) & (index < value.shape[1])
    moved = value.gather(1, index.clamp(0, value.shape[1] - 1)) * inside
    order = torch.argsort(row, stable=True)
    moved, row = moved[order], row[order]
    held = torch.bincount(row, minlength=rows)
    start = held.cumsum(0) - held
    total = torch.zeros(rows, size, device=value.device)
    for nth in range(int(held.max()) if len(row) else 0):
        some = held > nth
        total[some] += moved[(start + nth)[some]]
    return total
