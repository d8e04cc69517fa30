"""Whatever comes in whatever order: the ledger balances after every step and the map is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.packages import make_package
from support.streams import ELEMENTS, counts_at, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import Run, Work, choose_analyses
from zeroloss.scan import Coverage
from zeroloss.wire import Heartbeat, ScanPlan, SpectraBlock

SPECTRA = 36
COUNTS = counts_at(range(SPECTRA + 8))
LISTED = (np.arange(SPECTRA + 8) * 5 % 17).astype(np.uint32)
PLANS = {
    "raster": ScanPlan(shape=(4, 9)),
    "serpentine": ScanPlan(shape=(4, 9), pattern="serpentine"),
    "sub-scan": ScanPlan(shape=(8, 12), region=(1, 2, 4, 9)),
    "passes": ScanPlan(shape=(3, 6), passes=2),
    "endless": ScanPlan(shape=(2, 6), passes=None),
    "list": ScanPlan(shape=(5, 4), pattern="list"),
}
STEPS = ("block", "block", "block", "wrong block", "process", "defer", "read back", "heartbeat")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> ModelSession:
    folder = make_package(tmp_path_factory.mktemp("models"), labels=ELEMENTS)
    return ModelSession(load_package(folder))


class Story:
    """A run and, beside it, what has become of every position by the simplest account."""

    def __init__(self, session: ModelSession, plan: ScanPlan, seed: int) -> None:
        self.session = session
        start = make_start(plan, expected=SPECTRA)
        self.run = Run(start, choose_analyses(start, [session]), sum_passes_bytes=1 << 30)
        self.rng = np.random.default_rng(seed)
        self.works: list[Work] = []
        self.recorded: list[SpectraBlock] = []
        self.accepted: set[int] = set()
        self.rejected: set[int] = set()
        self.announced = self.duplicates = 0

    def make_block(self) -> SpectraBlock:
        first = int(self.rng.integers(SPECTRA))
        part = slice(first, first + int(self.rng.integers(1, 9)))
        return SpectraBlock(
            run=self.run.start.run,
            seq=1,
            t_ns=1,
            schema=self.run.start.schema,
            first=first,
            counts={"core_loss": COUNTS[part]},
            pixels=LISTED[part] if self.run.start.scan.pattern == "list" else None,
        )

    def receive(self, block: SpectraBlock, good: bool) -> None:
        self.recorded.append(block)
        self.works.extend(self.run.receive(block, 1))
        positions = set(range(block.first, block.first + block.n))
        new = positions - self.accepted - self.rejected
        self.duplicates += len(positions) - len(new)
        usable = {item for item in new if item < SPECTRA} if good else set()
        self.accepted |= usable
        self.rejected |= new - usable
        self.announced = max(self.announced, block.first + block.n)

    def step(self, name: str) -> None:
        run = self.run
        if name == "block":
            self.receive(self.make_block(), good=True)
        elif name == "wrong block":
            self.receive(replace(self.make_block(), schema=bytes(8)), good=False)
        elif name == "process" and self.works:
            first = self.works.pop(int(self.rng.integers(len(self.works))))
            head, tail = first.split(int(self.rng.integers(len(first) + 1)))
            self.works.extend([tail] if len(tail) else [])
            if len(head):
                run.process([head])
        elif name == "defer" and self.works:
            run.defer(self.works.pop(int(self.rng.integers(len(self.works)))))
        elif name == "read back":
            self.read_back()
        elif name == "heartbeat":
            spectra = int(self.rng.integers(SPECTRA + 1))
            run.heartbeat(Heartbeat(run=run.start.run, seq=1, t_ns=1, spectra=spectra))
            self.announced = max(self.announced, spectra)

    def read_back(self) -> None:
        for block in self.recorded:
            self.works.extend(self.run.take_deferred(block, 1))

    def check(self) -> None:
        totals = self.run.totals()
        assert totals.balanced
        assert totals.announced == self.announced
        assert sum(totals.rejected.values()) == len(self.rejected)
        assert totals.processed + totals.pending == len(self.accepted)
        assert totals.missed == self.announced - len(self.accepted) - len(self.rejected)
        assert totals.duplicates == self.duplicates

    def pixels(self, positions: set[int]) -> set[int]:
        order = np.array(sorted(positions), np.int64)
        if self.run.geometry.per_pass is None:
            return set(LISTED[order].tolist())
        return set(self.run.geometry.pixel_of(order).tolist())

    def check_map(self) -> None:
        run = self.run
        coverage = run.store.coverage().ravel()
        done = self.pixels(self.accepted)
        assert set(np.flatnonzero(coverage == Coverage.DONE).tolist()) == done
        inside = set(range(min(self.announced, SPECTRA)))
        lost = self.pixels(inside - self.accepted - self.rejected) - done
        listed = run.geometry.per_pass is None
        assert set(np.flatnonzero(coverage == Coverage.LOST).tolist()) == (
            set() if listed else lost
        )
        assert not (coverage == Coverage.PENDING).any()
        sums: dict[int, np.ndarray] = {}
        for position in self.accepted:
            (pixel,) = self.pixels({position})
            sums[pixel] = sums.get(pixel, 0) + COUNTS[position].astype(np.float64)
        at = sorted(sums)
        if at:
            spectra = np.array([sums[pixel] for pixel in at], np.float32)
            expected = self.session.run(spectra, 100.0, 1.0)["probability"]
            values = run.store.layer("tiny/probability").reshape(len(coverage), -1)
            np.testing.assert_array_equal(values[at], expected)


@pytest.mark.parametrize("plan", PLANS)
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=5, max_size=40), seed=st.integers(0, 1 << 32)
)
def test_the_ledger_balances_and_the_map_is_right(
    session: ModelSession, plan: str, steps: list[str], seed: int
) -> None:
    story = Story(session, PLANS[plan], seed)
    for name in steps:
        story.step(name)
        story.check()
    story.run.finish(make_end(story.run.start, SPECTRA))
    story.announced = max(story.announced, SPECTRA)
    story.read_back()
    while story.works:
        story.step("process")
        story.check()
    assert story.run.totals().pending == 0
    story.run.mark_lost()
    story.check_map()


@pytest.mark.parametrize("deferred", [False, True])
def test_what_is_given_up_is_rejected(session: ModelSession, deferred: bool) -> None:
    story = Story(session, PLANS["raster"], 1)
    story.receive(story.make_block(), good=True)
    (work,) = story.works
    if deferred:
        story.run.defer(work)
        story.run.give_up_deferred(list(story.run.deferred), "unreadable")
    else:
        story.run.refuse([work], "model failure")
    totals = story.run.totals()
    assert totals.balanced
    assert totals.pending == 0
    assert sum(totals.rejected.values()) == len(work)
    assert (story.run.store.coverage().ravel()[work.pixels] == Coverage.REJECTED).all()


def test_a_spectrum_without_a_valid_channel_does_not_spoil_the_sum_of_its_pixel(
    session: ModelSession,
) -> None:
    start = make_start(ScanPlan(shape=(1, 4), passes=3), dtype="float32")
    run = Run(start, choose_analyses(start, [session]), sum_passes_bytes=1 << 30)
    counts = COUNTS[:12].astype(np.float32)
    counts[5] = np.nan
    block = SpectraBlock(
        run=start.run, seq=1, t_ns=1, schema=start.schema, first=0, counts={"core_loss": counts}
    )
    run.process(run.receive(block, 1))
    totals = run.totals()
    assert totals.balanced
    assert (totals.processed, totals.rejected) == (11, {"no valid channel": 1})
    total = np.nansum(counts.reshape(3, 4, -1).astype(np.float64), axis=0)
    np.testing.assert_array_equal(
        run.store.layer("tiny/probability").reshape(4, -1),
        session.run(total.astype(np.float32), 100.0, 1.0)["probability"],
    )
