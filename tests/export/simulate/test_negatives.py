from __future__ import annotations

import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate import negatives
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.negatives import KINDS, spoiled
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator


@pytest.fixture(scope="module")
def spectra(table: CrossSectionTable) -> LabelledSpectra:
    return SpectrumSimulator(table, Recipe(), 4).batch(64)


def test_spoiled_spectra_show_nothing_and_the_rest_is_untouched(spectra: LabelledSpectra) -> None:
    new, unlike = spoiled(spectra, 0.3, Draw(1))
    bad = unlike > 0
    assert 8 < int(bad.sum()) < 32
    assert float(new.present[bad].sum()) == 0
    assert float(new.known[bad].min()) == 1
    for before, after in (
        (spectra.counts, new.counts),
        (spectra.offset_ev, new.offset_ev),
        (spectra.present, new.present),
        (spectra.known, new.known),
    ):
        torch.testing.assert_close(after[~bad], before[~bad], rtol=0, atol=0, equal_nan=True)


def test_without_a_chance_nothing_is_spoiled(spectra: LabelledSpectra) -> None:
    new, unlike = spoiled(spectra, 0.0, Draw(1))
    assert new is spectra
    assert float(unlike.sum()) == 0


def test_the_same_seed_spoils_alike(spectra: LabelledSpectra) -> None:
    first, second = spoiled(spectra, 1.0, Draw(7))[0], spoiled(spectra, 1.0, Draw(7))[0]
    torch.testing.assert_close(first.counts, second.counts, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_gives_spectra_that_a_detector_could_give(
    kind: str, spectra: LabelledSpectra
) -> None:
    draw = Draw(2)
    raw = negatives._raw(spectra, torch.arange(64), draw)
    counts, offset, scale = KINDS[kind](raw, draw)
    assert counts.shape == spectra.counts.shape
    assert offset.shape == scale.shape == (64,)
    assert not counts.isinf().any()
    assert float(counts.nan_to_num(0.0).min()) >= 0
    assert bool((scale > 0).all())
    assert bool((counts.isnan() == spectra.counts.isnan()).float().mean() > 0.8)


def test_an_axis_is_only_wrong_where_an_edge_tells(spectra: LabelledSpectra) -> None:
    blank = LabelledSpectra(
        spectra.counts,
        spectra.offset_ev,
        spectra.scale_ev,
        torch.zeros_like(spectra.present),
        spectra.known,
    )
    new, _ = spoiled(blank, 1.0, Draw(3))
    same_counts = ((new.counts == spectra.counts) | spectra.counts.isnan()).all(1)
    assert not same_counts.any()


def test_a_reversed_spectrum_reversed_is_the_spectrum(spectra: LabelledSpectra) -> None:
    draw = Draw(2)
    raw = negatives._raw(spectra, torch.arange(64), draw)
    back, _, _ = KINDS["reversed"](raw, draw)
    row = 5
    measured = int((~spectra.counts[row].isnan()).nonzero()[-1]) + 1
    torch.testing.assert_close(
        back[row, :measured].flip(0), spectra.counts[row, :measured], equal_nan=True
    )


def test_a_wrong_axis_is_far_beyond_usual_errors(spectra: LabelledSpectra) -> None:
    draw = Draw(2)
    raw = negatives._raw(spectra, torch.arange(64), draw)
    _, offset, _ = KINDS["axis off"](raw, draw)
    assert float((offset - spectra.offset_ev).abs().min()) > 38
    _, _, scale = KINDS["axis stretched"](raw, draw)
    factor = scale / spectra.scale_ev
    assert float(torch.maximum(factor, 1 / factor).min()) > 1.2
