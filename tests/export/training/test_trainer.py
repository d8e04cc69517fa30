from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.training.trainer import Settings, Trainer, read_checkpoint

SHORT = Settings(spectra=32, batch=8, validation=16, seed=5, warmup_spectra=8, bfloat16=False)


def _weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in trainer.network.parameters()])


def test_an_interrupted_run_continues_as_if_it_had_not_been(
    table: CrossSectionTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    whole = Trainer(SHORT, Recipe(), table)
    before = _weights(whole)
    whole.run(tmp_path / "whole.pt")
    assert whole.seen == 32
    assert not torch.equal(before, _weights(whole))

    half = Trainer(SHORT, Recipe(), table)
    for _ in range(2):
        half._step()
    half.save(tmp_path / "half.pt")
    resumed = Trainer(SHORT, Recipe(), table)
    resumed.load(tmp_path / "half.pt")
    resumed.run(tmp_path / "half.pt")
    torch.testing.assert_close(_weights(resumed), _weights(whole), rtol=0, atol=0)
    assert "f1" in caplog.text

    state = read_checkpoint(tmp_path / "whole.pt")
    assert state["seen"] == 32
    assert state["settings"]["architecture"] == "mixer"
    assert len(state["history"]) == 1


def test_a_checkpoint_of_another_architecture_is_refused(
    table: CrossSectionTable, tmp_path: Path
) -> None:
    mixer = Trainer(SHORT, Recipe(), table)
    mixer.save(tmp_path / "mixer.pt")
    other = Trainer(dataclasses.replace(SHORT, architecture="convnext"), Recipe(), table)
    with pytest.raises(ValueError, match="expected a checkpoint of convnext, got mixer"):
        other.load(tmp_path / "mixer.pt")


def test_a_foreign_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match="expected a checkpoint of format 1"):
        read_checkpoint(tmp_path / "foreign.pt")


def test_the_time_budget_ends_a_run(table: CrossSectionTable) -> None:
    settings = dataclasses.replace(SHORT, spectra=10**9, minutes=1.0)
    trainer = Trainer(settings, Recipe(), table)
    trainer.elapsed_s = 30.0
    assert trainer.progress == pytest.approx(0.5)
    trainer.elapsed_s = 90.0
    assert trainer.progress == 1.0


def test_measured_scores_are_only_written_down(table: CrossSectionTable) -> None:
    trainer = Trainer(SHORT, Recipe(), table)
    before = _weights(trainer)
    result = trainer.check(lambda _network: {"f1": 0.5})
    assert result["measured_f1"] == 0.5
    assert torch.equal(before, _weights(trainer))
