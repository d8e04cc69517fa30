from __future__ import annotations

import numpy as np
import pytest
import torch

from zeroloss_export.networks.quantification.cross_sections import (
    SUBSHELLS,
    Compressed,
    CrossSections,
)
from zeroloss_export.physics.cross_section import cross_section
from zeroloss_export.physics.edges import subshell
from zeroloss_export.physics.elements import element_index
from zeroloss_export.physics.table import GosTable


@pytest.mark.parametrize(
    ("beam_kev", "convergence_mrad", "collection_mrad"),
    [(300.0, 0.0, 2.55), (80.0, 27.4, 33.2), (200.0, 0.0, 100.0), (25.0, 12.0, 0.8), (400, 1, 20)],
)
@pytest.mark.parametrize("label", ["B_K", "O_K", "Mn_L3", "Ca_L1", "La_M5", "In_M4", "Hf_M5"])
def test_agree_with_the_physics_within_one_percent(
    shipped: GosTable,
    table: Compressed,
    label: str,
    beam_kev: float,
    convergence_mrad: float,
    collection_mrad: float,
) -> None:
    item = subshell(label)
    known = cross_section(
        item.onset_ev + shipped.energy_ev,
        shipped.gos[shipped.entry(label)],
        shipped.momentum_au,
        beam_kev,
        convergence_mrad,
        collection_mrad,
    )
    above = np.geomspace(1.0, 1500.0, 80)
    expected = np.exp(np.interp(np.log(above), np.log(shipped.energy_ev), np.log(known)))
    module = CrossSections(table)
    selection = torch.tensor([float(element_index(item.element))])
    scope = [torch.tensor([value]) for value in (beam_kev, convergence_mrad, collection_mrad)]
    coeff = module(selection, *(value.float() for value in scope))
    grid = torch.tensor(item.onset_ev + above).float()
    place = int((module.onsets[element_index(item.element)] == np.float32(item.onset_ev)).nonzero())
    shapes = module.on_grid(selection, grid)[0].reshape(SUBSHELLS, module.rank, -1)[place]
    found = (coeff[0, 0].reshape(SUBSHELLS, module.rank)[place] @ shapes).numpy()
    total = np.trapezoid(found, above) / np.trapezoid(expected, above)
    assert total == pytest.approx(1.0, abs=0.01)
    strong = expected > 0.1 * expected.max()
    np.testing.assert_allclose(found[strong], expected[strong], rtol=0.03)


def test_nothing_below_the_onset_and_of_slots_that_are_empty(table: Compressed) -> None:
    module = CrossSections(table)
    spectra = module.on_grid(torch.tensor([element_index("B")]).float(), torch.tensor([100.0, 187]))
    assert (spectra == 0).all()
