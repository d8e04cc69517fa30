from __future__ import annotations

import pytest
import torch

from zeroloss_export.measured_range import measured_ends
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.detector import CHANNELS
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import SpectrumSimulator


def test_shapes_and_labels(table: CrossSectionTable) -> None:
    drawn = SpectrumSimulator(table, Recipe(), 1).batch(256)
    assert drawn.counts.shape == (256, CHANNELS)
    assert drawn.present.shape == drawn.known.shape == (256, len(ELEMENTS))
    assert not torch.isinf(drawn.counts).any()
    assert (drawn.counts[~torch.isnan(drawn.counts)] >= 0).all()
    assert ((~torch.isnan(drawn.counts)).sum(1) >= 5).all()
    assert (drawn.scale_ev > 0).all()
    assert (drawn.present <= drawn.known).all()
    assert 0.7 < float(drawn.present.sum(1).mean()) < 2.5
    assert float((1 - drawn.known).sum(1).mean()) < 1.5


def test_the_same_seed_gives_the_same_spectra(table: CrossSectionTable) -> None:
    first, again, other = (SpectrumSimulator(table, Recipe(), seed).batch(8) for seed in (7, 7, 8))
    torch.testing.assert_close(first.counts, again.counts, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(first.offset_ev, again.offset_ev, rtol=0, atol=0)
    assert not torch.equal(first.offset_ev, other.offset_ev)


def test_labelled_edges_lie_in_the_range(table: CrossSectionTable) -> None:
    recipe = Recipe(shift_ev=0.0, shift_tail=(0.0, 0.0), dispersion_error=0.0).changed(
        dispersion_tail=(0.0, 0.0)
    )
    drawn = SpectrumSimulator(table, recipe, 2).batch(256)
    channels = (~torch.isnan(drawn.counts)).float() * torch.arange(CHANNELS)
    end = drawn.offset_ev + drawn.scale_ev * (channels.amax(1) + 2)
    onsets: dict[str, list[float]] = {}
    for group in edge_groups():
        onsets.setdefault(group.element, []).append(group.onset_ev)
    for row, element in torch.nonzero(drawn.present).tolist():
        low, high = float(drawn.offset_ev[row]), float(end[row])
        assert any(low < onset < high for onset in onsets[ELEMENTS[element]])


@pytest.mark.parametrize("shift_ev", [0.0, 7.0])
def test_the_error_of_the_axis_is_told(table: CrossSectionTable, shift_ev: float) -> None:
    right = {"shift_ev": 0.0, "shift_tail": (1.0, shift_ev), "dispersion_error": 0.0}
    recipe = Recipe().changed(dispersion_tail=(0.0, 0.0), **right)
    error = SpectrumSimulator(table, recipe, 2).batch(256).axis_error_ev
    assert error is not None
    torch.testing.assert_close(error[:, 0], error[:, 1], atol=2e-3, rtol=0)
    assert 0.45 * shift_ev <= float(error.abs().mean()) <= 0.55 * shift_ev + 1e-3
    stretched = recipe.changed(dispersion_tail=(1.0, 0.05))
    drawn = SpectrumSimulator(table, stretched, 2).batch(256)
    assert drawn.axis_error_ev is not None
    first, last = measured_ends(drawn.counts)
    grown = (drawn.axis_error_ev[:, 1] - drawn.axis_error_ev[:, 0]) / (last - first)
    assert float((grown / drawn.scale_ev).abs().max()) == pytest.approx(0.05, rel=0.1)


def test_edges_in_the_noise_are_not_labelled(table: CrossSectionTable) -> None:
    bright = SpectrumSimulator(table, Recipe(counts_per_ev=(1e6, 1e6)), 3).batch(128)
    dark = SpectrumSimulator(table, Recipe(counts_per_ev=(2.0, 2.0)), 3).batch(128)
    assert dark.present.sum() < 0.6 * bright.present.sum()
    assert (1 - dark.known).sum() > (1 - bright.known).sum()


def test_an_unknown_recipe_field_is_named() -> None:
    with pytest.raises(ValueError, match="unknown recipe field 'jump_ration'"):
        Recipe().changed(jump_ration=(0.1, 1.0))
