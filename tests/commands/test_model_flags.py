"""What the commands share that run models over files."""

from __future__ import annotations

import argparse
import os
from types import ModuleType

import pytest

from zeroloss.commands import dielectric, quantify
from zeroloss.commands._model_flags import GivenError, add_condition_flags, conditions_given


@pytest.mark.parametrize("command", [dielectric, quantify])
@pytest.mark.parametrize(("processors", "threads"), [(None, 1), (3, 3), (64, 64), (128, 64)])
def test_as_many_threads_as_processors_are_never_too_many(
    command: ModuleType, processors: int | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert parser.parse_args(["scan.dm4"]).workers == threads


def conditions(*flags: str) -> dict[str, float | None]:
    parser = argparse.ArgumentParser()
    add_condition_flags(parser)
    return conditions_given(parser.parse_args(flags))


def test_a_beam_may_be_parallel() -> None:
    known = {"beam_kev": 200.0, "convergence_mrad": 0.0, "collection_mrad": None}
    assert conditions("--beam-kev", "200", "--convergence-mrad", "0") == known


@pytest.mark.parametrize("flag", ["--beam-kev", "--collection-mrad"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_other_numbers_of_the_microscope_are_above_0(flag: str, value: str) -> None:
    with pytest.raises(GivenError, match=f"{flag} {value}: expected a number above 0"):
        conditions(flag, value)


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
def test_an_angle_is_not_negative(value: str) -> None:
    with pytest.raises(GivenError, match=f"{value}: expected 0 or a number above it"):
        conditions("--convergence-mrad", value)
