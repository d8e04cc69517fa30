"""What people choose for a model, and the low loss that it is given beside its own spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.packages import (
    ONSETS_EV,
    expected_selected,
    make_dielectric_package,
    make_package,
    make_selected_package,
)
from zeroloss.models import (
    InferenceError,
    LowLoss,
    ModelSession,
    PackageError,
    ParameterError,
    load_package,
)
from zeroloss.models.parameters import (
    lacks_selection,
    selecting,
    settle,
    trial_selections,
)
from zeroloss.wire import SelectionInfo

LABELS = list(ONSETS_EV)
N = 11
RNG = np.random.default_rng(2)
COUNTS = RNG.poisson(50, (N, 900)).astype(np.float32)
COUNTS[3, 300:310] = np.nan
LOW = RNG.poisson(5, (N, 200)).astype(np.float32)
LOW[np.arange(N), 20 + np.arange(N)] = 5000
LOW[4] = np.nan
OFFSETS = 100.0 + np.arange(N)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ModelSession:
    return ModelSession(load_package(make_selected_package(tmp_path_factory.mktemp("models"))))


@pytest.mark.parametrize("chosen", [(0,), (2, 5), (1, 3, 8)])
@pytest.mark.parametrize("offset_ev", [100.0, OFFSETS])
@pytest.mark.parametrize("low_offset_ev", [None, -10.0, -10.0 - 0.5 * np.arange(N)])
@pytest.mark.parametrize("exposure_ratio", [np.nan, 20.0])
def test_the_graph_is_told_what_was_chosen_and_given_the_low_loss(
    session: ModelSession,
    chosen: tuple[int, ...],
    offset_ev: Any,
    low_offset_ev: Any,
    exposure_ratio: float,
) -> None:
    low = None if low_offset_ev is None else (LOW, low_offset_ev, 0.5)
    expected = expected_selected(
        COUNTS,
        offset_ev,
        1.0,
        [LABELS[index] for index in chosen],
        low_loss=low,
        exposure_ratio=exposure_ratio,
    )
    beside: dict[str, Any] = {
        "parameters": {"exposure_ratio": exposure_ratio},
        "selection": chosen,
        "low_loss": None if low is None else LowLoss(*low),
    }
    for whole in (False, True):
        answer = session.run(COUNTS, offset_ev, 1.0, ["signal", "density", "why"], **beside)
        if whole:
            answer = session.run(COUNTS, offset_ev, 1.0, **beside)
            np.testing.assert_array_equal(answer.pop("curve"), np.nan_to_num(COUNTS[:, :16]))
        assert answer["signal"].shape == (N, len(chosen))
        assert set(answer) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(answer[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({}, r"takes as elements 1 to 3 rising indices of its 9 labels, got \[\]"),
        ({"selection": (2, 1)}, r"rising indices of its 9 labels, got \[2, 1\]"),
        ({"selection": (1, 1)}, r"got \[1, 1\]"),
        ({"selection": (8, 9)}, r"got \[8, 9\]"),
        ({"selection": (-1, 1)}, r"got \[-1, 1\]"),
        ({"selection": (0, 1, 2, 3)}, r"got \[0, 1, 2, 3\]"),
        (
            {"selection": (1,), "low_loss": LowLoss(LOW[:4], 0.0, 1.0)},
            "low_loss_counts must be of the same 11 spectra, got 4",
        ),
        (
            {"selection": (1,), "low_loss": LowLoss(np.zeros((N, 16385)), 0.0, 1.0)},
            r"takes low_loss_counts \[n, channels\] of 2 to 16384 channels, got \[11, 16385\]",
        ),
        (
            {"selection": (1,), "low_loss": LowLoss(LOW, np.nan, 1.0)},
            "low_loss_offset_ev must be finite, got nan",
        ),
        (
            {"selection": (1,), "low_loss": LowLoss(LOW, 0.0, -1.0)},
            "low_loss_scale_ev must be above 0 eV per channel, got -1",
        ),
    ],
)
def test_what_the_graph_cannot_be_given(
    session: ModelSession, beside: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InferenceError, match=expected):
        session.run(COUNTS, 100.0, 1.0, **beside)


def test_a_package_without_them_takes_neither(tmp_path: Path) -> None:
    plain = ModelSession(load_package(make_package(tmp_path)))
    with pytest.raises(InferenceError, match="the model tiny takes no selection"):
        plain.run(COUNTS, 100.0, 1.0, selection=(1,))
    with pytest.raises(InferenceError, match="tiny takes no low loss beside its spectra"):
        plain.run(COUNTS, 100.0, 1.0, low_loss=LowLoss(LOW, 0.0, 1.0))


def test_maps_have_what_was_chosen_and_say_so(session: ModelSession) -> None:
    info = session.info("core_loss", {}, (3, 5), "low_loss")
    signal, density, why, _ = info.outputs
    assert (signal.shape, signal.labels) == ((2,), ("N", "O"))
    assert (density.labels, why.labels[0]) == (("N", "O"), "given")
    assert info.selection == SelectionInfo(name="elements", labels=("N", "O"))
    assert (info.selected, info.low_loss_range) == ({"elements": ("N", "O")}, "low_loss")


def test_labels_are_chosen_in_any_order(session: ModelSession) -> None:
    manifest = session.package.manifest
    settled = settle(manifest, {"elements": ("Mn", "O"), "exposure_ratio": 3.0}, {})
    assert (settled.selection, settled.values) == ((5, 6), {"exposure_ratio": 3.0})
    assert settle(manifest, {}, {}).selection == ()
    assert lacks_selection(manifest, {"exposure_ratio": 3.0})
    assert not lacks_selection(manifest, {"elements": ("O",)})
    assert selecting(manifest) == "--set selected.elements=B,C"
    assert trial_selections(manifest) == ((0, 4, 8), (0,), (8,))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"elements": ("Mn", "Xy")},
            "selected: elements = Mn,Xy: there is no Xy, expected 1 to 3 different of B, C, Ca, N",
        ),
        ({"elements": ("O", "Mn", "O")}, "elements = O,Mn,O: one is there twice, expected 1 to 3"),
        ({"elements": ("B", "C", "N", "O")}, "elements = B,C,N,O: these are 4, expected 1 to 3"),
        ({"elements": ()}, "these are 0, expected 1 to 3"),
        ({"elements": 5.0}, "elements = 5: there is no 5, expected"),
        ({"exposure_ratio": ("O", "N")}, "exposure_ratio = O,N, expected a number from 0.001 to"),
        ({"element": ("O",)}, "has no parameter element; it has exposure_ratio, elements"),
    ],
)
def test_what_cannot_be_chosen_is_told(
    session: ModelSession, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        settle(session.package.manifest, given, {})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"takes.selection.labels": ["B", "B", "C"]}, "labels are not unique"),
        ({"takes.selection.labels": ["B", "C", "12"]}, "the label 12 reads as a number"),
        ({"takes.selection.labels": ["B", "C,N", "O"]}, "takes.selection.labels.1 is 'C,N'"),
        ({"takes.selection.labels": ["B", "C"]}, "3 slots for 2 labels"),
        ({"takes.selection.slots": 65}, "takes.selection.slots is 65"),
        ({"takes.selection.slots": 4}, r"output signal: selected [slots] with slots 4, got [3]"),
        ({"takes.selection": None}, "output signal: selected [slots] with slots none, got [3]"),
        ({"takes.selection.name": "exposure_ratio"}, "a parameter has the same name"),
        ({"outputs.0.labels": ["a", "b", "c"]}, "must be a scalar of shape [slots] without labels"),
        ({"outputs.2.selected": True}, "must be a scalar of shape [slots] without labels"),
        ({"parameters.0.name": "low_loss_counts"}, "that is the name of another input"),
        ({"graph.prepared": ["windows", "windows"]}, "another one has the same name"),
        ({"graph.prepared": ["signal"]}, "prepared tensor signal: an input, an output or another"),
        ({"graph.prepared": ["low_loss_counts"]}, "prepared tensor low_loss_counts: an input, an"),
    ],
)
def test_manifests_that_contradict_themselves(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    folder = make_selected_package(tmp_path, changes=changes)
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert sentence in str(caught.value)


def test_what_shifts_the_axis_is_found_without_the_low_loss(tmp_path: Path) -> None:
    changes = {"takes.low_loss": True, "outputs.0.shifts_axis": True, "outputs.0.unit": "eV"}
    with pytest.raises(PackageError, match="so its package cannot take the low loss"):
        load_package(make_dielectric_package(tmp_path, changes=changes))


@pytest.mark.parametrize("changes", [{"takes.low_loss": False}, {"takes.selection.slots": 2}])
def test_a_graph_that_takes_something_else_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    if "takes.selection.slots" in changes:
        changes = {**changes, "outputs.0.shape": [2], "outputs.1.shape": [2]}
    folder = make_selected_package(tmp_path, changes=changes)
    with pytest.raises(PackageError, match=r"the graph has the inputs|input selection has the sha"):
        ModelSession(load_package(folder))
