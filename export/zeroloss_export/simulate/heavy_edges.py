"""Edges of heavy elements that no label stands for: N2 to N5 of Hf to Bi.

They are too broad to be told by, and lie where light elements and 3d metals have their edges. An
oxide's O K must not be claimed for the N3 edge of platinum, nor Tc M3 for N5 of bismuth.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.recipe import Recipe

_FIRST_Z: Final = 72
# N2, N3, N4 and N5 of Hf to Bi in eV (xraylib 4, EdgeEnergy).
_ONSET_EV: Final = (
    (437.0, 380.4, 223.8, 213.7),
    (464.8, 404.5, 241.3, 229.3),
    (491.6, 425.3, 258.8, 245.4),
    (517.9, 444.4, 273.7, 260.2),
    (546.5, 468.2, 289.4, 272.8),
    (577.1, 494.3, 311.4, 294.9),
    (607.6, 519.1, 330.7, 313.8),
    (643.7, 545.4, 352.0, 333.9),
    (681.0, 576.9, 378.5, 359.3),
    (721.3, 609.0, 406.6, 386.2),
    (763.9, 644.5, 435.2, 412.9),
    (805.3, 678.9, 463.6, 440.0),
)
_WEIGHT: Final = (0.35, 1.0, 0.7, 1.0)


def heavy_edges(axis_ev: Tensor, numbers: Tensor, recipe: Recipe, draw: Draw) -> Tensor:
    """Factors [batch, channel], 1 or more, for a background under which such edges lie.

    ``numbers`` [batch, n] are atomic numbers; the heaviest counts. The 4p edges rise within some
    eV, the 4d edges are delayed by tens of eV. Heights are drawn as shares of the background:
    nothing else is known of them here.
    """
    batch = len(numbers)
    heaviest = numbers.amax(1)
    here = (heaviest >= _FIRST_Z) & draw.chance(recipe.heavy_edges_chance, batch)
    onsets = torch.tensor(_ONSET_EV)[(heaviest - _FIRST_Z).clamp(0, len(_ONSET_EV) - 1)]
    onsets = onsets + recipe.chemical_shift_ev * draw.normal(batch, 1)
    sharp = draw.log_uniform(2.0, 15.0, batch, 1)
    delayed = draw.log_uniform(10.0, 60.0, batch, 1)
    total = torch.zeros(batch, len(axis_ev))
    for place, weight in enumerate(_WEIGHT):
        above = (axis_ev - onsets[:, place : place + 1]).clamp(min=0.0)
        width = sharp if place < 2 else delayed
        decay = draw.log_uniform(150.0, 800.0, batch, 1)
        height = weight * torch.exp(0.4 * draw.normal(batch, 1))
        total += height * (1 - torch.exp(-above / width)) * torch.exp(-above / decay)
    return 1 + (draw.log_uniform(*recipe.heavy_edges, batch) * here)[:, None] * total
