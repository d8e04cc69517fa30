"""Generic fine structure: randomly weighted Gaussians of lifetime width above the onset.

An electron ionised to eps above the onset lives for lambda / v, v = sqrt(2 eps / m), so that its
state is hbar v / lambda wide; lambda = 538 a / eps^2 + 0.41 a^1.5 eps^0.5 (nm, eV) is the mean free
path of M. P. Seah and W. A. Dench, Surf. Interface Anal. 1, 2 (1979), a the atomic diameter (the
paper prints the first term as 538 a eps^-2). Left open by the paper and filled here: weights are
uniform in -1 to 1; widths are full widths at half maximum, at least one channel; tails reach as far
as they do, but not below the onset; and of the scale the paper says that it depends on the ratio
of the most positive to the most negative value: the structure's peak is that ratio times the
edge's, at most 10, which is where the deepest dip of an edge just reaches zero.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.paper.recipe import PaperRecipe

HBAR_VELOCITY_EV_NM: Final = 0.3904
"""hbar v in eV nm at eps = 1 eV: sqrt(2 hbar^2 / m x 1 eV)."""

CHANNELS: Final = 320
_FAINTEST: Final = -30.0  # exponentials that underflow take ten times as long
_PER_SIGMA: Final = 2 * math.sqrt(2 * math.log(2))


def lifetime_width_ev(above_ev: Tensor, diameter_nm: Tensor) -> Tensor:
    """Width of a state ``above_ev`` above the onset in eV."""
    path_nm = 538 * diameter_nm / above_ev**2 + 0.41 * diameter_nm**1.5 * above_ev.sqrt()
    return HBAR_VELOCITY_EV_NM * above_ev.sqrt() / path_nm


def generic_structure(count: int, recipe: PaperRecipe, draw: Draw) -> Tensor:
    """Structures [count, CHANNELS] from the onset on, in units of the edge's peak."""
    low, high = recipe.structure_degree
    # In falling order, so that the n-th Gaussian concerns the first rows only; the rows are mixed
    # again at the end.
    degree = draw.integers(low, high + 1, count).sort(descending=True).values
    width = draw.integers(recipe.structure_width_ev[0], recipe.structure_width_ev[1] + 1, count)
    centre = draw.uniform(0.0, 1.0, count, high) * width[:, None]
    diameter = draw.uniform(*recipe.atomic_diameter_nm, count)[:, None]
    sigma = lifetime_width_ev(centre.clamp(min=0.1), diameter).clamp(min=1.0) / _PER_SIGMA
    weight = draw.uniform(-1.0, 1.0, count, high)
    slope = math.sqrt(0.5) / sigma
    shift = slope * (centre - 0.5)
    channel = torch.arange(CHANNELS, dtype=torch.float32)
    total = torch.zeros(count, CHANNELS)
    rows = (degree[:, None] > torch.arange(high)).sum(0).tolist()
    for nth, some in enumerate(rows):
        x = channel * slope[:some, nth, None]
        x.sub_(shift[:some, nth, None]).square_().neg_().clamp_(min=_FAINTEST).exp_()
        total[:some].addcmul_(x, weight[:some, nth, None])
    top, bottom = total.amax(1), -total.amin(1)
    scale = torch.minimum(1 / bottom.clamp(min=1e-6), recipe.structure_scale / top.clamp(min=1e-6))
    total *= scale[:, None]
    mixed = torch.randperm(count, generator=draw.generator, device=draw.device)
    return total[mixed]
