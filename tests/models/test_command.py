"""`zeroloss models`: what it prints and its exit codes."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from support.packages import (
    make_dielectric_package,
    make_masked_package,
    make_package,
    make_selected_package,
)
from zeroloss.commands import models
from zeroloss.models import Manifest, ModelError, ModelStore, load_package

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


def test_list_has_a_few_lines_of_each_package(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--folder", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    sha256 = load_package(folder / "one").sha256
    (at,) = [i for i, line in enumerate(lines) if line.startswith("one 7.1: ")]
    range_ev = "a range that overlaps 244 to 748 eV"
    assert lines[at + 1] == f"  takes  eels, {range_ev}, up to 16384 channels"
    assert lines[at + 2] == "  gives  probability of C N O Fe ± spread"
    assert lines[at + 3] == "  runs   in every run that fits"
    assert lines[at + 4].endswith(f", float32, sha256 {sha256[:12]}, {folder / 'one'}")
    assert any(line.startswith("two 1.0.0: ") for line in lines)
    assert [line.split()[0] for line in lines if line.startswith(" ")] == [
        "takes",
        "gives",
        "runs",
        "file",
    ] * (len(lines) // 5)


def test_list_of_many_outputs_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    said = capsys.readouterr().out
    assert "probability of 80, Be to Bi ± spread; unlike; spectra: edge_onset_ev, " in said
    assert "elements: up to 8 of 80, Be to Bi" in said
    assert "atomic_fraction (%) of each that is chosen ± atomic_fraction_error" in said
    assert "reason: one of 6 labels" in said
    assert "why values are missing: why, areal_density_why" in said
    assert "beam_kev, convergence_mrad, collection_mrad of the run; exposure_ratio as set" in said
    assert max(map(len, said.splitlines())) < 300


def test_list_of_very_many_outputs_names_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_package(tmp_path, name="many")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    more = [{"name": f"extra_{i:02}", "kind": "scalar", "shape": []} for i in range(40)]
    path.write_text(json.dumps(manifest | {"outputs": manifest["outputs"] + more}))
    assert call("--folder", tmp_path) == 0
    said = capsys.readouterr().out
    assert "± spread; extra_00; " in said
    assert "; extra_09; and 30 more\n" in said


@pytest.mark.parametrize("columns", [80, 100])
def test_list_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert call() == 0
    lines = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= columns
    assert len(lines) < 50
    folded = [line for line in lines if line.startswith(" " * 9)]
    assert folded


def test_show_tells_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"takes.scale_ev": [0.05, 1], "takes.signed_counts": True}
    make_masked_package(tmp_path, changes={**changes, "outputs.2.shifts_axis": True})
    assert call("show", "masked", "--folder", tmp_path) == 0
    said = capsys.readouterr().out
    package = load_package(tmp_path / "masked")
    for part in (
        " channels of 0.05 to 1 eV",
        "negative counts too",
        "mean (counts) ± mean_error (why it is missing: reason)",
        "peak (eV), corrects the axis of other ranges (why it is missing: reason)",
        " reason: given, dark, bright",
        "curves (counts), 2 x 16 values, spectrum",
        package.sha256,
        str(package.folder),
        package.manifest.trained.data,
        package.manifest.description,
        "8 spectra on a CPU",
    ):
        assert part in said
    assert call("show", tmp_path / "masked") == 0
    assert capsys.readouterr().out == said


def test_show_tells_every_label_and_metric_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", "elements") == 0
    said = capsys.readouterr().out
    manifest = ModelStore([]).get("elements").manifest
    labels = manifest.outputs[0].labels
    assert said.count(", ".join(labels)) == 1
    present = f"present from {manifest.outputs[0].threshold:g} on"
    assert f"probability, 80 values, {present} ± spread" in said
    for text in (*manifest.trained.members, *manifest.trained.metrics):
        assert text in said


def test_show_takes_every_package_or_those_that_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("show", "--folder", folder) == 0
    assert {"one 7.1", "two 1.0.0"} < {
        line.split(":")[0] for line in capsys.readouterr().out.splitlines()
    }
    assert call("show", "two", "one", "--folder", folder) == 0
    said = capsys.readouterr().out
    assert said.index("two 1.0.0") < said.index("one 7.1")
    with pytest.raises(ModelError, match="there is no model package 'three'; there are: "):
        call("show", "three", "--folder", folder)


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


def test_names_belong_to_show_and_check() -> None:
    with pytest.raises(ModelError, match="models list takes no package names, got one"):
        call("list", "one")


def test_show_tells_parameters_and_what_runs_only_when_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dielectric_package(tmp_path, changes={"when_named": True, "stands_in": True})
    assert call("show", "optics", "--folder", tmp_path) == 0
    said = capsys.readouterr().out
    for part in (
        "only when named; stands in for a trained one",
        "refractive_index 1 to 10, set by you, no default: of the specimen",
        "beam_kev 20 to 400 keV, beam_kev of the run, no default: of the electrons",
        "collection_mrad 0.1 to 200 mrad, collection_mrad of the run, default 20: semi-angle",
    ):
        assert part in said


def test_show_tells_what_is_to_be_chosen_and_that_the_low_loss_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_selected_package(tmp_path)
    assert call("show", "selected", "--folder", tmp_path) == 0
    said = capsys.readouterr().out
    for part in (
        "with --set selected.elements=B,C",
        "uses the low loss of the same pixel",
        "elements: up to 3 of 9, B to La",
        "B C Ca N Ti O Mn Fe La",
        "signal (counts) of each that is chosen",
        "density of each that is chosen (why it is missing: why)",
    ):
        assert part in said


def test_check_takes_a_package_with_a_selection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_selected_package(tmp_path)
    assert call("check", "selected", "--folder", tmp_path, *CPU) == 0
    assert "broken" not in capsys.readouterr().out
