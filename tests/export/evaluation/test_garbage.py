from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroloss.models import load_package
from zeroloss.models.store import builtin_folder
from zeroloss_export.evaluation.garbage import Inputs, garbage, score_garbage
from zeroloss_export.evaluation.measured import Answers
from zeroloss_export.evaluation.session import session_predictor
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator


@pytest.fixture(scope="module")
def real(table: CrossSectionTable) -> LabelledSpectra:
    return SpectrumSimulator(table, Recipe(), 9).batch(8)


@pytest.fixture(scope="module")
def kinds(real: LabelledSpectra) -> dict[str, Inputs]:
    return garbage(8, 9, real)


def _sure_of_beryllium(counts: Tensor, *_: Tensor) -> Answers:
    """Claims Be wherever anything was measured, and gives NaN elsewhere."""
    probability = torch.zeros(len(counts), len(ELEMENTS))
    probability[:, 0] = 0.95
    probability[torch.isnan(counts).all(1)] = torch.nan
    return probability, probability, torch.isnan(probability[:, :1]).float()


def test_the_inputs_are_what_they_are_called(
    kinds: dict[str, Inputs], real: LabelledSpectra
) -> None:
    for kind, inputs in kinds.items():
        assert len(inputs.counts) == len(inputs.offset_ev) == len(inputs.scale_ev) == 8, kind
    assert (np.ptp(kinds["constant"].counts, axis=1) == 0).all()
    assert (kinds["zeros"].counts == 0).all()
    assert np.isnan(kinds["all NaN"].counts).all()
    dark = kinds["dark frame, half of it negative"].counts
    assert 0.4 < (dark < 0).mean() < 0.6
    low_loss = kinds["low loss only"]
    place = low_loss.counts.argmax(1)
    peak_ev = low_loss.offset_ev + low_loss.scale_ev * place
    assert np.abs(peak_ev).max() <= 1.0
    mirrored, counts = kinds["reversed spectrum"].counts, real.counts.numpy()
    for row, original in zip(mirrored, counts, strict=True):
        measured, again = original[np.isfinite(original)], row[np.isfinite(row)]
        assert again == pytest.approx(measured[::-1])
    assert (kinds["reversed axis: negative eV per channel"].scale_ev < 0).all()
    away = np.abs(kinds["axis 100 to 500 eV off"].offset_ev - real.offset_ev.numpy())
    assert away.min() >= 99
    assert away.max() <= 501


def test_every_claim_is_counted(kinds: dict[str, Inputs]) -> None:
    rows = {row.kind: row for row in score_garbage(_sure_of_beryllium, kinds, 0.5)}
    assert set(rows) == set(kinds)
    assert rows["zeros"].claiming == rows["zeros"].elements == 1.0
    assert rows["zeros"].highest == pytest.approx(0.95)
    assert rows["zeros"].named == ("Be",)
    assert rows["all NaN"].claiming == 0.0
    assert (rows["all NaN"].unlike, rows["zeros"].unlike) == (1.0, 0.0)
    assert rows["all NaN"].not_finite == 8 * len(ELEMENTS)
    silent = {row.kind: row for row in score_garbage(_sure_of_beryllium, kinds, 0.99)}
    assert all(row.claiming == 0.0 and row.named == () for row in silent.values())


def test_the_shipped_package_refuses_a_negative_step(kinds: dict[str, Inputs]) -> None:
    package = load_package(builtin_folder() / "elements")
    chosen = {name: kinds[name] for name in ("zeros", "reversed axis: negative eV per channel")}
    rows = score_garbage(session_predictor(package), chosen, 0.5)
    assert [row.refused for row in rows] == [False, True]
    assert rows[0].not_finite == 0
