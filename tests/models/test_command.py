"""`zeroloss models`: what it prints and its exit codes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from support.packages import (
    make_dielectric_package,
    make_masked_package,
    make_package,
    make_selected_package,
)
from zeroloss.commands import models
from zeroloss.models import Manifest, ModelError, load_package

CPU = ("--provider", "cpu")


def call(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    models.configure(parser)
    return models.run(parser.parse_args([str(item) for item in arguments]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_package(tmp_path / "user", name="one", version="7.1")
    make_package(tmp_path / "user", name="two")
    return tmp_path / "user"


def damage(folder: Path) -> None:
    (folder / "two" / "model.onnx").write_bytes(b"damaged")


def test_list_names_what_a_package_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--folder", folder) == 0
    said = capsys.readouterr().out
    sha256 = load_package(folder / "one").sha256
    for part in ("one 7.1", "two 1.0.0", sha256[:12], "244 to 748 eV", "probability [4]"):
        assert part in said


def test_list_tells_what_may_be_missing_and_what_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    changes = {"takes.scale_ev": [0.05, 1], "takes.signed_counts": True}
    make_masked_package(tmp_path, changes={**changes, "outputs.2.shifts_axis": True})
    assert call("--folder", tmp_path) == 0
    said = capsys.readouterr().out
    for part in (
        "0.05 to 1 eV per channel",
        "negative counts too",
        "mean [] counts, or reason",
        "peak [] eV, corrects the axis of other ranges, or reason",
        "reason []: given, dark, bright",
        "curves [2, 16] counts, spectrum",
    ):
        assert part in said


def test_check_takes_a_package_with_masked_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_masked_package(tmp_path)
    assert call("check", "masked", "--folder", tmp_path, *CPU) == 0
    assert "broken" not in capsys.readouterr().out


def test_list_tells_of_a_damaged_package(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(folder)
    assert call("list", "--folder", folder) == 0
    said = capsys.readouterr().out
    assert "one 7.1" in said
    assert f"broken: model package {folder / 'two'}: model.onnx has sha256" in said


def test_check_runs_every_package(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "one", "two", "--folder", folder, "--channels", "300", *CPU) == 0
    said = capsys.readouterr().out
    assert said.count("runs on   CPUExecutionProvider, float32") == 2
    assert "bucket    8 spectra of 300 channels: " in said
    assert "deviation 0 from torch at export, limit 0.001" in said
    assert "other spectra of a batch change an answer by 0" in said


def test_check_of_one_that_is_whole_beside_a_damaged_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    assert call("check", "one", "--folder", folder, *CPU) == 0
    assert call("check", folder / "one", *CPU) == 0
    assert "broken" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(300)  # tries all built-in packages
def test_check_is_1_for_every_kind_of_damage(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder)
    cases: list[tuple[list[str | Path], str]] = [
        (["check"], "model.onnx has sha256"),
        (["check", "two"], "model.onnx has sha256"),
        (["check", folder / "two"], "model.onnx has sha256"),
        (["check", "three"], "there is no model package 'three'; there are: "),
        (["check", "one", "--channels", "20000"], "one: the model one takes counts"),
    ]
    for arguments, expected in cases:
        assert call(*arguments, "--folder", folder, *CPU) == 1
        assert expected in capsys.readouterr().out


def test_schema_is_that_of_the_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("schema") == 0
    assert json.loads(capsys.readouterr().out) == Manifest.model_json_schema()


def test_names_belong_to_check() -> None:
    with pytest.raises(ModelError, match="models list takes no package names, got one"):
        call("list", "one")


def test_list_tells_parameters_and_what_runs_only_when_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    make_dielectric_package(tmp_path, changes={"when_named": True, "stands_in": True})
    assert call("list", "--folder", tmp_path) == 0
    said = capsys.readouterr().out
    for part in (
        "runs only when named",
        "stands in for a trained one",
        "refractive_index 1 to 10, set by you, no default: of the specimen",
        "beam_kev 20 to 400 keV, beam_kev of the run, no default: of the electrons",
        "collection_mrad 0.1 to 200 mrad, collection_mrad of the run, default 20: semi-angle",
    ):
        assert part in said


def test_list_tells_what_is_to_be_chosen_and_that_the_low_loss_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    make_selected_package(tmp_path)
    assert call("list", "--folder", tmp_path) == 0
    said = capsys.readouterr().out
    for part in (
        "needs --set selected.elements=B,C",
        "uses the low loss of the same pixel",
        "elements, up to 3 of: B C Ca N Ti O Mn Fe La",
        "signal one per label chosen, counts",
        "density one per label chosen, or why",
    ):
        assert part in said


def test_check_takes_a_package_with_a_selection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_selected_package(tmp_path)
    assert call("check", "selected", "--folder", tmp_path, *CPU) == 0
    assert "broken" not in capsys.readouterr().out
