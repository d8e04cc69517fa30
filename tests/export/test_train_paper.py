from __future__ import annotations

from pathlib import Path

import pytest
import torch

from zeroloss.models import ModelSession, load_package
from zeroloss_export.cli import main
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.paper import PaperRecipe, PaperSimulator
from zeroloss_export.training.trainer import read_checkpoint

pytestmark = [pytest.mark.timeout(1500), pytest.mark.slow]


def test_an_ensemble_is_trained_exported_and_runs(
    table: CrossSectionTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, out = tmp_path / "cross_sections.npz", tmp_path / "paper"
    table.save(cache)
    command = ["train", "paper", "--cross-sections", str(cache), "--out", str(out)]
    # Members of the paper's sizes would take hours; these run through the same steps.
    command += ["--members", "mixer_single", "mixer_single", "--batch", "32", "--validation", "32"]
    assert main([*command, "--spectra", "128"]) == 0
    assert "paper: 2 members" in capsys.readouterr().out
    checkpoints = sorted((tmp_path / "paper-checkpoints").iterdir())
    states = [read_checkpoint(path) for path in checkpoints]
    assert [state["recipe_name"] for state in states] == ["paper", "paper"]
    assert [state["seen"] for state in states] == [128, 128]
    assert states[0]["run"]["schedule"] == "plateau"
    assert states[0]["optimizer"]["param_groups"][0]["weight_decay"] == 0
    package = load_package(out)
    assert package.manifest.name == "paper"
    assert "Table 1 of Annys et al." in package.manifest.trained.data
    spectra = PaperSimulator(table, PaperRecipe(), 9, split="test").batch(3)
    inputs = (spectra.counts, spectra.offset_ev, spectra.scale_ev)
    answers = ModelSession(package).run(*(item.numpy() for item in inputs))
    assert answers["probability"].shape == (3, len(ELEMENTS))
    assert torch.isfinite(torch.from_numpy(answers["probability"])).all()


def test_missing_checkpoints_are_told(
    table: CrossSectionTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, folder = tmp_path / "cross_sections.npz", tmp_path / "held"
    table.save(cache)
    folder.mkdir()
    (folder / "mixer-1.pt").write_bytes(b"")
    command = ["train", "paper", "--cross-sections", str(cache), "--out", str(tmp_path / "paper")]
    command += ["--members", "mixer", "mixer", "--validation", "16", "--checkpoints", str(folder)]
    assert main(command) == 1
    assert f"expected all of 2 checkpoints in {folder}, found 1" in capsys.readouterr().err
