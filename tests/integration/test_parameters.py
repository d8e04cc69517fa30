"""A daemon whose model needs numbers that the spectra do not tell."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest

from support.daemons import make_config, running_daemon
from support.packages import expected_dielectric, make_dielectric_package
from support.streams import counts_at, make_start
from zeroloss.cli import main
from zeroloss.config import Config
from zeroloss.service import Finished
from zeroloss.wire import ScanPlan
from zeroloss_clients import LiveMaps, SpectrumRefusedError

PLAN = ScanPlan(shape=(3, 8))
SETTINGS = ("optics.refractive_index=2.5", "optics.beam_kev=80", "optics.collection_mrad=10")
LAYERS = ("thickness", "thickness_error", "thickness_nm", "thickness_nm_reason")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    changes = {"takes.window_ev": [100.0, 1000.0]}
    make_dielectric_package(tmp_path / "models", changes=changes)
    return with_models(make_config(tmp_path, tmp_path / "models"), use=("optics",), set=SETTINGS)


def with_models(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"models": config.models.model_copy(update=changes)})


def map_run(config: Config, **changes: Any) -> Finished:
    with running_daemon(config) as running:
        running.send_run(make_start(PLAN, **changes), 24)
        return running.wait_finished()


@pytest.mark.parametrize(
    ("told", "values"),
    [
        ({"beam_kev": 300.0}, {"beam_kev": 300.0, "collection_mrad": 10.0}),
        ({"beam_kev": 200.0, "collection_mrad": 50.0}, None),
        ({"beam_kev": 1000.0}, {"beam_kev": 80.0, "collection_mrad": 10.0}),
        ({}, {"beam_kev": 80.0, "collection_mrad": 10.0}),
    ],
)
def test_maps_are_made_and_stamped_with_what_the_run_says_or_what_was_set(
    config: Config,
    told: dict[str, float],
    values: dict[str, float] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    used = {"refractive_index": 2.5, **(told if values is None else values)}
    finished = map_run(config, **told)
    assert {item.name: item.value for item in finished.run.packages[0].parameters} == used
    expected = expected_dielectric(counts_at(range(24)), **used)
    for name in LAYERS:
        layer = finished.run.store.layer(f"optics/{name}").ravel()
        np.testing.assert_allclose(layer, expected[name], rtol=1e-6)
    assert ("beam_kev = 1000 keV, expected 20 to 400" in caplog.text) == (
        told.get("beam_kev") == 1000.0
    )
    assert finished.folder is not None
    with h5py.File(finished.folder / "maps.hspy") as file:
        about = file["Experiments/optics thickness_nm/metadata/Zeroloss/package/parameters"].attrs
        assert dict(about) == used


def test_what_nobody_tells_is_missing_for_a_reason(config: Config) -> None:
    finished = map_run(with_models(config, set=()))
    values = {item.name: item.value for item in finished.run.packages[0].parameters}
    assert values == {"refractive_index": None, "beam_kev": None, "collection_mrad": 20.0}
    store = finished.run.store
    assert np.isnan(store.layer("optics/thickness_nm")).all()
    assert (store.layer("optics/thickness_nm_reason") == 2).all()
    assert finished.run.totals().processed == 24
    assert finished.folder is not None
    with h5py.File(finished.folder / "maps.hspy") as file:
        about = file["Experiments/optics thickness_nm/metadata/Zeroloss/package/parameters"].attrs
        assert about["refractive_index"] == "_None_"


def test_a_question_may_bring_other_values(
    config: Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with running_daemon(config) as running:
        publisher = running.daemon.publisher
        with LiveMaps(publisher.maps_endpoint, publisher.requests_endpoint) as maps:
            running.send_run(make_start(PLAN, beam_kev=300.0), 24)
            run = maps.wait_for_close(20)
            models = cast("dict[str, Any]", run.provenance["packages"])
            assert models["optics"]["parameters"]["beam_kev"] == 300.0
            name = "optics/eps_real"
            found = run.spectrum(rows=1, what=name, parameters={"optics.refractive_index": 4.0})
            used = {"refractive_index": 4.0, "beam_kev": 300.0, "collection_mrad": 10.0}
            assert found[name].parameters == used
            total = counts_at(range(8, 16)).sum(axis=0, keepdims=True)
            expected = expected_dielectric(total, **used)["eps_real"][0]
            np.testing.assert_allclose(found[name].values, expected, rtol=1e-5)
            with pytest.raises(SpectrumRefusedError, match="has no parameter n; it has"):
                run.spectrum(rows=1, what=name, parameters={"optics.n": 4.0})
            arguments = ["--requests", publisher.requests_endpoint, "--what", name]
            flags = ["--region", "1:2,:", "--set", "optics.refractive_index=4"]
            out = tmp_path / "eps.npz"
            assert main(["spectrum", *arguments, *flags, "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as file:
        np.testing.assert_array_equal(file[name], found[name].values)
        about = json.loads(str(file["about"]))
    assert about["answers"][name]["parameters"] == used
    with pytest.raises(SystemExit):
        main(["spectrum", "--pixel", "1", "2", "--set", "refractive_index=4"])
    assert "expected PACKAGE.NAME=VALUE" in capsys.readouterr().err
