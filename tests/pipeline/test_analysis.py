from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.packages import make_masked_package, make_package, make_selected_package
from support.streams import make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import choose_analyses
from zeroloss.wire import EnergyRange, ScanPlan

CORE = EnergyRange(name="core_loss", offset_ev=428.5, scale_ev=0.5, size=586)
LOW = EnergyRange(name="low_loss", offset_ev=-50.0, scale_ev=0.5, size=1024)


def session(folder: Path, changes: Mapping[str, Any]) -> ModelSession:
    package = make_package(folder, changes={"takes.window_ev": [64.0, 3104.0], **changes})
    return ModelSession(load_package(package))


def chosen(folder: Path, *ranges: EnergyRange, **changes: Any) -> list[str]:
    modality = changes.pop("run_modality", "eels")
    start = make_start(ScanPlan(shape=(2, 2)), ranges=ranges, modality=modality)
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return [item.range.name for item in choose_analyses(start, [session(folder, dotted)])]


@pytest.mark.parametrize("ranges", [(CORE, LOW), (LOW, CORE)])
def test_core_loss_goes_before_a_wider_low_loss(
    tmp_path: Path, ranges: tuple[EnergyRange, ...]
) -> None:
    assert chosen(tmp_path, *ranges) == ["core_loss"]


def test_a_model_of_the_zero_loss_peak_takes_the_low_loss(tmp_path: Path) -> None:
    assert chosen(tmp_path, CORE, LOW, takes__window_ev=[-20.0, 800.0]) == ["low_loss"]


def test_a_range_from_below_zero_is_taken_where_it_is_the_only_one(tmp_path: Path) -> None:
    assert chosen(tmp_path, LOW) == ["low_loss"]


@pytest.mark.parametrize("scale_ev", [[0.5, 1.0], [0.2, 0.5], None])
def test_a_dispersion_inside_the_window_is_taken(
    tmp_path: Path, scale_ev: list[float] | None
) -> None:
    assert chosen(tmp_path, CORE, takes__scale_ev=scale_ev) == ["core_loss"]


def test_the_dispersion_chooses_among_the_ranges(tmp_path: Path) -> None:
    fine = EnergyRange(name="fine", offset_ev=-50.0, scale_ev=0.01, size=16384)
    window = {"takes__window_ev": [-20.0, 100.0], "takes__scale_ev": [0.1, 1.0]}
    assert chosen(tmp_path, fine, LOW, **window) == ["low_loss"]


@pytest.mark.parametrize(
    "changes",
    [
        {"takes__window_ev": [2000.0, 3000.0]},
        {"takes__max_channels": 100},
        {"run_modality": "edx"},
        {"takes__scale_ev": [0.01, 0.4]},
        {"takes__scale_ev": [0.6, 1.0]},
    ],
)
def test_what_does_not_fit_is_not_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert chosen(tmp_path, CORE, **changes) == []


def test_a_plain_method_makes_room_for_one_that_shifts_the_axis(tmp_path: Path) -> None:
    start = make_start(ScanPlan(shape=(2, 2)), ranges=(CORE, LOW))
    shifts = {"outputs.2.shifts_axis": True}
    plain = make_masked_package(tmp_path, name="plain", changes={**shifts, "stands_in": True})
    better = make_masked_package(tmp_path, name="trained", changes=shifts)
    sessions = [ModelSession(load_package(item)) for item in (plain, better)]

    def names(*which: ModelSession, named: tuple[str, ...] = ()) -> list[str]:
        return [item.manifest.name for item in choose_analyses(start, which, named=named)]

    assert names(sessions[0]) == ["plain"]
    assert names(*sessions) == ["trained"]
    assert names(*sessions, named=("plain", "trained")) == ["plain", "trained"]


WIDE = EnergyRange(name="wide", offset_ev=-20.0, scale_ev=1.0, size=1024)
CHOSEN = {"selected": {"elements": ("Mn", "O")}}


def selected(folder: Path, **changes: Any) -> ModelSession:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return ModelSession(load_package(make_selected_package(folder, changes=dotted)))


def test_a_model_with_a_selection_takes_part_where_something_was_chosen(tmp_path: Path) -> None:
    start = make_start(ScanPlan(shape=(2, 2)), ranges=(CORE, LOW))
    session = selected(tmp_path)
    assert choose_analyses(start, [session]) == []
    assert choose_analyses(start, [session], {"selected": {"exposure_ratio": 2.0}}) == []
    (analysis,) = choose_analyses(start, [session], CHOSEN)
    assert analysis.selection == (5, 6)
    assert analysis.outputs[0].labels == ("O", "Mn")
    assert analysis.info.outputs[0].shape == (2,)
    assert (analysis.handed_names, analysis.info.low_loss_range) == (
        ("core_loss", "low_loss"),
        "low_loss",
    )


@pytest.mark.parametrize(
    ("ranges", "changes", "expected"),
    [
        ((CORE, LOW), {}, "low_loss"),
        ((LOW, CORE, WIDE), {}, "wide"),
        ((WIDE, LOW, CORE), {"takes__max_channels": 1023}, None),
        ((CORE,), {}, None),
        # The model's own range is not beside it, whatever it holds.
        ((LOW,), {}, None),
        ((CORE, replace(LOW, offset_ev=1.0, size=200)), {}, None),
        ((CORE, replace(LOW, offset_ev=-600.0)), {}, None),
    ],
)
def test_the_range_beside_holds_the_zero_loss(
    tmp_path: Path,
    ranges: tuple[EnergyRange, ...],
    changes: dict[str, Any],
    expected: str | None,
) -> None:
    start = make_start(ScanPlan(shape=(2, 2)), ranges=ranges)
    (analysis,) = choose_analyses(start, [selected(tmp_path, **changes)], CHOSEN)
    assert analysis.range == (CORE if CORE in ranges else LOW)
    assert analysis.info.low_loss_range == expected


def test_a_model_that_does_not_take_the_low_loss_is_not_given_it(tmp_path: Path) -> None:
    start = make_start(ScanPlan(shape=(2, 2)), ranges=(CORE, LOW))
    (analysis,) = choose_analyses(start, [session(tmp_path, {})])
    assert (analysis.low_loss, analysis.handed_names) == (None, ("core_loss",))
