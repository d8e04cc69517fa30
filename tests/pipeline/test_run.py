from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.packages import expected_masked, make_masked_package, make_package
from support.streams import CHANNELS, ELEMENTS, counts_at, make_blocks, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import Run, Work, choose_analyses
from zeroloss.scan import Coverage
from zeroloss.wire import EnergyRange, Heartbeat, RunStart, ScanPlan, SpectraBlock

PLAN = ScanPlan(shape=(4, 8))
PROBABILITY, SPREAD = "tiny/probability", "tiny/spread"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ModelSession:
    folder = make_package(tmp_path_factory.mktemp("models"), labels=ELEMENTS)
    return ModelSession(load_package(folder))


def make_run(session: ModelSession, start: RunStart, sum_passes_bytes: int = 1 << 30) -> Run:
    return Run(start, choose_analyses(start, [session]), sum_passes_bytes=sum_passes_bytes)


def receive_all(run: Run, spectra: int) -> list[Work]:
    return [work for block in make_blocks(run.start, spectra) for work in run.receive(block, 1)]


def test_every_spectrum_becomes_a_pixel(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN, expected=32))
    run.process(receive_all(run, 32))
    assert (run.store.coverage() == Coverage.DONE).all()
    expected = session.run(counts_at(range(32)).astype(np.float32), 100.0, 1.0)
    np.testing.assert_array_equal(
        run.store.layer(PROBABILITY).reshape(32, -1), expected["probability"]
    )
    totals = run.totals()
    assert (totals.announced, totals.processed, totals.balanced) == (32, 32, True)
    assert run.store.detected()[PROBABILITY] == ELEMENTS[:3]


def test_received_and_not_yet_mapped_is_pending(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN))
    works = receive_all(run, 16)
    assert run.totals().pending == 16
    assert (run.store.coverage().ravel()[:16] == Coverage.PENDING).all()
    run.process(works)
    assert run.totals().pending == 0


def test_a_spectrum_that_comes_twice_is_counted_once(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN))
    block = next(make_blocks(run.start, 32))
    assert len(run.receive(block, 1)) == 1
    assert run.receive(block, 1) == []
    assert run.totals().duplicates == 16
    assert run.totals().announced == 16


def test_a_serpentine_scan_lands_where_the_beam_was(session: ModelSession) -> None:
    run = make_run(session, make_start(replace(PLAN, pattern="serpentine")))
    run.process(receive_all(run, 32))
    values = run.store.layer(PROBABILITY)
    expected = session.run(counts_at(range(32)).astype(np.float32), 100.0, 1.0)["probability"]
    np.testing.assert_array_equal(values[1, ::-1], expected[8:16])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": b"12345678"}, "schema"),
        ({"counts": {"low_loss": np.zeros((16, CHANNELS), np.uint32)}}, "core_loss is missing"),
        ({"counts": {"core_loss": np.zeros((16, 7), np.uint32)}}, "size or dtype"),
        ({"counts": {"core_loss": np.zeros((16, CHANNELS), np.uint16)}}, "size or dtype"),
    ],
)
def test_what_was_not_announced_is_rejected_with_a_reason(
    session: ModelSession, change: dict[str, object], reason: str
) -> None:
    run = make_run(session, make_start(PLAN))
    block = replace(next(make_blocks(run.start, 16)), **change)
    assert run.receive(block, 1) == []
    totals = run.totals()
    assert sum(totals.rejected.values()) == 16
    assert reason in next(iter(totals.rejected))
    assert totals.balanced
    assert (run.store.coverage().ravel()[:16] == Coverage.REJECTED).all()


def test_a_scan_larger_than_announced_is_cut_and_counted(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN, expected=32))
    run.process(receive_all(run, 40))
    totals = run.totals()
    assert totals.rejected == {"beyond the announced scan": 8}
    assert (totals.processed, totals.balanced) == (32, True)


def test_invalid_channels_are_masked_and_counted(session: ModelSession) -> None:
    start = make_start(PLAN, dtype="float32")
    run = make_run(session, start)
    counts = counts_at(range(3), dtype="float32")
    counts[0, 10:20] = np.nan
    counts[1, 5] = -4.0
    counts[2] = np.nan
    block = SpectraBlock(
        run=start.run, seq=1, t_ns=1, schema=start.schema, first=0, counts={"core_loss": counts}
    )
    run.process(run.receive(block, 1))
    totals = run.totals()
    assert totals.masked_channels == 11 + CHANNELS
    assert totals.rejected == {"no valid channel": 1}
    coverage = run.store.coverage().ravel()
    assert coverage[:3].tolist() == [Coverage.DONE, Coverage.DONE, Coverage.REJECTED]


def test_a_channel_masked_for_two_models_is_counted_once(
    session: ModelSession, tmp_path: Path
) -> None:
    second = ModelSession(load_package(make_package(tmp_path, name="second", labels=ELEMENTS)))
    start = make_start(PLAN, dtype="float32")
    run = Run(start, choose_analyses(start, [session, second]), sum_passes_bytes=0)
    counts = counts_at(range(2), dtype="float32")
    counts[0, 10:20] = np.nan
    block = SpectraBlock(
        run=start.run, seq=1, t_ns=1, schema=start.schema, first=0, counts={"core_loss": counts}
    )
    run.process(run.receive(block, 1))
    assert run.totals().masked_channels == 10
    np.testing.assert_array_equal(
        run.store.layer(PROBABILITY), run.store.layer("second/probability")
    )


def test_saturated_channels_are_masked(session: ModelSession) -> None:
    wide = EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=CHANNELS, saturation=300.0)
    run = make_run(session, make_start(PLAN, ranges=(wide,)))
    run.process(receive_all(run, 16))
    assert run.totals().masked_channels == int((counts_at(range(16)) >= 300).sum())


LOW = EnergyRange(name="low_loss", offset_ev=-10.0, scale_ev=0.5, size=64, dtype="float32")


def low_loss_run(folder: Path, *, signed: bool, passes: int = 1, plain: bool = False) -> Run:
    """A run of low loss with a model that takes negative counts or not, and a second one."""
    packages = [make_masked_package(folder, changes={"takes.signed_counts": signed})]
    if plain:
        packages.append(make_masked_package(folder, name="plain"))
    start = make_start(ScanPlan(shape=(1, 8), passes=passes), ranges=(LOW,))
    sessions = [ModelSession(load_package(package)) for package in packages]
    return Run(start, choose_analyses(start, sessions), sum_passes_bytes=1 << 30)


def dark_subtracted(passes: int) -> np.ndarray:
    """Counts [passes, 8, 64] of which some are negative, NaN in channel 5 of the second pass."""
    rng = np.random.default_rng(8)
    counts = rng.integers(-60, 200, (passes, 8, 64)).astype(np.float32)
    if passes > 1:
        counts[1, :, 5] = np.nan
    return counts


def send_low_loss(run: Run, counts: np.ndarray) -> None:
    for index, one_pass in enumerate(counts):
        block = SpectraBlock(
            run=run.start.run,
            seq=index + 1,
            t_ns=1,
            schema=run.start.schema,
            first=8 * index,
            counts={"low_loss": one_pass},
        )
        run.process(run.receive(block, 1))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("passes", [1, 3])
def test_negative_counts_are_for_the_model_to_take(
    tmp_path: Path, signed: bool, passes: int
) -> None:
    run, counts = low_loss_run(tmp_path, signed=signed, passes=passes), dark_subtracted(passes)
    send_low_loss(run, counts)
    total = counts.sum(axis=0)
    if not signed:
        total[total < 0] = np.nan
    for name, expected in expected_masked(total, -10.0, 0.5).items():
        np.testing.assert_allclose(run.store.layer(f"masked/{name}")[0], expected, rtol=1e-6)
    totals = run.totals()
    assert totals.processed == 8 * passes
    missing, negative = np.isnan(counts).sum(), (counts < 0).sum()
    assert totals.masked_channels == missing + (0 if signed else negative)


def test_a_channel_counts_as_masked_where_one_model_does_not_take_it(tmp_path: Path) -> None:
    run, counts = low_loss_run(tmp_path, signed=True, plain=True), dark_subtracted(1)
    send_low_loss(run, counts)
    assert run.totals().masked_channels == (counts < 0).sum()
    taken, dropped = (run.store.layer(f"{name}/mean")[0] for name in ("masked", "plain"))
    assert (taken < dropped).all()


def test_ranges_of_a_pixel_are_summed_each_by_itself(session: ModelSession, tmp_path: Path) -> None:
    masked = ModelSession(load_package(make_masked_package(tmp_path)))
    core = EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=CHANNELS, dtype="float32")
    start = make_start(ScanPlan(shape=(1, 4), passes=2), ranges=(core, LOW))
    run = Run(start, choose_analyses(start, [session, masked]), sum_passes_bytes=1 << 30)
    counts = counts_at(range(8), dtype="float32")
    low = np.full((8, 64), 40.0, np.float32)
    low[1] = np.nan  # the low loss of pixel 1 in the first pass
    counts[[2, 6]] = np.nan  # the core loss of pixel 2 in both
    low[[3, 7]], counts[[3, 7]] = np.nan, np.nan  # nothing of pixel 3
    block = SpectraBlock(
        run=start.run,
        seq=1,
        t_ns=1,
        schema=start.schema,
        first=0,
        counts={"core_loss": counts, "low_loss": low},
    )
    run.process(run.receive(block, 1))
    totals = run.totals()
    assert totals.balanced
    assert (totals.processed, totals.rejected) == (6, {"no valid channel": 2})
    assert run.store.layer("masked/mean")[0].tolist()[:3] == [80.0, 40.0, 80.0]
    probability = run.store.layer(PROBABILITY)[0]
    expected = session.run(counts[:4] + counts[4:], 100.0, 1.0)["probability"]
    np.testing.assert_array_equal(probability[:2], expected[:2])
    assert np.isnan(probability[2:]).all()
    assert run.store.coverage()[0].tolist() == [Coverage.DONE] * 3 + [Coverage.REJECTED]


def test_passes_are_summed_whatever_their_order(session: ModelSession) -> None:
    start = make_start(ScanPlan(shape=(2, 4), passes=3))
    blocks = list(make_blocks(start, 24, block=8))
    maps = []
    for order in ([0, 1, 2], [2, 0, 1]):
        run = make_run(session, start)
        for index in order:
            run.process(run.receive(blocks[index], 1))
        maps.append(run.store.layer(PROBABILITY).reshape(8, -1))
        assert run.totals().processed == 24
    np.testing.assert_array_equal(maps[0], maps[1])
    total = sum(block.counts["core_loss"].astype(np.float64) for block in blocks)
    expected = session.run(np.asarray(total, np.float32), 100.0, 1.0)["probability"]
    np.testing.assert_array_equal(maps[0], expected)


def test_without_memory_for_sums_the_newest_pass_counts(session: ModelSession) -> None:
    start = make_start(ScanPlan(shape=(2, 4), passes=2))
    run = make_run(session, start, sum_passes_bytes=0)
    assert run.newest_pass_only
    blocks = list(make_blocks(start, 16, block=8))
    for block in reversed(blocks):
        run.process(run.receive(block, 1))
    newest = blocks[1].counts["core_loss"].astype(np.float32)
    np.testing.assert_array_equal(
        run.store.layer(PROBABILITY).reshape(8, -1), session.run(newest, 100.0, 1.0)["probability"]
    )


def test_a_listed_scan_brings_its_pixels(session: ModelSession) -> None:
    start = make_start(ScanPlan(shape=(4, 8), pattern="list"))
    run = make_run(session, start)
    pixels = np.array([31, 0, 5], np.uint32)
    block = SpectraBlock(
        run=start.run,
        seq=1,
        t_ns=1,
        schema=start.schema,
        first=0,
        counts={"core_loss": counts_at(range(3))},
        pixels=pixels,
    )
    run.process(run.receive(block, 1))
    assert np.flatnonzero(run.store.coverage().ravel() == Coverage.DONE).tolist() == [0, 5, 31]
    outside = replace(block, first=3, pixels=np.array([0, 1, 32], np.uint32))
    assert run.receive(outside, 1) == []
    assert run.totals().rejected == {"a pixel outside the map": 3}
    without = replace(block, first=6, pixels=None)
    assert run.receive(without, 1) == []
    assert run.totals().balanced


def test_a_run_that_no_model_takes_is_accounted_for(session: ModelSession) -> None:
    low = EnergyRange(name="low_loss", offset_ev=-10, scale_ev=0.05, size=CHANNELS)
    run = make_run(session, make_start(PLAN, ranges=(low,)))
    block = next(make_blocks(run.start, 16))
    run.process(run.receive(replace(block, counts={"low_loss": block.counts["core_loss"]}), 1))
    assert run.totals().rejected == {"no model takes this energy range": 16}


def test_a_lost_tail_shows_in_the_ledger_and_on_the_map(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN, expected=32))
    run.process(receive_all(run, 16))
    run.heartbeat(Heartbeat(run=run.start.run, seq=2, t_ns=1, spectra=24))
    assert run.totals().missed == 8
    run.finish(make_end(run.start, 32))
    assert not run.settled(repair_s=60, idle_s=60)
    assert run.settled(repair_s=0, idle_s=60)
    run.listened(5)
    run.heartbeat(Heartbeat(run=run.start.run, seq=2, t_ns=1, spectra=24))
    assert not run.settled(repair_s=5, idle_s=6)
    assert run.settled(repair_s=5, idle_s=5)
    run.mark_lost()
    assert (run.store.coverage().ravel()[16:] == Coverage.LOST).all()
    assert run.gaps() == [(16, 32)]


def test_a_gap_that_is_filled_later_leaves_no_trace(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN))
    blocks = list(make_blocks(run.start, 32))
    run.process(run.receive(blocks[1], 1))
    run.finish(make_end(run.start, 32))
    assert not run.settled(repair_s=60, idle_s=60)
    run.process(run.receive(blocks[0], 1))
    assert run.settled(repair_s=60, idle_s=60)
    assert (run.store.coverage() == Coverage.DONE).all()


def test_deferred_work_is_taken_back_once(session: ModelSession) -> None:
    run = make_run(session, make_start(PLAN))
    block = next(make_blocks(run.start, 16))
    (work,) = run.receive(block, 1)
    head, rest = work.split(6)
    run.process([head])
    run.defer(rest)
    (again,) = run.take_deferred(block, 1)
    assert again.positions.tolist() == list(range(6, 16))
    assert run.take_deferred(block, 1) == []
    run.process([again])
    assert run.totals().processed == 16
