from __future__ import annotations

import math

import pytest
import torch

from zeroloss_export.networks.paper.grid import PaperGrid
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.paper import PaperRecipe, PaperSimulator
from zeroloss_export.simulate.paper.simulator import poisson

WHOLE = ("start_ev", "end_ev", "instrumental_shift_ev", "query")


def test_conditions_are_those_of_table_1(table: CrossSectionTable) -> None:
    simulator = PaperSimulator(table, PaperRecipe(), 1)
    drawn = simulator.spectra_of(simulator.specimens(600))
    conditions = drawn.conditions
    for name, low, high in (
        ("convergence_mrad", 1, 20),
        ("collection_mrad", 1, 100),
        ("thickness", 0.1, 1),
        ("jump_ratio", 0.2, 1.5),
        ("exponent", 2, 4),
        ("instrumental_shift_ev", -5, 5),
        ("start_ev", 75, 2900),
    ):
        value = conditions[name]
        assert low <= float(value.min()) <= low + 0.1 * (high - low), name
        assert float(value.max()) <= high, name
    assert set(conditions["beam_kev"].tolist()) == {60.0, 100.0, 200.0, 300.0}
    assert set(conditions["amplitude"].tolist()) == {1e3, 1e4, 1e5, 1e6, 1e7}
    for name in WHOLE:
        assert (conditions[name] == conditions[name].round()).all(), name
    assert (conditions["end_ev"] <= 3071).all()


def test_labels_are_the_elements_with_an_edge_in_the_range(table: CrossSectionTable) -> None:
    simulator = PaperSimulator(table, PaperRecipe(), 2)
    specimens = simulator.specimens(300)
    drawn = simulator.spectra_of(specimens)
    for row in range(300):
        start = float(drawn.conditions["start_ev"][row])
        end = float(drawn.conditions["end_ev"][row])
        fraction = dict(
            zip(
                specimens.atomic_number[row].tolist(), specimens.fraction[row].tolist(), strict=True
            )
        )
        expected = set()
        for group in edge_groups():
            last = max(part.onset_ev for part in group.subshells if part.major)
            if fraction.get(group.atomic_number, 0.0) <= 0:
                continue
            if start + 10 <= group.onset_ev and last + 25 <= end:
                expected.add(group.atomic_number)
        found = (torch.nonzero(drawn.spectra.present[row])[:, 0] + 4).tolist()
        assert set(found) == expected
        assert int(drawn.conditions["query"][row]) in expected
        total = sum(fraction[z] for z in expected)
        for z in expected:
            assert float(drawn.quantity[row, z - 4]) == pytest.approx(fraction[z] / total, 1e-4)
    assert (drawn.spectra.known == 1).all()


def test_every_element_occurs_at_least_as_often_as_it_is_asked_for(
    table: CrossSectionTable,
) -> None:
    simulator = PaperSimulator(table, PaperRecipe(), 3)
    query = torch.arange(4, 84).repeat(4)
    drawn = simulator.spectra_of(simulator.specimens(320, query))
    assert int(drawn.spectra.present.sum(0).min()) >= 4
    torch.testing.assert_close(drawn.conditions["query"], query.float())


def test_counts_are_whole_inside_the_range_and_missing_outside(table: CrossSectionTable) -> None:
    simulator = PaperSimulator(table, PaperRecipe(), 4)
    drawn = simulator.spectra_of(simulator.specimens(64))
    spectra, conditions = drawn.spectra, drawn.conditions
    assert spectra.counts.shape == (64, 3072)
    shift = conditions["instrumental_shift_ev"]
    energy = torch.arange(3072)
    inside = (energy >= (conditions["start_ev"] + shift)[:, None]) & (
        energy <= (conditions["end_ev"] + shift)[:, None]
    )
    measured = ~torch.isnan(spectra.counts)
    # A range that goes on beyond the axis may be shifted down from there.
    assert (measured >= inside).all()
    assert (measured & ~inside)[:, :3060].sum() == 0
    counts = spectra.counts[measured]
    assert (counts >= 0).all()
    assert (counts == counts.round()).all()
    features = PaperGrid()(spectra.counts, spectra.offset_ev, spectra.scale_ev)
    assert features.shape == (64, 1, 3072)
    torch.testing.assert_close(features.amax(2), torch.ones(64, 1))


def test_the_same_seed_gives_the_same_spectra(table: CrossSectionTable) -> None:
    first = PaperSimulator(table, PaperRecipe(), 5)
    second = PaperSimulator(table, PaperRecipe(), 5)
    first.batch(7)
    second.draw.generator.set_state(first.draw.generator.get_state())
    assert torch.equal(first.batch(9).counts.nan_to_num(-1), second.batch(9).counts.nan_to_num(-1))


def test_the_jump_ratio_is_that_of_the_edge_before_fine_structure(
    table: CrossSectionTable,
) -> None:
    recipe = PaperRecipe(
        thickness=(0.0, 0.0),
        zero_loss_fwhm_ev=(1e-3, 1e-3),
        structure_scale=0.0,
        amplitude=(1e12,),
        jump_ratio=(0.7, 0.7),
        chemical_shift_ev=0,
        instrumental_shift_ev=0,
        end_ev=3071,
    )
    simulator = PaperSimulator(table, recipe, 6, split="single")
    query = torch.full((20,), 26)
    drawn = simulator.spectra_of(simulator.specimens(20, query))
    energy = torch.arange(3072.0)
    for row in range(20):
        condition = {name: float(value[row]) for name, value in drawn.conditions.items()}
        background = 1e12 * (energy / condition["start_ev"]) ** -condition["exponent"]
        edge = drawn.spectra.counts[row] - background
        at = round(edge_groups()[[g.label for g in edge_groups()].index("Fe_L")].onset_ev)
        seen = edge[at : int(condition["end_ev"]) + 1]
        assert float(seen.max() / background[at]) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize("element", ["C", "Tb"])
def test_single_elements_stand_alone(table: CrossSectionTable, element: str) -> None:
    simulator = PaperSimulator(table, PaperRecipe(), 7, split="single")
    query = torch.full((30,), ELEMENTS.index(element) + 4)
    drawn = simulator.spectra_of(simulator.specimens(30, query))
    assert (drawn.spectra.present.sum(1) == 1).all()
    assert (drawn.spectra.present[:, ELEMENTS.index(element)] == 1).all()


@pytest.mark.parametrize("mean", [3.0, 80.0, 1e5])
def test_counts_have_the_moments_of_poisson(mean: float) -> None:
    n = 400_000
    counts = poisson(torch.full((n,), mean), Draw(8)).double()
    assert float(counts.mean()) == pytest.approx(mean, abs=5 * math.sqrt(mean / n))
    assert float(counts.var()) == pytest.approx(mean, rel=0.02)
    skewness = float(((counts - counts.mean()) ** 3).mean()) / mean**1.5
    assert skewness == pytest.approx(1 / math.sqrt(mean), abs=0.03)
    assert (counts >= 0).all()
    assert (poisson(torch.zeros(100), Draw(9)) == 0).all()


def test_fields_of_the_recipe_keep_their_kind() -> None:
    recipe = PaperRecipe().changed(plasmons=(3.0, 4.0), end_ev=2000.0, jump_ratio=(1.0, 2.0))
    assert recipe.plasmons == (3, 4)
    assert isinstance(recipe.end_ev, int)
    with pytest.raises(ValueError, match="unknown field of the paper's recipe 'plasmon'"):
        PaperRecipe().changed(plasmon=1)
