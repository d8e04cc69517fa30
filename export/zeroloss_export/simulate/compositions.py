"""Specimen compositions: charge-balanced-like compounds, alloys, pairs and single elements.

Every composition is drawn around a query element, all elements evenly (lanthanides more often,
because neighbours are hard to tell apart), so that no element is rare in the training data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.physics.elements import atomic_number
from zeroloss_export.simulate.draw import Draw

MAX_ELEMENTS: Final = 7
_HIGHEST: Final = 83

# Usual valences (A. Earnshaw & N. Greenwood, Chemistry of the Elements, 2nd ed., 1997).
_CATIONS: Final = (
    "Be2 B3 Na1 Mg2 Al3 Si4 P5 S6 K1 Ca2 Sc3 Ti4 V5 Cr3 Mn3 Fe3 Co2 Ni2 Cu2 Zn2 Ga3 Ge4 As5 Se4 "
    "Rb1 Sr2 Y3 Zr4 Nb5 Mo6 Tc4 Ru4 Rh3 Pd2 Ag1 Cd2 In3 Sn4 Sb5 Te4 I5 Cs1 Ba2 La3 Ce4 Pr3 Nd3 "
    "Pm3 Sm3 Eu3 Gd3 Tb3 Dy3 Ho3 Er3 Tm3 Yb3 Lu3 Hf4 Ta5 W6 Re4 Os4 Ir4 Pt4 Au3 Hg2 Tl3 Pb2 Bi3"
)
_ANIONS: Final = "O2:10 N3:2 F1:2 S2:2 Cl1:1.5 C4:1.5 P3:0.8 Se2:0.8 Br1:0.6 I1:0.6 Te2:0.5 B3:0.7"
_COMMON: Final = "Al Si Ti Fe Mg Ca Mn Na K Cr Ni Co Cu Zn Sr Ba La Zr Li V".replace(" Li", "")
_METALS: Final = (
    "Be Mg Al Si Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb "
    "Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi"
)


@dataclass(frozen=True, slots=True)
class Compositions:
    """``atomic_number`` [batch, MAX_ELEMENTS] (0: none), ``fraction`` likewise, ``query`` [batch].

    ``query`` is the column of the element that the spectrum has to show.
    """

    atomic_number: Tensor
    fraction: Tensor
    query: Tensor


class CompositionSampler:
    """Draws compositions; ``share`` gives the fractions of compounds, alloys, pairs, singles.

    ``lanthanides`` is how much more often La-Lu are the query than another element, ``neighbours``
    how often such a specimen also holds the element before or after.
    """

    def __init__(
        self,
        share: tuple[float, float, float, float],
        lanthanides: float,
        neighbours: float = 0.0,
    ) -> None:
        self.share = torch.tensor(share, dtype=torch.float32)
        self.neighbours = neighbours
        self.query_weight = torch.zeros(_HIGHEST + 1)
        self.query_weight[4:] = 1.0
        self.query_weight[57:72] *= lanthanides
        self.cation_valence = torch.zeros(_HIGHEST + 1)
        for entry in _CATIONS.split():
            self.cation_valence[atomic_number(entry[:-1])] = float(entry[-1])
        self.anion_valence = torch.zeros(_HIGHEST + 1)
        self.anion_weight = torch.zeros(_HIGHEST + 1)
        for entry in _ANIONS.split():
            name, weight = entry.split(":")
            self.anion_valence[atomic_number(name[:-1])] = float(name[-1])
            self.anion_weight[atomic_number(name[:-1])] = float(weight)
        self.cation_weight = (self.cation_valence > 0).float()
        for symbol in _COMMON.split():
            self.cation_weight[atomic_number(symbol)] = 4.0
        self.metal_weight = torch.zeros(_HIGHEST + 1)
        for symbol in _METALS.split():
            self.metal_weight[atomic_number(symbol)] = 1.0
        self.any_weight = torch.zeros(_HIGHEST + 1)
        self.any_weight[4:] = 1.0

    def sample(self, draw: Draw, count: int, query: Tensor | None = None) -> Compositions:
        """Draw ``count`` compositions, around the atomic numbers ``query`` [count] if given."""
        if query is None:
            query = draw.pick(self.query_weight, count)
        kind = draw.pick(self.share, count)
        numbers = torch.zeros(count, MAX_ELEMENTS, dtype=torch.long)
        numbers[:, 0] = query
        compound, alloy, pair = kind == 0, kind == 1, kind == 2
        only_anion = (self.cation_valence[query] == 0) | (
            (self.anion_valence[query] > 0) & draw.chance(0.5, count)
        )
        # Columns 1-2: partners among the cations; columns 3-4: anions.
        partners = draw.pick(self.cation_weight, 2 * count).view(count, 2)
        wanted = draw.integers(0, 3, count)
        wanted = torch.where(only_anion, wanted.clamp(min=1), wanted)
        near = (query >= 57) & (query <= 71) & draw.chance(self.neighbours, count)
        step = torch.where(draw.chance(0.5, count), 1, -1)
        partners[:, 0] = torch.where(near, (query + step).clamp(57, 71), partners[:, 0])
        wanted = torch.where(near, wanted.clamp(min=1), wanted)
        anions = draw.pick(self.anion_weight, 2 * count).view(count, 2)
        for column in range(2):
            numbers[:, 1 + column] = torch.where(
                compound & (wanted > column), partners[:, column], 0
            )
        inert = (query == 10) | (query == 18) | (query == 36) | (query == 54)
        first = compound & ~only_anion
        second = compound & draw.chance(0.2, count)
        numbers[:, 3] = torch.where(first, anions[:, 0], 0)
        numbers[:, 4] = torch.where(second, anions[:, 1], 0)
        metals = draw.pick(self.metal_weight, 3 * count).view(count, 3)
        others = draw.integers(1, 4, count)
        for column in range(3):
            take = alloy & (others > column)
            numbers[:, 1 + column] = torch.where(take, metals[:, column], numbers[:, 1 + column])
        numbers[:, 1] = torch.where(pair, draw.pick(self.any_weight, count), numbers[:, 1])
        alone = inert & draw.chance(0.6, count)
        numbers[:, 1:] = torch.where(alone[:, None], 0, numbers[:, 1:])
        self._drop_repeats(numbers)
        fraction = draw.integers(1, 4, count, MAX_ELEMENTS).float()
        fraction = torch.where(
            (alloy | pair)[:, None], draw.log_uniform(0.1, 1, *fraction.shape), fraction
        )
        fraction = torch.where(
            compound[:, None], self._balance(numbers, fraction, only_anion), fraction
        )
        fraction = fraction * (numbers > 0)
        dilute = draw.log_uniform(0.1, 1, count, MAX_ELEMENTS)
        fraction = torch.where(draw.chance(0.15, count)[:, None], fraction * dilute, fraction)
        total = fraction.sum(1, keepdim=True)
        return Compositions(numbers, fraction / total, torch.zeros(count, dtype=torch.long))

    def _balance(self, numbers: Tensor, fraction: Tensor, query_is_anion: Tensor) -> Tensor:
        """Scale the anions so that the charges of cations and anions cancel."""
        anion = torch.zeros_like(numbers, dtype=torch.bool)
        anion[:, 3:5] = True
        anion[:, 0] = query_is_anion
        present = (numbers > 0).float()
        plus = (fraction * present * self.cation_valence[numbers] * ~anion).sum(1)
        minus = (fraction * present * self.anion_valence[numbers] * anion).sum(1)
        scale = torch.where((plus > 0) & (minus > 0), plus / minus.clamp(min=1e-6), 1.0)
        return torch.where(anion, fraction * scale[:, None], fraction)

    @staticmethod
    def _drop_repeats(numbers: Tensor) -> None:
        for column in range(1, MAX_ELEMENTS):
            repeated = (numbers[:, :column] == numbers[:, column : column + 1]).any(1)
            numbers[:, column] = torch.where(repeated, 0, numbers[:, column])
