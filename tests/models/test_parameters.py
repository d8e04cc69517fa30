"""Numbers that the spectra do not tell: in the manifest, in the graph, and where they come from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.packages import (
    expected_dielectric,
    make_dielectric_package,
    make_package,
    read_manifest,
)
from zeroloss.models import (
    InferenceError,
    ModelSession,
    PackageError,
    ParameterError,
    load_package,
)
from zeroloss.models.check import try_out
from zeroloss.models.parameters import Settled, default_values, settle, trial_values

COUNTS = np.random.default_rng(3).poisson([[4.0], [40.0], [400.0]], (3, 64)).astype(np.float32)


@pytest.fixture
def session(tmp_path: Path) -> ModelSession:
    return ModelSession(load_package(make_dielectric_package(tmp_path)))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"beam_kev": 200.0},
        {"refractive_index": 2.5, "beam_kev": 200.0},
        {"refractive_index": 1.0, "beam_kev": 60.0, "collection_mrad": 5.0},
    ],
)
def test_the_graph_is_given_what_is_known(session: ModelSession, values: dict[str, float]) -> None:
    answers = session.run(COUNTS, -2.0, 0.25, parameters=values)
    for name, expected in expected_dielectric(COUNTS, **values).items():
        np.testing.assert_allclose(answers[name], expected, rtol=1e-6, err_msg=name)


def test_a_parameter_may_differ_from_spectrum_to_spectrum(session: ModelSession) -> None:
    beams = [60.0, math.nan, 300.0]
    answers = session.run(
        COUNTS, -2.0, 0.25, parameters={"refractive_index": 2.0, "beam_kev": beams}
    )
    for row, beam_kev in enumerate(beams):
        expected = expected_dielectric(
            COUNTS[row : row + 1], refractive_index=2.0, beam_kev=beam_kev
        )
        for name, values in expected.items():
            np.testing.assert_allclose(answers[name][row : row + 1], values, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"index": 2.0},
            "the model optics has no parameter index; it has refractive_index, beam_kev, collecti",
        ),
        (
            {"beam_kev": [100.0, 200.0, 1e6]},
            "the model optics: beam_kev = 1e+06 keV, expected 20 to 400 keV",
        ),
        ({"refractive_index": math.inf}, "refractive_index = inf, expected 1 to 10"),
    ],
)
def test_what_the_package_cannot_take_is_refused(
    session: ModelSession, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        session.run(COUNTS, -2.0, 0.25, parameters=values)
    assert sentence in str(caught.value)


def test_values_must_be_one_or_one_each(session: ModelSession) -> None:
    with pytest.raises(InferenceError, match=r"beam_kev must be one number or \[3\], got \[2\]"):
        session.run(COUNTS, -2.0, 0.25, parameters={"beam_kev": [100.0, 200.0]})


def test_the_run_counts_before_what_was_given_and_that_before_the_default(
    session: ModelSession,
) -> None:
    manifest = session.package.manifest
    nothing: dict[str, float | None] = {"beam_kev": None, "dwell_s": 0.1}
    assert settle(manifest, {}, nothing).values == pytest.approx(
        {"refractive_index": math.nan, "beam_kev": math.nan, "collection_mrad": 20.0}, nan_ok=True
    )
    given = {"refractive_index": 2.0, "beam_kev": 80.0, "collection_mrad": 10.0}
    assert settle(manifest, given, nothing) == Settled(given, ())
    told = {"beam_kev": 300.0, "collection_mrad": 50.0, "convergence_mrad": 7.0}
    assert settle(manifest, given, told).values == {"refractive_index": 2.0} | {
        name: told[name] for name in ("beam_kev", "collection_mrad")
    }


def test_a_value_of_the_run_outside_is_not_known_and_told(session: ModelSession) -> None:
    settled = settle(session.package.manifest, {"beam_kev": 80.0}, {"beam_kev": 1000.0})
    assert settled.values["beam_kev"] == 80.0
    assert settled.notes == (
        "the model optics: beam_kev = 1000 keV, expected 20 to 400 keV: taken as not known",
    )


def test_trials_take_the_default_or_the_middle(session: ModelSession) -> None:
    manifest = session.package.manifest
    assert trial_values(manifest) == {
        "refractive_index": 5.5,
        "beam_kev": 210.0,
        "collection_mrad": 20.0,
    }
    assert math.isnan(default_values(manifest)["beam_kev"])
    assert try_out(session, 200).company == 0.0


def test_a_trial_looks_at_what_is_not_known(tmp_path: Path) -> None:
    folder = make_dielectric_package(tmp_path, changes={"outputs.2.reason": "reason"})
    with pytest.raises(
        InferenceError,
        match=r"thickness_nm: \d+ of \d+ values are not finite for plain falling spectra and "
        "parameters that are not known and have no reason",
    ):
        try_out(ModelSession(load_package(folder)), 200)


def test_maps_say_what_was_used(session: ModelSession) -> None:
    info = session.info("low_loss", {"beam_kev": 80.0, "refractive_index": math.nan})
    assert [(item.name, item.value, item.unit) for item in info.parameters] == [
        ("refractive_index", None, ""),
        ("beam_kev", 80.0, "keV"),
        ("collection_mrad", 20.0, "mrad"),
    ]


def test_a_graph_without_the_input_is_refused(tmp_path: Path) -> None:
    parameters = read_manifest(make_dielectric_package(tmp_path))["parameters"]
    folder = make_package(tmp_path, changes={"parameters": parameters[:1]})
    with pytest.raises(
        PackageError,
        match="inputs counts, offset_ev, scale_ev, expected are counts, offset_ev, "
        "refractive_index, scale_ev",
    ):
        ModelSession(load_package(folder))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"parameters.0.name": "counts"}, "counts: that is the name of another input"),
        ({"parameters.0.name": "beam_kev"}, "beam_kev: another parameter or output has the same"),
        ({"parameters.0.name": "thickness"}, "thickness: another parameter or output has the same"),
        ({"parameters.0.low": 10.0}, "low must be below high, got 10 and 10"),
        ({"parameters.0.default": 0.5}, "the default 0.5 is not between 1 and 10"),
        ({"parameters.0.source": "voltage"}, "parameters.0.source is 'voltage'"),
        ({"parameters": [{}] * 17}, "parameters"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    folder = make_dielectric_package(tmp_path, changes=changes)
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert sentence in str(caught.value)
