from __future__ import annotations

import torch

from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.heavy_edges import heavy_edges
from zeroloss_export.simulate.recipe import Recipe

AXIS = 48.0 + torch.arange(3072).float()


def test_only_heavy_elements_have_them_and_from_their_onsets_on() -> None:
    numbers = torch.tensor([[8, 26, 0], [8, 78, 0], [78, 0, 0]])
    recipe = Recipe().changed(heavy_edges_chance=1.0, chemical_shift_ev=0.0)
    factor = heavy_edges(AXIS, numbers, recipe, Draw(1))
    assert torch.equal(factor[0], torch.ones(3072))
    for row in (1, 2):
        assert float(factor[row, AXIS < 313].max()) == 1.0  # N5 of Pt at 313.8 eV
        assert float(factor[row, (AXIS > 400) & (AXIS < 500)].min()) > 1.0


def test_switched_off_there_are_none() -> None:
    recipe = Recipe().changed(heavy_edges_chance=0.0)
    factor = heavy_edges(AXIS, torch.full((4, 2), 83), recipe, Draw(1))
    assert torch.equal(factor, torch.ones(4, 3072))
