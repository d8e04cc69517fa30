"""The models of a run: independent, masked values kept, one axis corrected by another's answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.packages import (
    expected_masked,
    expected_selected,
    make_masked_package,
    make_package,
    make_selected_package,
    replace_graph,
)
from support.streams import ELEMENTS, counts_at, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import Analysis
from zeroloss.pipeline.answers import NO_ANSWER, NO_VALID_CHANNEL, Handed, RunModels
from zeroloss.wire import EnergyRange, ScanPlan

N = 12
CORE = make_start(ScanPlan(shape=(1, N))).ranges[0]
LOW = EnergyRange(name="low_loss", offset_ev=-10.0, scale_ev=0.25, size=128, dtype="float32")
FAILURE = "model failure: InferenceError"


def low_counts(n: int = N) -> np.ndarray:
    """Low loss [n, 128] with a peak in channel 30 + i; every third is too dark, every fifth bright.

    Integers, so that sums are exact in whatever order.
    """
    rng = np.random.default_rng(3)
    counts = rng.poisson(60.0, (n, LOW.size)).astype(np.float32)
    counts[np.arange(n), 30 + np.arange(n)] += 500
    counts[::3] = np.round(counts[::3] / 100)
    counts[4::5] *= 100
    return counts


def core_counts(n: int = N) -> np.ndarray:
    return counts_at(range(n)).astype(np.float32)


def masked(
    folder: Path, *, on: EnergyRange = LOW, name: str = "masked", **changes: Any
) -> Analysis:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    package = make_masked_package(folder, name=name, changes=dotted)
    return Analysis(ModelSession(load_package(package)), on)


def tiny(folder: Path, name: str = "tiny", changes: Mapping[str, Any] | None = None) -> Analysis:
    package = make_package(folder, name=name, labels=ELEMENTS, changes=changes)
    return Analysis(ModelSession(load_package(package)), CORE)


def failing(folder: Path) -> Analysis:
    """A model whose graph only runs on spectra of 4 channels."""
    analysis = tiny(folder, "failing")
    parser = pytest.importorskip("onnx.parser", reason="needs the package onnx")
    graph = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]>
        g (float[b, c] counts, float[b] offset_ev, float[b] scale_ev)
            => (float[b, 4] probability, float[b, 4] spread) {
            batch = Shape <start = 0, end = 1> (counts)
            four = Constant <value_ints = [4]> ()
            size = Concat <axis = 0> (batch, four)
            probability = Reshape (counts, size)
            spread = Reshape (counts, size)
        }
    """)
    folder_of_it = analysis.session.package.folder
    replace_graph(folder_of_it, graph)
    return Analysis(ModelSession(load_package(folder_of_it)), CORE)


def test_a_value_that_is_missing_for_a_reason_is_an_answer(tmp_path: Path) -> None:
    models = RunModels("r", [masked(tmp_path)])
    answers = models.answer(Handed({"low_loss": low_counts()}))
    assert answers.answered.all()
    assert answers.refused == {}
    assert answers.fault is None
    assert set(answers.layers) == {
        f"masked/{name}" for name in ("mean", "mean_error", "peak", "reason")
    }
    for name, expected in expected_masked(low_counts(), -10.0, 0.25).items():
        np.testing.assert_allclose(answers.layers[f"masked/{name}"], expected, rtol=1e-6)
    codes = answers.layers["masked/reason"]
    assert set(codes.tolist()) == {0.0, 1.0, 2.0}
    assert models.take_unanswered() == {}


def test_a_value_that_is_missing_without_a_reason_is_none(tmp_path: Path) -> None:
    silent = {"outputs__0__reason": None, "outputs__0__uncertainty": None}
    answers = RunModels("r", [masked(tmp_path, **silent)]).answer(
        Handed({"low_loss": low_counts()})
    )
    dark = expected_masked(low_counts(), -10.0, 0.25)["reason"] > 0
    np.testing.assert_array_equal(answers.answered, ~dark)
    assert list(answers.refused) == [NO_ANSWER]
    np.testing.assert_array_equal(answers.refused[NO_ANSWER], dark)
    for layer in answers.layers.values():
        np.testing.assert_array_equal(np.isnan(layer), dark)


def test_models_do_not_cost_each_other_a_pixel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = {"outputs__0__reason": None, "outputs__0__uncertainty": None}
    analyses = [failing(tmp_path), masked(tmp_path, **silent), tiny(tmp_path)]
    models = RunModels("r", analyses)
    core = core_counts()
    core[:2] = np.nan
    counts = {"low_loss": low_counts(), "core_loss": core}
    answers = models.answer(Handed(counts))
    dark = expected_masked(low_counts(), -10.0, 0.25)["reason"] > 0
    np.testing.assert_array_equal(answers.answered, ~dark | (np.arange(N) >= 2))
    assert {why: rows.nonzero()[0].tolist() for why, rows in answers.refused.items()} == {
        NO_ANSWER: [0]
    }
    assert answers.fault is not None
    assert "the graph failed" in answers.fault
    assert np.isnan(answers.layers["failing/probability"]).all()
    expected = analyses[2].session.run(core, 100.0, 1.0)["probability"]
    np.testing.assert_array_equal(answers.layers["tiny/probability"][2:], expected[2:])
    assert np.isnan(answers.layers["tiny/probability"][:2]).all()
    np.testing.assert_array_equal(np.isnan(answers.layers["masked/mean"]), dark)
    assert models.take_unanswered() == {
        ("failing", FAILURE): N - 2,
        ("failing", NO_VALID_CHANNEL): 2,
        ("masked", NO_ANSWER): int(dark.sum()),
        ("tiny", NO_VALID_CHANNEL): 2,
    }
    assert models.take_unanswered() == {}
    told = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert len(told) == 4
    assert f"no answer of the model masked for {dark.sum()} spectra so far: {NO_ANSWER}" in told[2]


def test_why_no_model_answered(tmp_path: Path) -> None:
    counts = {"core_loss": core_counts()}
    counts["core_loss"][3] = np.nan
    answers = RunModels("r", [failing(tmp_path)]).answer(Handed(counts))
    assert {why: rows.nonzero()[0].tolist() for why, rows in answers.refused.items()} == {
        FAILURE: [i for i in range(N) if i != 3],
        NO_VALID_CHANNEL: [3],
    }


def test_failures_are_logged_ever_more_rarely(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = RunModels("r", [failing(tmp_path)])
    for _ in range(9):
        models.answer(Handed({"core_loss": core_counts(1)}))
    told = [item.getMessage() for item in caplog.records if item.levelname == "WARNING"]
    assert [int(line.split(" for ")[1].split()[0]) for line in told] == [1, 2, 4, 8]
    why = [str(item.exc_info[1]) for item in caplog.records if item.exc_info]
    assert len(why) == 4
    assert all("the graph failed" in sentence for sentence in why)


def test_negative_counts_are_handed_to_who_takes_them(tmp_path: Path) -> None:
    signed = masked(tmp_path, name="signed", takes__signed_counts=True)
    plain = masked(tmp_path, name="plain")
    models = RunModels("r", [signed, plain])
    counts = low_counts()
    counts[:, ::4] = -20
    answers = models.answer(Handed({"low_loss": counts}))
    without = np.where(counts < 0, np.nan, counts)
    for name, expected in expected_masked(counts, -10.0, 0.25).items():
        np.testing.assert_allclose(answers.layers[f"signed/{name}"], expected, rtol=1e-6)
    for name, expected in expected_masked(without, -10.0, 0.25).items():
        np.testing.assert_allclose(answers.layers[f"plain/{name}"], expected, rtol=1e-6)
    assert (counts[:, ::4] == -20).all()
    assert not models.takes_negative("low_loss")
    assert not models.takes_negative("core_loss")
    assert RunModels("r", [signed]).takes_negative("low_loss")


def test_one_model_moves_the_axis_of_the_other_ranges(tmp_path: Path) -> None:
    shifting = masked(tmp_path, name="zero", outputs__2__shifts_axis=True)
    beside = masked(tmp_path, name="beside")
    core = tiny(tmp_path)
    low = low_counts()
    answers = RunModels("r", [core, beside, shifting]).answer(
        Handed({"low_loss": low, "core_loss": core_counts()})
    )
    peak = expected_masked(low, -10.0, 0.25)["peak"]
    assert np.isnan(peak).any()
    shift = np.nan_to_num(peak)
    assert len(set(shift.tolist())) > 4
    expected = core.session.run(core_counts(), 100.0 - shift, 1.0)["probability"]
    np.testing.assert_array_equal(answers.layers["tiny/probability"], expected)
    unmoved = core.session.run(core_counts(), 100.0, 1.0)["probability"]
    assert not np.array_equal(expected, unmoved)
    # Models of its own range see the axis as it was announced.
    np.testing.assert_array_equal(answers.layers["beside/peak"], answers.layers["zero/peak"])


def test_a_shift_whose_model_failed_corrects_nothing(tmp_path: Path) -> None:
    shifting = masked(tmp_path, outputs__2__shifts_axis=True, outputs__2__reason=None)
    core = tiny(tmp_path)
    low = low_counts()
    answers = RunModels("r", [shifting, core]).answer(
        Handed({"low_loss": low, "core_loss": core_counts()})
    )
    dark = expected_masked(low, -10.0, 0.25)["reason"] > 0
    unmoved = core.session.run(core_counts(), 100.0, 1.0)["probability"]
    np.testing.assert_array_equal(answers.layers["tiny/probability"][dark], unmoved[dark])
    assert not (answers.layers["tiny/probability"][~dark] == unmoved[~dark]).all()


def test_of_two_that_move_the_axis_the_first_by_name_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The other one would find its peak elsewhere: it looks at the core loss.
    later = masked(tmp_path, name="later", on=CORE, outputs__2__shifts_axis=True)
    first = masked(tmp_path, name="first", outputs__2__shifts_axis=True)
    core = tiny(tmp_path)
    answers = RunModels("abcd", [later, core, first]).answer(
        Handed({"low_loss": low_counts(), "core_loss": core_counts()})
    )
    shift = np.nan_to_num(expected_masked(low_counts(), -10.0, 0.25)["peak"])
    expected = core.session.run(core_counts(), 100.0 - shift, 1.0)["probability"]
    np.testing.assert_array_equal(answers.layers["tiny/probability"], expected)
    (told,) = (record.getMessage() for record in caplog.records if "axis" in record.getMessage())
    assert "run abcd: the models first, later all say" in told
    assert told.endswith("first counts")


def test_a_package_of_spectra_alone_leaves_the_pixel_to_the_others(tmp_path: Path) -> None:
    changes = {"outputs.0.uncertainty": None, "outputs.0.kind": "spectrum"}
    changes |= {"outputs.1.kind": "spectrum", "outputs.0.threshold": None}
    analysis = tiny(tmp_path, changes=changes)
    counts = core_counts()
    counts[1] = np.nan
    answers = RunModels("r", [analysis]).answer(Handed({"core_loss": counts}))
    assert answers.layers == {}
    assert np.flatnonzero(~answers.answered).tolist() == [1]


def selected(folder: Path, **parameters: float) -> Analysis:
    """A model of oxygen and manganese on the core loss, with the low loss beside it."""
    session = ModelSession(load_package(make_selected_package(folder)))
    return Analysis(session, CORE, parameters, (5, 6), LOW)


def test_the_low_loss_of_the_same_pixel_is_handed_over_on_the_moved_axis(tmp_path: Path) -> None:
    shifting = masked(tmp_path, name="zero", outputs__2__shifts_axis=True)
    models = RunModels("r", [selected(tmp_path, exposure_ratio=4.0), shifting])
    low, core = low_counts(), core_counts()
    low[2] = np.nan
    low[5, :9] = -30
    low[7, 3] = np.nan
    answers = models.answer(Handed({"low_loss": low, "core_loss": core}))
    shift = np.nan_to_num(expected_masked(np.where(low < 0, np.nan, low), -10.0, 0.25)["peak"])
    shift[2] = 0.0
    assert len(set(shift.tolist())) > 4
    expected = expected_selected(
        core, 100.0 - shift, 1.0, ["O", "Mn"], low_loss=(low, -10 - shift, 0.25), exposure_ratio=4
    )
    assert {0.0, 1.0} == set(expected["why"].tolist())
    for name, values in expected.items():
        np.testing.assert_allclose(answers.layers[f"selected/{name}"], values, rtol=1e-5)
    assert answers.answered.all()
    # The model of the zero loss sees its range as it was announced, and without negative counts.
    assert models.takes_negative("low_loss") is False
    assert RunModels("r", [selected(tmp_path / "b")]).takes_negative("low_loss")
    assert (models.range_names, models.handed_names) == (
        {"core_loss", "low_loss"},
        {"core_loss", "low_loss"},
    )


def test_without_a_model_of_the_zero_loss_nothing_is_moved(tmp_path: Path) -> None:
    models = RunModels("r", [selected(tmp_path, exposure_ratio=4.0)])
    low, core = low_counts(), core_counts()
    answers = models.answer(Handed({"low_loss": low, "core_loss": core}))
    expected = expected_selected(
        core, 100.0, 1.0, ["O", "Mn"], low_loss=(low, -10.0, 0.25), exposure_ratio=4
    )
    for name, values in expected.items():
        np.testing.assert_allclose(answers.layers[f"selected/{name}"], values, rtol=1e-5)
    assert models.range_names == {"core_loss"}
    assert models.handed_names == {"core_loss", "low_loss"}


def test_a_low_loss_that_is_the_sum_of_other_spectra_is_none(tmp_path: Path) -> None:
    models = RunModels("r", [selected(tmp_path, exposure_ratio=4.0)])
    counts = {"low_loss": low_counts(), "core_loss": core_counts()}
    same = np.full(N, 3)
    fewer = np.where(np.arange(N) < 4, 2, same)
    answers = models.answer(Handed(counts, {"low_loss": fewer, "core_loss": same}))
    whole = models.answer(Handed(counts, {"low_loss": same, "core_loss": same}))
    assert answers.layers["selected/why"].tolist() == [1.0] * 4 + [0.0] * 8
    for name in ("signal", "density"):
        found, expected = (item.layers[f"selected/{name}"] for item in (answers, whole))
        np.testing.assert_array_equal(found[4:], expected[4:])
    assert np.isnan(answers.layers["selected/density"][:4]).all()
