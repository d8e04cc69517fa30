"""Bad networks and failing sources: what they lose is counted, and healed where possible.

What should have become of a run is worked out from its recording: the blocks as they arrived.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.daemons import RunningDaemon, hspy_layers, make_config, running_daemon
from support.polling import poll_until
from support.streams import counts_at, make_blocks, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import Run
from zeroloss.recording import RecordedRun, find_runs
from zeroloss.scan import Coverage, ScanGeometry
from zeroloss.service import Finished
from zeroloss.service.intake import MAX_OPEN_RUNS
from zeroloss.wire import ExitStatus, RunStart, ScanPlan
from zeroloss_clients import LiveMaps
from zeroloss_clients.microscope.faults import FaultPlan, SourceAbortedError
from zeroloss_clients.microscope.readout import Readout
from zeroloss_clients.microscope.report import SenderState, SendReport
from zeroloss_clients.microscope.sender import StreamSender

SPECTRA = 96
BLOCK = 4
COUNTS = counts_at(range(SPECTRA))
LISTED = np.random.default_rng(3).permutation(SPECTRA).astype(np.uint32)
PLANS = (
    ScanPlan(shape=(8, 12)),
    ScanPlan(shape=(8, 12), pattern="serpentine"),
    ScanPlan(shape=(12, 20), region=(2, 5, 8, 12)),
    ScanPlan(shape=(6, 8), passes=2),
    ScanPlan(shape=(8, 12), pattern="list"),
)


def make_starts() -> list[RunStart]:
    return [make_start(plan, expected=SPECTRA) for plan in PLANS]


def pixels_of(start: RunStart, positions: Sequence[int]) -> np.ndarray:
    if start.scan.pattern == "list":
        return LISTED[np.asarray(positions, np.int64)]
    return ScanGeometry(start.scan).pixel_of(np.asarray(positions, np.int64))


def readouts(start: RunStart, begin: int, end: int) -> Iterator[tuple[int, Readout]]:
    for first in range(begin, end, BLOCK):
        part = slice(first, min(end, first + BLOCK))
        listed = LISTED[part] if start.scan.pattern == "list" else None
        yield first, Readout({"core_loss": COUNTS[part]}, listed)


def send(
    running: RunningDaemon,
    start: RunStart,
    faults: FaultPlan | None,
    *,
    repair: bool,
    status: ExitStatus = "success",
) -> SendReport:
    """Send a whole run through the faults; with `repair` the source sends again what is missing."""
    requests = running.daemon.publisher.requests_endpoint if repair else None
    with StreamSender(
        start,
        running.endpoint,
        requests=requests,
        reread=lambda begin, end: readouts(start, begin, end),
        faults=faults,
    ) as sender:
        for first, readout in readouts(start, 0, SPECTRA):
            sender.send(first, readout.counts, readout.pixels)
        return sender.finish(status, spectra=SPECTRA, patience_s=20)


def send_all(
    running: RunningDaemon, starts: Sequence[RunStart], faults: FaultPlan, *, repair: bool
) -> list[SendReport]:
    """Send the runs at the same time, and look at every ledger all the while.

    Returns when every source is done and every map final: one that was closed too early for a slow
    machine goes on.
    """
    with ThreadPoolExecutor(len(starts)) as pool:
        sending = [
            pool.submit(send, running, start, replace(faults, seed=seed), repair=repair)
            for seed, start in enumerate(starts, faults.seed)
        ]
        runs: dict[bytes, Run] = {}

        def finished_and_balanced() -> bool:
            runs.update({run.start.run: run for run in running.daemon.open_runs()})
            assert all(run.totals().balanced for run in runs.values())
            done = all(item.done() for item in sending) and not running.daemon.open_runs()
            return done and not running.daemon._closing and len(last_of(running)) == len(starts)

        poll_until(finished_and_balanced, "every run to finish")
        return [item.result() for item in sending]


def last_of(running: RunningDaemon) -> list[Finished]:
    """The finished runs, each as it was finished last."""
    return list({item.run.start.run: item for item in running.finished}.values())


def check_against_recording(finished: Finished, session: ModelSession) -> None:
    """Ledger, coverage and values are those of the blocks that arrived."""
    run, start = finished.run, finished.run.start
    assert finished.folder is not None
    arrived = {
        position
        for _, block in RecordedRun(finished.folder).blocks()
        for position in range(block.first, block.first + block.n)
    }
    totals = run.totals()
    assert totals.balanced
    assert totals.pending == 0
    assert totals.rejected == {}
    assert totals.processed == len(arrived)
    assert totals.announced == totals.processed + totals.missed
    sums: dict[int, np.ndarray] = {}
    for position in sorted(arrived):
        (pixel,) = pixels_of(start, [position])
        sums[pixel] = sums.get(pixel, 0) + COUNTS[position].astype(np.float64)
    at = sorted(sums)
    coverage = run.store.coverage().ravel()
    np.testing.assert_array_equal(np.flatnonzero(coverage == Coverage.DONE), at)
    expected = session.run(np.array([sums[pixel] for pixel in at], np.float32), 100.0, 1.0)
    values = run.store.layer("tiny/probability").reshape(len(coverage), -1)
    np.testing.assert_array_equal(values[at], expected["probability"])
    assert np.isnan(values[np.setdiff1d(np.arange(len(values)), at)]).all()
    missed = [item for item in range(totals.announced) if item not in arrived]
    lost = np.setdiff1d(pixels_of(start, missed), at) if start.scan.pattern != "list" else []
    np.testing.assert_array_equal(np.flatnonzero(coverage == Coverage.LOST), lost)
    assert (coverage != Coverage.PENDING).all()


@pytest.fixture(scope="module")
def session(models: Path) -> ModelSession:
    return ModelSession(load_package(models / "tiny"))


@pytest.mark.parametrize("seed", [10, 20])
def test_what_a_bad_network_loses_is_a_hole_and_counted(
    tmp_path: Path, models: Path, session: ModelSession, seed: int
) -> None:
    plan = FaultPlan(drop=0.15, duplicate=0.2, reorder=0.2, corrupt=0.15, seed=seed)
    if seed == 20:
        plan = replace(plan, endless=True, stall_s=0.3, stall_after=9)
    starts = make_starts()
    waits = {"idle_s": 3, "repair_s": 1}
    with running_daemon(make_config(tmp_path, models, runs=waits)) as running:
        running.send(*starts)
        poll_until(lambda: len(running.daemon.open_runs()) == len(starts), "the runs to open")
        send_all(running, starts, plan, repair=False)
        for finished in last_of(running):
            check_against_recording(finished, session)
            assert finished.run.closing is not None
            if plan.endless:
                assert finished.run.closing.status == "abort"
    totals = [item.run.totals() for item in last_of(running)]
    assert sum(item.missed for item in totals) > 0
    assert sum(item.duplicates for item in totals) > 0
    assert sum(sum(item.malformed.values()) for item in totals) > 0


def test_a_source_that_repairs_leaves_no_hole(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    plan = FaultPlan(drop=0.2, duplicate=0.2, reorder=0.2, corrupt=0.1, seed=30)
    config = make_config(tmp_path, models, runs={"repair_s": 20, "idle_s": 20})
    with running_daemon(config) as running:
        reports = send_all(running, make_starts(), plan, repair=True)
        for finished in last_of(running):
            check_against_recording(finished, session)
            assert finished.run.totals().processed == SPECTRA
    assert all(report.complete for report in reports)
    assert sum(report.repaired for report in reports) > 0


def test_a_source_that_vanished_and_returns_finishes_its_run(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    start = make_start(PLANS[0], expected=SPECTRA)

    def send_until_it_vanishes(sender: StreamSender) -> None:
        for first, readout in readouts(start, 0, SPECTRA):
            if first == SPECTRA // 2:
                poll_until(
                    lambda: any(
                        run.totals().processed == SPECTRA // 2 for run in running.daemon.open_runs()
                    ),
                    "half of the map",
                )
            sender.send(first, readout.counts)
        sender.finish()

    config = make_config(tmp_path, models, runs={"repair_s": 20, "idle_s": 1.5})
    with running_daemon(config) as running:
        plan = FaultPlan(abort_after=SPECTRA // BLOCK - 1)
        with StreamSender(start, running.endpoint, requests=None, faults=plan) as sender:
            with suppress(SourceAbortedError):
                send_until_it_vanishes(sender)
            poll_until(lambda: sender.state is SenderState.ABORTED, "the source to vanish")
        aborted = running.wait_finished()
        assert aborted.run.closing is not None
        assert aborted.run.closing.status == "abort"
        assert SPECTRA // 2 <= aborted.run.totals().processed < SPECTRA
        # What comes while the map is being closed is late, and repaired once the run goes on.
        report = send(running, start, None, repair=True)
        assert report.complete
        poll_until(lambda: running.finished[-1].run.totals().processed == SPECTRA, "the whole map")
        finished = running.finished[-1]
        check_against_recording(finished, session)
        assert finished.run.closing is not None
        assert finished.run.closing.status == "success"


def test_a_closed_run_that_is_sent_again_to_a_new_daemon_keeps_its_map(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    config = make_config(tmp_path, models)
    start = make_start(PLANS[0], expected=SPECTRA)
    with running_daemon(config) as running:
        send(running, start, None, repair=False)
        running.wait_finished()
    with running_daemon(config) as running:
        running.send(start, make_end(start, SPECTRA))
        finished = running.wait_finished()
        check_against_recording(finished, session)
        assert finished.run.totals().processed == SPECTRA


def test_a_copy_of_an_unfinished_recording_is_not_a_second_run(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    config = make_config(tmp_path, models)
    start = make_start(PLANS[0], expected=SPECTRA)
    with running_daemon(config) as running:
        running.send(start, *make_blocks(start, 48))
        poll_until(
            lambda: any(run.totals().processed == 48 for run in running.daemon.open_runs()),
            "half of the map",
        )
    recordings = config.recording.recordings
    (folder,) = recordings.glob("*/")
    shutil.copytree(folder, recordings / f"{folder.name}-copy")
    with running_daemon(config) as running:
        assert len(running.daemon.open_runs()) == 1
        running.send(*list(make_blocks(start, SPECTRA))[3:], make_end(start, SPECTRA))
        check_against_recording(running.wait_finished(), session)
        assert len(running.finished) == 1


def wait_closed(running: RunningDaemon) -> None:
    """Until no map is being closed: what comes meanwhile is late."""
    poll_until(lambda: not running.daemon._closing, "the run to be closed")


def late_blocks(running: RunningDaemon) -> float:
    return running.daemon.metrics.late_blocks.collect()[0].samples[0].value


def metric(running: RunningDaemon, name: str) -> float | None:
    return running.daemon.metrics.registry.get_sample_value(f"zeroloss_{name}")


def test_what_was_there_already_is_late_after_the_end_and_harms_nothing(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    start = make_start(PLANS[0], expected=SPECTRA)
    blocks = list(make_blocks(start, SPECTRA))
    end = make_end(start, SPECTRA)
    with running_daemon(make_config(tmp_path, models)) as running:
        # Without the last block, so that the map is closed with a hole.
        running.send(start, *blocks[:-1], end)
        finished = running.wait_finished()
        wait_closed(running)
        of_another_schema = replace(blocks[-1], schema=bytes(8))
        running.send(start, *blocks[:-1], of_another_schema, end)
        poll_until(lambda: late_blocks(running) == len(blocks), "the late blocks")
        check_against_recording(finished, session)
        assert len(running.finished) == 1
        assert running.health()["status"] == "ok"
        assert running.health()["runs"] == []


@pytest.mark.parametrize("plan", [PLANS[1], PLANS[3], PLANS[4]], ids=lambda plan: plan.pattern)
def test_a_closed_run_goes_on_when_missing_spectra_come_after_all(
    tmp_path: Path, models: Path, session: ModelSession, plan: ScanPlan
) -> None:
    start = make_start(plan, expected=SPECTRA)
    listed = plan.pattern == "list"
    blocks = [
        replace(block, pixels=LISTED[block.first : block.first + block.n] if listed else None)
        for block in make_blocks(start, SPECTRA)
    ]
    config = make_config(tmp_path, models)
    with (
        running_daemon(config) as running,
        LiveMaps(
            running.daemon.publisher.maps_endpoint, running.daemon.publisher.requests_endpoint
        ) as maps,
    ):
        running.send(start, blocks[0], *blocks[2:4], *blocks[5:], make_end(start, SPECTRA))
        finished = running.wait_finished()
        check_against_recording(finished, session)
        assert finished.folder is not None
        assert finished.run.totals().missed == 32
        live = maps.wait_for_close(30)
        for count, block in enumerate((blocks[4], blocks[1]), 2):
            wait_closed(running)
            running.send(block)
            again = running.wait_finished(count)
            check_against_recording(again, session)
            assert again.folder == finished.folder
            assert again.run.totals().missed == 16 * (3 - count)
        note = json.loads((finished.folder / "closed.json").read_text())
        assert note["ledger"]["processed"] == SPECTRA
        layers = hspy_layers(finished.folder / "maps.hspy")
        coverage = layers["coverage"]
        np.testing.assert_array_equal(coverage.ravel(), again.run.store.coverage().ravel())
        poll_until(
            lambda: live.closed is not None and live.ledger.processed == SPECTRA, "the last close"
        )
        assert maps.run is live
        np.testing.assert_array_equal(
            live.layer("tiny/probability"), again.run.store.layer("tiny/probability")
        )
        np.testing.assert_array_equal(live.coverage, again.run.store.coverage())
        assert metric(running, "spectra_received_total") == SPECTRA
        assert metric(running, "spectra_processed_total") == SPECTRA
        assert metric(running, "spectra_lost_total") == 32
        assert late_blocks(running) == 0
    # What was recorded is the whole run, also for a new daemon.
    (recorded,) = find_runs(config.recording.recordings)
    assert sum(block.n for _, block in recorded.blocks()) == SPECTRA


def test_a_source_that_comes_back_after_the_close_fills_the_holes(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    start = make_start(PLANS[0], expected=SPECTRA)
    with running_daemon(make_config(tmp_path, models)) as running:
        blocks = list(make_blocks(start, SPECTRA))
        running.send(start, *blocks[1:3], blocks[4], make_end(start, SPECTRA))
        closed = running.wait_finished()
        assert closed.run.totals().missed == 48
        assert closed.run.end is not None
        assert not closed.run.given_up
        report = send(running, start, None, repair=True)
        assert report.complete, report
        poll_until(
            lambda: running.finished[-1].run.totals().processed == SPECTRA, "the run to close again"
        )
        check_against_recording(running.finished[-1], session)


@pytest.mark.parametrize("kept", ["nowhere", "moved away"])
def test_without_its_recording_a_closed_run_stays_closed(
    tmp_path: Path, models: Path, kept: str
) -> None:
    start = make_start(PLANS[0], expected=SPECTRA)
    blocks = list(make_blocks(start, SPECTRA))
    config = make_config(tmp_path, models, recording={"record": kept != "nowhere"})
    with running_daemon(config) as running:
        running.send(start, *blocks[:-1], make_end(start, SPECTRA))
        finished = running.wait_finished()
        wait_closed(running)
        if finished.folder is not None:
            finished.folder.rename(tmp_path / "archive")
        running.send(blocks[-1])
        poll_until(lambda: late_blocks(running) == 1, "the late block")
        assert len(running.finished) == 1
        assert finished.run.totals().missed == 16


def test_a_closed_run_stays_closed_where_another_would_be_given_up_for_it(
    tmp_path: Path, models: Path
) -> None:
    start = make_start(PLANS[0], expected=SPECTRA)
    blocks = list(make_blocks(start, SPECTRA))
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send(start, *blocks[:-1], make_end(start, SPECTRA))
        finished = running.wait_finished()
        wait_closed(running)
        others = [make_start(PLANS[0], expected=SPECTRA) for _ in range(MAX_OPEN_RUNS)]
        running.send(*others)
        poll_until(lambda: len(running.daemon.open_runs()) == MAX_OPEN_RUNS, "the other runs")
        running.send(blocks[-1])
        poll_until(lambda: late_blocks(running) == 1, "the late block")
        assert not any(run.ended for run in running.daemon.open_runs())
        running.send(make_end(others[0], 0))
        running.wait_finished(2)
        wait_closed(running)
        # With room for it the run goes on.
        running.send(blocks[-1])
        assert running.wait_finished(3).folder == finished.folder
        assert running.finished[2].run.totals().processed == SPECTRA


def test_passes_are_summed_over_a_restart(
    tmp_path: Path, models: Path, session: ModelSession
) -> None:
    config = make_config(tmp_path, models)
    start = make_start(ScanPlan(shape=(6, 8), passes=2), expected=SPECTRA)
    blocks = list(make_blocks(start, SPECTRA))
    with running_daemon(config) as running:
        running.send(start, *blocks[:4])
        poll_until(
            lambda: any(run.totals().processed == 64 for run in running.daemon.open_runs()),
            "the first pass and a third of the second",
        )
    with running_daemon(config) as running:
        running.send(start, *blocks[4:], make_end(start, SPECTRA))
        check_against_recording(running.wait_finished(), session)
