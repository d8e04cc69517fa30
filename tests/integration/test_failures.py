"""Failing models, recordings and disks, and more than fits: counted, told, and survived."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import zmq

from support.daemons import ANY, DaemonProcess, get_health, make_config, running_daemon
from support.packages import make_package, replace_graph
from support.polling import poll_until
from support.streams import ELEMENTS, make_blocks, make_end, make_start
from zeroloss.recording import RecordedRun
from zeroloss.scan import Coverage
from zeroloss.wire import ScanPlan, encode

PLAN = ScanPlan(shape=(8, 12))
SPECTRA = 96


def test_more_runs_than_can_be_open_end_the_silent_ones(tmp_path: Path, models: Path) -> None:
    starts = [make_start(PLAN) for _ in range(24)]
    config = make_config(tmp_path, models, recording={"record": False})
    with running_daemon(config) as running:
        for start in starts:
            running.send(start)

        def newest_is_open() -> bool:
            running.send(starts[-1])  # sources repeat their run start
            return any(run.start == starts[-1] for run in running.daemon.open_runs())

        poll_until(newest_is_open, "the newest run to be taken")
        running.send_run(starts[-1], SPECTRA)
        poll_until(
            lambda: any(item.run.start.run == starts[-1].run for item in running.finished),
            "the newest run to finish",
        )
        assert len(running.daemon.open_runs()) <= 16


FAILING = """
    <ir_version: 9, opset_import: ["": 20]>
    failing (float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev)
        => (float[batch, 4] probability, float[batch, 4] spread) {
        limit = Constant <value = float {1e6}> ()
        most = ReduceMax <keepdims = 0> (counts)
        over = Greater (most, limit)
        far = Cast <to = 7> (over)
        hundred = Constant <value_ints = [100]> ()
        index = Mul (far, hundred)
        table = Constant <value_floats = [0.5, 0.5]> ()
        half = Gather (table, index)
        batch_size = Shape <start = 0, end = 1> (counts)
        four = Constant <value_ints = [4]> ()
        size = Concat <axis = 0> (batch_size, four)
        probability = Expand (half, size)
        spread = Expand (half, size)
    }
"""


def test_a_model_that_fails_on_some_spectra_costs_their_batch_only(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    package = make_package(tmp_path / "models", labels=ELEMENTS)
    replace_graph(package, onnx.parser.parse_model(FAILING))
    start = make_start(PLAN)
    blocks = list(make_blocks(start, SPECTRA))
    bad = np.array(blocks[2].counts["core_loss"])
    bad[3, 100] = 2_000_000
    blocks[2] = replace(blocks[2], counts={"core_loss": bad})
    with running_daemon(make_config(tmp_path, package.parent)) as running:
        running.send(start, blocks[2])
        poll_until(lambda: running.health()["status"] == "model failed", "health to tell")
        assert "the graph failed" in running.health()["model_fault"]
        running.send(*blocks, make_end(start, SPECTRA))
        finished = running.wait_finished()
        poll_until(lambda: running.health()["status"] == "ok", "health to tell")
    totals = finished.run.totals()
    assert totals.balanced
    assert list(totals.rejected) == ["model failure: InferenceError"]
    rejected = totals.rejected["model failure: InferenceError"]
    assert totals.processed + rejected == SPECTRA
    coverage = finished.run.store.coverage().ravel()
    assert np.count_nonzero(coverage == Coverage.REJECTED) == rejected
    assert coverage[35] == Coverage.REJECTED


def test_spectra_of_a_map_beyond_all_bounds_are_recorded_and_counted(
    tmp_path: Path, models: Path
) -> None:
    start = make_start(ScanPlan(shape=(300, 200)))
    with running_daemon(make_config(tmp_path, models, queue={"map_mb": 1})) as running:
        running.send_run(start, 32)
        finished = running.wait_finished()
    totals = finished.run.totals()
    assert totals.rejected == {"the map is too large": 32}
    assert finished.folder is not None
    assert sum(block.n for _, block in RecordedRun(finished.folder).blocks()) == 32


def test_a_recording_that_vanishes_is_counted_and_the_run_closes(
    tmp_path: Path, models: Path
) -> None:
    start = make_start(PLAN)
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send(start, *make_blocks(start, 48))
        poll_until(
            lambda: any(run.totals().processed == 48 for run in running.daemon.open_runs()),
            "half of the map",
        )
        (run,) = running.daemon.open_runs()
        # As if 16 spectra had had to leave the queue, and their recording had been deleted.
        run.folder = tmp_path / "gone"
        run.ledger.receive(48, 64)
        with run.lock:
            run.deferred.add(48, 64)
        running.send(make_end(start, 64))
        finished = running.wait_finished()
    assert finished.run.totals().rejected == {"no longer readable in the recording": 16}
    assert finished.run.closing is not None
    assert "maps.hspy could not be written" in finished.run.closing.reason


@pytest.mark.skipif(sys.platform != "linux", reason="limits the file size of another process")
@pytest.mark.parametrize("full_at_the_end", [False, True])
def test_a_full_disk_stops_the_recording_and_nothing_else(
    tmp_path: Path, models: Path, full_at_the_end: bool
) -> None:
    import resource

    daemon = DaemonProcess(
        *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
        *("--recordings", str(tmp_path / "recordings"), "--models", str(models)),
        *("--use", "tiny", "--provider", "cpu", "--repair-s", "0.2"),
    )
    address = daemon.endpoints["http"]

    def processed() -> bool:
        with urlopen(f"http://{address}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        return f"zeroloss_spectra_processed_total {SPECTRA}.0" in text

    def fill_disk(room: int) -> None:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (room, room))

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with context.socket(zmq.PUSH) as push:
            push.connect(daemon.endpoints["source"])
            start = make_start(PLAN)
            if not full_at_the_end:
                fill_disk(1 << 17)  # 96 spectra of 3600 bytes do not fit
            for message in (start, *make_blocks(start, SPECTRA)):
                push.send_multipart(encode(message))
            poll_until(processed, "every spectrum on the map")
            if full_at_the_end:
                (segment,) = (tmp_path / "recordings").glob("*/000.mcap")
                # Room for the run end, not for the index that completes the recording.
                fill_disk(segment.stat().st_size + 1024)
            push.send_multipart(encode(make_end(start, SPECTRA)))
            poll_until(lambda: get_health(address)["runs"] == [], "the run to close")
            health = get_health(address)
    finally:
        said = daemon.stop()
        context.term()
    assert daemon.process.returncode == 0
    if full_at_the_end:
        assert "cannot record to" in said
        assert "RECORDING STOPPED" not in said
        assert "could not be closed" not in said
        assert "finished (success)" in said
    else:
        assert "RECORDING STOPPED, maps go on" in said
        assert health["status"] == "recording stopped"
        assert os.fspath(tmp_path) in health["recording"]["fault"]
