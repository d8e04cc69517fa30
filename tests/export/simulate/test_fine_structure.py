from __future__ import annotations

import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import atomic_number
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.edge_bank import EdgeBank
from zeroloss_export.simulate.fine_structure import Edges, FineStructure
from zeroloss_export.simulate.recipe import Recipe

FIRST_EV = 48.0
PLAIN = Recipe(
    white_line_strength=(0.0, 0.0),
    giant_resonance=False,
    light_lines=False,
    generic_structure_chance=0.0,
    exafs_chance=0.0,
)


@pytest.fixture(scope="module")
def bank(table: CrossSectionTable) -> EdgeBank:
    return EdgeBank(table)


def _steps(bank: EdgeBank, element: str, place: int, count: int) -> Edges:
    """Plain steps of height one at the onset of a group."""
    group = bank.groups_of[atomic_number(element)][place].repeat(count)
    onset = bank.group_onset[group]
    axis = FIRST_EV + torch.arange(2000)
    value = (axis[None] >= onset[:, None]).float() * torch.exp(-(axis - onset[:, None]) / 200)
    return Edges(value, group, onset)


def _apply(bank: EdgeBank, recipe: Recipe, edges: Edges, seed: int = 1) -> torch.Tensor:
    copy = Edges(edges.value.clone(), edges.group, edges.onset_ev)
    return FineStructure(bank, FIRST_EV, recipe).apply(copy, Draw(seed))


@pytest.mark.parametrize(("element", "place"), [("O", 0), ("Ti", 0), ("Ce", 0), ("Ag", 0)])
def test_fine_structure_is_finite_never_negative_and_near_the_edge(
    bank: EdgeBank, element: str, place: int
) -> None:
    edges = _steps(bank, element, place, 64)
    value = _apply(bank, Recipe(), edges)
    assert torch.isfinite(value).all()
    assert (value >= 0).all()
    far_below = int(edges.onset_ev[0] - FIRST_EV) - 40
    assert (value[:, : max(far_below, 0)] == 0).all()
    assert float((value - edges.value).abs().max()) > 0.05


def test_switched_off_it_changes_nothing(bank: EdgeBank) -> None:
    edges = _steps(bank, "O", 0, 16)
    torch.testing.assert_close(_apply(bank, PLAIN, edges), edges.value)


def test_white_lines_of_titanium_stand_before_those_of_copper(bank: EdgeBank) -> None:
    recipe = PLAIN.changed(white_line_strength=(1.0, 1.0))

    def added(element: str) -> float:
        edges = _steps(bank, element, 0, 64)
        gain = (_apply(bank, recipe, edges) - edges.value).sum(1)
        return float(gain.median() / edges.value[0, : int(edges.onset_ev[0]) + 2].sum())

    assert added("Ti") > 5 * added("Cu") > 0


def test_giant_resonance_lies_above_the_n45_onset_and_narrows_with_filling(bank: EdgeBank) -> None:
    recipe = PLAIN.changed(giant_resonance=True)

    def centre_ev(element: str) -> float:
        edges = _steps(bank, element, 0, 200)
        value = _apply(bank, recipe, edges)
        return float((value.argmax(1) + FIRST_EV - edges.onset_ev).median())

    assert 10 < centre_ev("Pr") < 25
    assert 3 < centre_ev("Er") < 12
    assert centre_ev("Yb") < 3


def test_some_pi_resonances_stand_alone_before_the_continuum(bank: EdgeBank) -> None:
    recipe = PLAIN.changed(light_lines=True, delayed_continuum_chance=1.0)
    edges = _steps(bank, "B", 0, 100)
    value = _apply(bank, recipe, edges)
    first = int(edges.onset_ev[0] - FIRST_EV)
    # At the onset the continuum is held back; 20 eV higher it is whole.
    assert float(value[:, first].quantile(0.25)) < 0.7
    assert float(value[:, first + 24].min()) > 0.8
