from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.training.trainer import (
    LearnerSettings,
    Settings,
    Trainer,
    read_checkpoint,
)

SHORT = Settings(spectra=32, batch=8, validation=16, seed=5, warmup_spectra=8)
MIXER = LearnerSettings(seed=5)
SINGLE = LearnerSettings("mixer_single", seed=6)


def _weights(trainer: Trainer, place: int = 0) -> torch.Tensor:
    network = trainer.learners[place].network
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def test_an_interrupted_run_continues_as_if_it_had_not_been(
    table: CrossSectionTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    members = [dataclasses.replace(MIXER, teaches=True, every=2), SINGLE]
    names = "mixer.pt", "single.pt"
    whole = Trainer(SHORT, members, Recipe(), table)
    before = _weights(whole)
    whole.run([tmp_path / name for name in names])
    assert whole.seen == 32
    assert not torch.equal(before, _weights(whole))

    paths = [tmp_path / f"half_{name}" for name in names]
    half = Trainer(SHORT, members, Recipe(), table)
    for _ in range(2):
        half._step()
    half.save(paths)
    resumed = Trainer(SHORT, members, Recipe(), table)
    resumed.load(paths)
    resumed.run(paths)
    for place in range(2):
        torch.testing.assert_close(_weights(resumed, place), _weights(whole, place), rtol=0, atol=0)
    assert "check together" in caplog.text
    assert "spectra/s" not in caplog.text  # sooner than the first progress line

    state = read_checkpoint(tmp_path / "mixer.pt")
    assert state["seen"] == 16  # every second batch
    assert state["settings"]["architecture"] == "mixer"
    assert len(state["history"]) == 1
    assert read_checkpoint(tmp_path / "single.pt")["seen"] == 32


def test_a_checkpoint_of_another_architecture_is_refused(
    table: CrossSectionTable, tmp_path: Path
) -> None:
    Trainer(SHORT, [MIXER], Recipe(), table).save([tmp_path / "mixer.pt"])
    other = Trainer(SHORT, [LearnerSettings("convnext")], Recipe(), table)
    with pytest.raises(ValueError, match="expected a checkpoint of convnext, got mixer"):
        other.load([tmp_path / "mixer.pt"])


def test_checkpoints_of_two_moments_do_not_make_a_run(
    table: CrossSectionTable, tmp_path: Path
) -> None:
    trainer = Trainer(SHORT, [SINGLE], Recipe(), table)
    trainer.save([tmp_path / "early.pt"])
    trainer._step()
    trainer.save([tmp_path / "late.pt"])
    both = Trainer(SHORT, [SINGLE, SINGLE], Recipe(), table)
    with pytest.raises(ValueError, match="of one moment"):
        both.load([tmp_path / "early.pt", tmp_path / "late.pt"])


def test_a_foreign_file_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match="expected a checkpoint of format 1"):
        read_checkpoint(tmp_path / "foreign.pt")


def test_the_time_budget_ends_a_run(table: CrossSectionTable) -> None:
    settings = dataclasses.replace(SHORT, spectra=10**9, minutes=1.0)
    trainer = Trainer(settings, [SINGLE], Recipe(), table)
    trainer.elapsed_s = 30.0
    assert trainer.progress == pytest.approx(0.5)
    trainer.elapsed_s = 90.0
    assert trainer.progress == 1.0


def test_measured_scores_are_only_written_down(table: CrossSectionTable) -> None:
    trainer = Trainer(SHORT, [SINGLE], Recipe(), table)
    before = _weights(trainer)
    rows = trainer.check(lambda _networks: {"f1": 0.5})
    assert rows[0]["measured_f1"] == 0.5
    assert {"negative_claiming", "negative_unlike", "real_unlike"} < rows[0].keys()
    assert torch.equal(before, _weights(trainer))


def test_a_check_learns_the_last_label_beside_others(table: CrossSectionTable) -> None:
    check = LearnerSettings("convnext_axis", seed=7)
    trainer = Trainer(SHORT, [MIXER, check, SINGLE], Recipe().changed(negative_chance=0.5), table)
    before = _weights(trainer, 1)
    trainer._step()
    assert not torch.equal(before, _weights(trainer, 1))
    rows = trainer.check(lambda networks: {"members": float(len(networks))})
    errors = {"axis_error", "axis_error_left"}
    assert rows[1].keys() == {"spectra", "rmse", "negative_unlike", "real_unlike"} | errors
    assert rows[1]["axis_error"] > 1
    assert [row.get("measured_members") for row in rows] == [1, None, 1, 2]


def test_a_run_starts_from_a_checkpoint_and_says_so(
    table: CrossSectionTable, tmp_path: Path
) -> None:
    first = Trainer(SHORT, [MIXER], Recipe(), table)
    first._step()
    first.save([tmp_path / "first.pt"])
    start = str(tmp_path / "first.pt")
    second = Trainer(SHORT, [dataclasses.replace(SINGLE, start=start)], Recipe(), table)
    learner = second.learners[0]
    assert torch.equal(
        learner.network.get_parameter("head.weight"),
        first.learners[0].average.get_parameter("head.weight"),
    )
    second._step()
    second.save([tmp_path / "second.pt"])
    state = read_checkpoint(tmp_path / "second.pt")
    assert state["seen"] == 16
    assert state["lineage"] == ["mixer seed 5, 8 spectra"]


def test_a_teacher_moves_those_that_do_not_teach(table: CrossSectionTable) -> None:
    torch.manual_seed(3)
    teacher = Mixer(layers=1)
    settings = dataclasses.replace(SHORT, taught_share=1.0)
    members = [SINGLE, dataclasses.replace(SINGLE, teaches=True)]
    runs = []
    for teachers in ((), (teacher,)):
        trainer = Trainer(settings, members, Recipe(), table, teachers)
        trainer._step()
        runs.append(trainer)
    alone, taught = runs
    assert not torch.equal(_weights(alone, 0), _weights(taught, 0))
    assert torch.equal(_weights(alone, 1), _weights(taught, 1))
