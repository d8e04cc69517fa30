"""Energies behind an edge that the fit leaves out: what atoms do not know of solids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.physics.edges import EdgeGroup, edge_groups
from zeroloss_export.physics.elements import ELEMENTS

GROUPS: Final = 2
"""Most edge groups of an element."""
NOWHERE_EV: Final = 1e6


@dataclass(frozen=True, slots=True)
class LeftOut:
    """eV before the first and after the last major onset of a group, by the kind of its edge."""

    before: float = 5.0
    light_k: float = 40.0
    """K of Be to F: pi* and sigma*."""
    other_k: float = 40.0
    white_l: float = 40.0
    """L of Ca to Cu."""
    other_l: float = 40.0
    white_m: float = 40.0
    """M of Cs to Yb."""
    other_m: float = 20.0
    resonance: float = 150.0
    """N of La to Lu: giant resonances, which no cross section of an atom in a field has."""

    def after(self, group: EdgeGroup) -> float:
        z = group.atomic_number
        if group.shell == "K":
            return self.light_k if z <= 9 else self.other_k
        if group.shell == "L":
            return self.white_l if 20 <= z <= 29 else self.other_l
        if group.shell == "M":
            return self.white_m if 55 <= z <= 70 else self.other_m
        return self.resonance


def zones(left_out: LeftOut) -> Tensor:
    """Begin and end in eV, [80, group, 2]; far away where an element has no such group."""
    result = torch.full((len(ELEMENTS), GROUPS, 2), NOWHERE_EV)
    for group in edge_groups():
        row = result[ELEMENTS.index(group.element)]
        last = max(item.onset_ev for item in group.subshells if item.major)
        place = 0 if row[0, 0] == NOWHERE_EV else 1
        row[place, 0] = group.onset_ev - left_out.before
        row[place, 1] = last + left_out.after(group)
    return result


def counting() -> Tensor:
    """Groups [80, group] that an element can be quantified by, 1 or 0: all but N4,5."""
    result = torch.zeros(len(ELEMENTS), GROUPS)
    seen: dict[str, int] = {}
    for group in edge_groups():
        place = seen.get(group.element, 0)
        seen[group.element] = place + 1
        result[ELEMENTS.index(group.element), place] = float(group.shell != "N")
    return result
