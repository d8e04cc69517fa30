"""Two models on two ranges over a real daemon: missing values, a moved axis, and who answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from support.daemons import hspy_layers, make_config, running_daemon
from support.packages import REASONS, expected_masked, make_masked_package, make_package
from support.polling import poll_until
from support.streams import CHANNELS, ELEMENTS, T0_NS, counts_at, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.scan import Coverage
from zeroloss.wire import EnergyRange, RunStart, ScanPlan, SpectraBlock
from zeroloss_clients import LiveMaps

SHAPE = (5, 8)
SPECTRA = 40
CORE = EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=CHANNELS, dtype="float32")
LOW = EnergyRange(name="low_loss", offset_ev=-10, scale_ev=0.25, size=200, dtype="float32")
BOTH = {"use": ("tiny", "masked")}


def low_loss(passes: int = 1) -> np.ndarray:
    """Integer counts [passes * SPECTRA, 200], some below zero: a peak that moves from pixel to
    pixel, in the lower rows too few counts or too many."""
    rng = np.random.default_rng(11)
    counts = rng.integers(-20, 80, (passes, SPECTRA, LOW.size)).astype(np.float32)
    counts[:, np.arange(SPECTRA), 40 + np.arange(SPECTRA)] += 2000
    counts[:, 24:32] = np.round(counts[:, 24:32] / 20)
    counts[:, 32:] *= 100
    return counts.reshape(-1, LOW.size)


def blocks(start: RunStart, counts: dict[str, np.ndarray]) -> Iterator[SpectraBlock]:
    for seq, first in enumerate(range(0, len(next(iter(counts.values()))), 16), 1):
        part = {name: array[first : first + 16] for name, array in counts.items()}
        yield SpectraBlock(
            run=start.run, seq=seq, t_ns=T0_NS, schema=start.schema, first=first, counts=part
        )


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    changes = {"takes.signed_counts": True, "outputs.2.shifts_axis": True}
    make_masked_package(folder, changes=changes)
    return make_package(folder, labels=ELEMENTS).parent


@pytest.mark.parametrize("passes", [1, 2])
def test_masked_values_reach_maps_clients_and_the_file(
    tmp_path: Path, models: Path, passes: int
) -> None:
    start = make_start(ScanPlan(shape=SHAPE, passes=passes), ranges=(CORE, LOW))
    core = counts_at(range(passes * SPECTRA), dtype="float32")
    counts = {"core_loss": core, "low_loss": low_loss(passes)}
    total = {name: array.reshape(passes, SPECTRA, -1).sum(0) for name, array in counts.items()}
    with running_daemon(make_config(tmp_path, models, models=BOTH)) as running:
        publisher = running.daemon.publisher
        with LiveMaps(publisher.maps_endpoint, publisher.requests_endpoint) as maps:
            running.send(start, *blocks(start, counts), make_end(start, passes * SPECTRA))
            run = maps.wait_for_close(30)
        finished = running.wait_finished()
    totals = finished.run.totals()
    assert (totals.processed, totals.rejected, totals.masked_channels) == (passes * SPECTRA, {}, 0)
    assert (run.coverage == Coverage.DONE).all()

    expected = expected_masked(total["low_loss"], -10.0, 0.25)
    assert {0.0, 1.0, 2.0} == set(expected["reason"].tolist())
    for name, values in expected.items():
        layer = run.layer(f"masked/{name}").ravel()
        np.testing.assert_allclose(layer, values, rtol=1e-6)
        np.testing.assert_array_equal(finished.run.store.layer(f"masked/{name}").ravel(), layer)
    why = run.reason("masked/mean")
    assert why.labels == REASONS
    assert why.label_shares == {"given": 0.6, "dark": 0.2, "bright": 0.2}
    assert run["masked/mean"].mask.sum() == 16

    session = ModelSession(load_package(models / "tiny"))
    shift = np.nan_to_num(expected["peak"])
    probability = session.run(total["core_loss"], 100.0 - shift, 1.0)["probability"]
    layer = run.layer("tiny/probability").reshape(SPECTRA, -1)
    np.testing.assert_array_equal(layer, probability)
    assert not np.array_equal(layer, session.run(total["core_loss"], 100.0, 1.0)["probability"])

    curves = run.packages[1].outputs[-1]
    assert (curves.kind, curves.labels) == ("spectrum", ("first", "twice"))
    assert curves.axis is not None
    assert (curves.axis.offset_ev, curves.axis.scale_ev) == (-2.0, 0.25)
    assert finished.folder is not None
    stored = hspy_layers(finished.folder / "maps.hspy")
    assert "masked curves" not in stored
    np.testing.assert_array_equal(stored["masked mean"], run.layer("masked/mean"))
    np.testing.assert_array_equal(stored["masked reason"], run.layer("masked/reason"))


def test_a_pixel_is_mapped_when_one_model_answers(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    make_masked_package(folder, changes={"outputs.0.reason": None, "outputs.0.uncertainty": None})
    make_package(folder, labels=ELEMENTS)
    start = make_start(ScanPlan(shape=SHAPE), ranges=(CORE, LOW))
    core = counts_at(range(SPECTRA), dtype="float32")
    core[[3, 30]] = np.nan
    counts = {"core_loss": core, "low_loss": np.maximum(low_loss(), 0)}
    dark = expected_masked(counts["low_loss"], -10.0, 0.25)["reason"] > 0
    assert dark[30]
    assert not dark[3]
    with running_daemon(make_config(tmp_path, folder, models=BOTH)) as running:
        running.send(start, *blocks(start, counts), make_end(start, SPECTRA))
        finished = running.wait_finished()
        assert running.health()["status"] == "ok"
        address = f"http://127.0.0.1:{running.daemon.http.port}/metrics"

        def metrics() -> str:
            with urlopen(address, timeout=5) as reply:
                text: str = reply.read().decode()
            return text

        # The last batch is told after its pixels are mapped.
        for package, reason, count in (
            ("masked", "the model gave no finite answer", dark.sum()),
            ("tiny", "no valid channel", 2),
        ):
            told = f'unanswered_total{{package="{package}",reason="{reason}"}} {count}.0'
            poll_until(lambda told=told: told in metrics(), told)
    totals = finished.run.totals()
    assert totals.balanced
    assert (totals.processed, totals.rejected) == (
        SPECTRA - 1,
        {"the model gave no finite answer": 1},
    )
    store = finished.run.store
    coverage = store.coverage().ravel()
    assert np.flatnonzero(coverage == Coverage.REJECTED).tolist() == [30]
    np.testing.assert_array_equal(np.isnan(store.layer("masked/mean").ravel()), dark)
    unknown = np.isnan(store.layer("tiny/probability")).any(axis=-1).ravel()
    assert np.flatnonzero(unknown).tolist() == [3, 30]
