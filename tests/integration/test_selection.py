"""A model of chosen elements with the low loss beside: over sockets, renewed, and from files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest

from support.daemons import hspy_layers, make_config, running_daemon
from support.packages import expected_masked, expected_selected, make_selected_package
from support.packages.masked import make_masked_package
from support.polling import poll_until
from support.spectrum_files import axis, one
from support.streams import CHANNELS, T0_NS, counts_at, make_end, make_start
from zeroloss.cli import main
from zeroloss.config import Config
from zeroloss.models import load_package, save_package
from zeroloss.wire import EnergyRange, RunStart, ScanPlan, SpectraBlock
from zeroloss_clients import LiveMaps

SHAPE = (5, 8)
SPECTRA = 40
CORE = EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=CHANNELS, dtype="float32")
LOW = EnergyRange(name="low_loss", offset_ev=-10, scale_ev=0.25, size=200, dtype="float32")
LABELS = ("O", "Mn")
SETTINGS = ("selected.elements=Mn,O", "selected.exposure_ratio=20")
NAMES = ("signal", "density", "why")


def low_loss() -> np.ndarray:
    """Counts [SPECTRA, 200], a peak that moves from pixel to pixel; some pixels have none."""
    rng = np.random.default_rng(11)
    counts = rng.integers(0, 80, (SPECTRA, LOW.size)).astype(np.float32)
    counts[np.arange(SPECTRA), 40 + np.arange(SPECTRA)] += 2000
    counts[[3, 17]] = np.nan
    return counts


def stream(start: RunStart) -> Iterator[SpectraBlock]:
    counts = {"core_loss": counts_at(range(SPECTRA), dtype="float32"), "low_loss": low_loss()}
    for seq, first in enumerate(range(0, SPECTRA, 16), 1):
        part = {item.name: counts[item.name][first : first + 16] for item in start.ranges}
        yield SpectraBlock(
            run=start.run, seq=seq, t_ns=T0_NS, schema=start.schema, first=first, counts=part
        )


def run_start(*ranges: EnergyRange) -> RunStart:
    return make_start(ScanPlan(shape=SHAPE), ranges=ranges or (CORE, LOW))


def expected(*, with_low_loss: bool = True, shifted: bool = True) -> dict[str, np.ndarray]:
    low, core = low_loss(), counts_at(range(SPECTRA), dtype="float32")
    peak = np.nan_to_num(expected_masked(low, -10.0, 0.25)["peak"])
    shift = np.where(np.isnan(low).all(axis=1) | ~np.bool_(shifted), 0.0, peak)
    beside = (low, -10.0 - shift, 0.25) if with_low_loss else None
    offset = 100.0 - shift
    return expected_selected(core, offset, 1.0, LABELS, low_loss=beside, exposure_ratio=20.0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    make_masked_package(folder, name="zero", changes={"outputs.2.shifts_axis": True})
    return make_selected_package(folder).parent


def config_of(tmp_path: Path, models: Path, **changes: Any) -> Config:
    chosen = {"use": ("zero", "selected"), "set": SETTINGS, **changes}
    return make_config(tmp_path, models, models=chosen)


def test_maps_of_what_was_chosen_also_after_the_package_was_renewed(
    tmp_path: Path, models: Path
) -> None:
    old = load_package(models / "selected")
    with running_daemon(config_of(tmp_path, models)) as running:
        publisher = running.daemon.publisher
        with LiveMaps(publisher.maps_endpoint, publisher.requests_endpoint) as maps:
            start = run_start()
            running.send(start, *stream(start), make_end(start, SPECTRA))
            run = maps.wait_for_close(30)
            for name, values in expected().items():
                layer = run.layer(f"selected/{name}").reshape(SPECTRA, -1).squeeze()
                np.testing.assert_allclose(layer, values, rtol=1e-5, err_msg=name)
            made = cast("dict[str, Any]", run.provenance["packages"])
            assert made["selected"]["selection"] == {"elements": LABELS}
            assert made["selected"]["low_loss_range"] == "low_loss"
            assert (made["zero"]["selection"], made["zero"]["low_loss_range"]) == ({}, None)

            asked = [f"selected/{name}" for name in NAMES]
            found = run.spectrum(rows=2, columns=3, what=asked)
            for name in NAMES:
                on_map = run.layer(f"selected/{name}")[2, 3]
                np.testing.assert_array_equal(found[f"selected/{name}"].values.ravel(), on_map)
            assert found["selected/signal"].labels == LABELS

        # What was chosen stays.
        selection = old.manifest.takes.selection
        assert selection is not None
        renewed = old.manifest.model_copy(update={"version": "5"})
        save_package(models / "selected", renewed, old.read_graph())
        sha256 = load_package(models / "selected").sha256
        poll_until(
            lambda: sha256 in [item["sha256"] for item in running.health()["models"]],
            "the renewed package",
        )
        second = run_start()
        running.send(second, *stream(second), make_end(second, SPECTRA))
        finished = running.wait_finished(2)
    info = next(item for item in finished.run.packages if item.name == "selected")
    assert (info.sha256, info.version, info.selected) == (sha256, "5", {"elements": LABELS})
    for name, values in expected().items():
        layer = finished.run.store.layer(f"selected/{name}").reshape(SPECTRA, -1).squeeze()
        np.testing.assert_allclose(layer, values, rtol=1e-5, err_msg=name)
    assert finished.run.totals().processed == SPECTRA
    assert finished.folder is not None
    stored = hspy_layers(finished.folder / "maps.hspy")
    assert stored["selected signal"].shape == (2, *SHAPE)
    with h5py.File(finished.folder / "maps.hspy") as file:
        about = file["Experiments/selected density/metadata/Zeroloss/package"]
        assert about.attrs["low_loss_range"] == "low_loss"
        assert list(about["selection"]) == ["_list_elements"]


@pytest.mark.parametrize("given", [(), SETTINGS])
def test_without_a_choice_the_others_map_alone_and_without_a_low_loss_the_reason_says_so(
    tmp_path: Path, models: Path, given: tuple[str, ...]
) -> None:
    ranges = (CORE,) if given else (CORE, LOW)
    with running_daemon(config_of(tmp_path, models, set=given)) as running:
        start = run_start(*ranges)
        running.send(start, *stream(start), make_end(start, SPECTRA))
        finished = running.wait_finished()
    names = [item.name for item in finished.run.packages]
    assert names == (["selected"] if given else ["zero"])
    if given:
        assert finished.run.packages[0].low_loss_range is None
        for name, values in expected(with_low_loss=False, shifted=False).items():
            layer = finished.run.store.layer(f"selected/{name}").reshape(SPECTRA, -1).squeeze()
            np.testing.assert_allclose(layer, values, rtol=1e-5, err_msg=name)


def test_two_files_are_mapped_with_what_was_chosen(tmp_path: Path, models: Path) -> None:
    pytest.importorskip("rsciio", reason="reading spectrum files needs RosettaSciIO")
    places = (axis("y", "nm", 0.0, 2.0, navigate=True), axis("x", "nm", 0.0, 2.0, navigate=True))
    core = counts_at(range(SPECTRA), dtype="float32").reshape(*SHAPE, CHANNELS)
    low = low_loss().reshape(*SHAPE, LOW.size)
    paths = []
    for name, data, item in (("core", core, CORE), ("low", low, LOW)):
        energy = axis("Energy loss", "eV", item.offset_ev, item.scale_ev, navigate=False)
        paths.append(str(one(tmp_path / f"{name}.hspy", data, (*places, energy))))
    out = tmp_path / "maps.hspy"
    flags = [flag for text in SETTINGS for flag in ("--set", text)]
    where = ["--models", str(models), "--provider", "cpu", "--use", "zero", "--use", "selected"]
    assert main(["map", *paths, "--out", str(out), *where, *flags]) == 0
    stored = hspy_layers(out)
    for name, values in expected().items():
        layer = stored[f"selected {name}"].reshape(-1, SPECTRA).T.squeeze()
        np.testing.assert_allclose(layer, values, rtol=1e-5, err_msg=name)
