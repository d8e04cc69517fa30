from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from support.daemons import hspy_layers, make_config, running_daemon
from support.polling import poll_until
from support.streams import CHANNELS, counts_at, make_blocks, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.scan import Coverage
from zeroloss.wire import EnergyRange, Heartbeat, ScanPlan, encode

PLAN = ScanPlan(shape=(6, 10), dwell_s=0.001, step=(2.0, 2.0))
SPECTRA = 60


def expected_maps(models: Path, spectra: int = SPECTRA) -> np.ndarray:
    session = ModelSession(load_package(models / "tiny"))
    return session.run(counts_at(range(spectra)).astype(np.float32), 100.0, 1.0)["probability"]


def test_a_stream_becomes_maps_a_recording_and_a_balanced_ledger(
    tmp_path: Path, models: Path
) -> None:
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send_run(make_start(PLAN, expected=SPECTRA, title="test"), SPECTRA)
        finished = running.wait_finished()
        health = running.health()
    totals = finished.run.totals()
    assert totals.balanced
    assert totals.processed == SPECTRA
    np.testing.assert_array_equal(
        finished.run.store.layer("tiny/probability").reshape(SPECTRA, -1), expected_maps(models)
    )
    assert finished.run.closing is not None
    assert finished.run.closing.detected["tiny/probability"] == ("C", "N", "O")
    assert finished.folder is not None
    note = json.loads((finished.folder / "closed.json").read_text())
    assert note["ledger"]["processed"] == SPECTRA
    assert (finished.folder / "maps.hspy").exists()
    assert health["status"] == "ok"
    assert health["models"][0]["provider"] == "CPUExecutionProvider"
    assert len(health["models"][0]["sha256"]) == 64


def test_metrics_agree_with_the_ledger(tmp_path: Path, models: Path) -> None:
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send_run(make_start(PLAN), SPECTRA)
        running.wait_finished()
        with urlopen(f"http://127.0.0.1:{running.daemon.http.port}/metrics", timeout=5) as reply:
            text = reply.read().decode()
    assert f"zeroloss_spectra_processed_total {SPECTRA}.0" in text
    assert f"zeroloss_spectra_received_total {SPECTRA}.0" in text


def test_several_ranges_per_pixel_go_to_the_models_that_take_them(
    tmp_path: Path, models: Path
) -> None:
    core = EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=CHANNELS)
    low = EnergyRange(name="low_loss", offset_ev=-5, scale_ev=0.05, size=64, dtype="uint16")
    start = make_start(PLAN, ranges=(low, core))
    blocks = [
        replace(block, counts={**block.counts, "low_loss": np.ones((block.n, 64), np.uint16)})
        for block in make_blocks(start, SPECTRA)
    ]
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send(start, *blocks, make_end(start, SPECTRA))
        finished = running.wait_finished()
    assert finished.run.packages[0].range_name == "core_loss"
    np.testing.assert_array_equal(
        finished.run.store.layer("tiny/probability").reshape(SPECTRA, -1), expected_maps(models)
    )


def test_rubbish_on_the_port_is_counted_and_the_daemon_goes_on(
    tmp_path: Path, models: Path
) -> None:
    start = make_start(PLAN)
    good = [bytes(part) for part in encode(next(make_blocks(start, 16)))]
    rubbish = [
        [b"", b""],
        [b"spec/", os.urandom(200)],
        [good[0], good[1], good[2][:-3]],
        [good[0], good[1]],
        [good[0], good[1], good[2], b"more"],
        [good[0], good[1].replace(b"\xa1v\x01", b"\xa1v\x02"), good[2]],
        [os.urandom(3)] * 40,
    ]
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send(start)
        for parts in rubbish:
            running.push.send_multipart(parts)
        running.send(*make_blocks(start, SPECTRA), make_end(start, SPECTRA))
        finished = running.wait_finished()
        counted = sum(
            sample.value
            for metric in running.daemon.metrics.malformed_messages.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
    totals = finished.run.totals()
    assert counted == len(rubbish) == sum(totals.malformed.values())
    assert totals.processed == SPECTRA


def test_under_overload_the_rest_is_caught_up_from_the_recording(
    tmp_path: Path, models: Path
) -> None:
    plan = ScanPlan(shape=(30, 40))
    spectra = 1200
    config = make_config(tmp_path, models, queue={"queue_mb": 1})
    with running_daemon(config) as running:
        running.send_run(make_start(plan), spectra)
        finished = running.wait_finished()
    assert finished.run.totals().processed == spectra
    np.testing.assert_array_equal(
        finished.run.store.layer("tiny/probability").reshape(spectra, -1),
        expected_maps(models, spectra),
    )


def test_without_a_recording_the_source_has_to_wait_and_nothing_is_lost(
    tmp_path: Path, models: Path
) -> None:
    config = make_config(tmp_path, models, queue={"queue_mb": 1}, recording={"record": False})
    with running_daemon(config) as running:
        running.send_run(make_start(ScanPlan(shape=(30, 40))), 1200)
        finished = running.wait_finished()
    assert finished.folder is None
    assert finished.run.totals().processed == 1200


def test_a_recording_that_cannot_be_written_stops_loudly_and_maps_go_on(
    tmp_path: Path, models: Path
) -> None:
    blocked = tmp_path / "recordings"
    blocked.write_text("a file where the folder should be")
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send_run(make_start(PLAN), SPECTRA)
        finished = running.wait_finished()
        health = running.health()
    assert finished.run.totals().processed == SPECTRA
    assert health["status"] == "recording stopped"
    assert str(blocked) in health["recording"]["fault"]


def test_a_silent_source_ends_its_run_as_aborted(tmp_path: Path, models: Path) -> None:
    start = make_start(PLAN)
    with running_daemon(make_config(tmp_path, models, runs={"idle_s": 1.0})) as running:
        running.send(start, *make_blocks(start, 32))
        finished = running.wait_finished()
    assert finished.run.closing is not None
    assert finished.run.closing.status == "abort"
    assert "no message" in finished.run.closing.reason
    assert finished.run.totals().processed == 32


def test_a_lost_tail_is_a_hole_on_the_map_and_in_the_ledger(tmp_path: Path, models: Path) -> None:
    start = make_start(PLAN)
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send(start, *make_blocks(start, 32))
        running.send(Heartbeat(run=start.run, seq=9, t_ns=1, spectra=50))
        running.send(make_end(start, SPECTRA))
        finished = running.wait_finished()
    totals = finished.run.totals()
    assert totals.balanced
    assert (totals.processed, totals.missed) == (32, SPECTRA - 32)
    assert (finished.run.store.coverage().ravel()[32:] == Coverage.LOST).all()


def test_a_run_with_an_impossible_axis_is_refused_and_the_next_one_is_taken(
    tmp_path: Path, models: Path
) -> None:
    wrong = EnergyRange(name="core_loss", offset_ev=0.1, scale_ev=1e-6, size=CHANNELS)
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send_run(make_start(PLAN, ranges=(wrong,)), SPECTRA)
        running.send_run(make_start(PLAN), SPECTRA)
        finished = running.wait_finished()
    assert finished.run.totals().processed == SPECTRA


def test_an_endless_run_sums_its_passes_until_it_is_ended(tmp_path: Path, models: Path) -> None:
    start = make_start(ScanPlan(shape=(3, 5), passes=None))
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send_run(start, 60)
        finished = running.wait_finished()
    total = counts_at(range(60)).reshape(4, 15, CHANNELS).sum(0)
    session = ModelSession(load_package(models / "tiny"))
    expected = session.run(total.astype(np.float32), 100.0, 1.0)["probability"]
    np.testing.assert_array_equal(
        finished.run.store.layer("tiny/probability").reshape(15, -1), expected
    )


def test_a_restarted_daemon_finishes_the_run_from_its_recording(
    tmp_path: Path, models: Path
) -> None:
    config = make_config(tmp_path, models)
    start = make_start(PLAN)
    blocks = list(make_blocks(start, SPECTRA))
    with running_daemon(config) as running:
        running.send(start, *blocks[:2])
        poll_until(
            lambda: any(run.totals().announced >= 32 for run in running.daemon.open_runs()),
            "the first blocks",
        )
    with running_daemon(config) as running:
        running.send(start, *blocks[2:], make_end(start, SPECTRA))
        finished = running.wait_finished()
    assert finished.run.totals().processed == SPECTRA
    assert finished.folder is not None
    layers = hspy_layers(finished.folder / "maps.hspy")
    assert layers
    np.testing.assert_array_equal(
        finished.run.store.layer("tiny/probability").reshape(SPECTRA, -1), expected_maps(models)
    )


@pytest.mark.parametrize("status", ["abort", "fail"])
def test_the_end_status_of_the_source_reaches_the_map(
    tmp_path: Path, models: Path, status: str
) -> None:
    start = make_start(PLAN)
    with running_daemon(make_config(tmp_path, models)) as running:
        end = replace(make_end(start, 16), status=status, reason="beam lost")
        running.send(start, *make_blocks(start, 16), end)
        finished = running.wait_finished()
    assert finished.run.closing is not None
    assert (finished.run.closing.status, finished.run.closing.reason) == (status, "beam lost")


def test_what_the_recording_has_lost_is_rejected_not_waited_for(
    tmp_path: Path, models: Path
) -> None:
    config = make_config(tmp_path, models)
    start = make_start(PLAN)
    with running_daemon(config) as running:
        running.send(start, *make_blocks(start, 48))
        poll_until(
            lambda: any(run.totals().announced >= 48 for run in running.daemon.open_runs()),
            "the blocks",
        )
        run = running.daemon.open_runs()[0]
        assert run.recorder is not None
        segment = max(run.recorder.folder.glob("*.mcap"))
        poll_until(lambda: run.totals().processed == 48, "the map")
        with run.lock:
            run.deferred.add(1000, 1016)
        run.ledger.receive(1000, 1016)
        running.send(replace(make_end(start, 48), spectra=48))
        poll_until(lambda: run.totals().rejected, "the backlog to give up")
    assert segment.exists()
    assert run.totals().rejected == {"no longer readable in the recording": 16}


def test_a_recordings_folder_that_cannot_be_written_shows_before_the_first_run(
    tmp_path: Path, models: Path
) -> None:
    (tmp_path / "recordings").write_text("a file where the folder should be")
    with running_daemon(make_config(tmp_path, models)) as running:
        health = running.health()
    assert health["status"] == "recording stopped"
    assert str(tmp_path / "recordings") in health["recording"]["fault"]
