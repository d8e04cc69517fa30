from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.packages import expected_selected, make_package, make_selected_package
from support.polling import poll_until
from support.streams import ELEMENTS, counts_at, make_blocks, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import Backlog, Batcher, Run, choose_analyses
from zeroloss.recording import Recorder
from zeroloss.wire import EnergyRange, ScanPlan, SpectraBlock, encode

SPECTRA = 32
PLAN = ScanPlan(shape=(4, 8))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of an earlier daemon: recorded, all of it deferred, and not recorded any further."""
    session = ModelSession(load_package(make_package(tmp_path / "models", labels=ELEMENTS)))
    start = make_start(PLAN)
    run = Run(start, choose_analyses(start, [session]), sum_passes_bytes=0)
    with Recorder(tmp_path / "recordings", start) as recorder:
        for block in make_blocks(start, SPECTRA):
            recorder.write(encode(block), 1)
            for work in run.receive(block, 1):
                run.defer(work)
    run.folder = recorder.folder
    return run


def test_a_run_that_can_only_be_read_is_caught_up(run: Run) -> None:
    batcher = Batcher(1 << 20)
    backlog = Backlog(batcher, lambda: [run])
    backlog.start()
    poll_until(lambda: len(batcher) == SPECTRA, "the backlog to be queued")
    run.process(batcher.take(lambda _: SPECTRA, 0))
    backlog.close()
    assert run.totals().processed == SPECTRA
    assert len(run.deferred) == 0


def test_what_is_caught_up_has_its_low_loss_beside(tmp_path: Path) -> None:
    session = ModelSession(load_package(make_selected_package(tmp_path / "models")))
    low_range = EnergyRange(name="low", offset_ev=-2.0, scale_ev=0.5, size=64, dtype="float32")
    start = make_start(PLAN, ranges=(*make_start(PLAN).ranges, low_range))
    given = {"selected": {"elements": ("Mn", "O"), "exposure_ratio": 5.0}}
    run = Run(start, choose_analyses(start, [session], given), sum_passes_bytes=0)
    core = counts_at(range(SPECTRA))
    low = np.random.default_rng(4).poisson(20.0, (SPECTRA, 64)).astype(np.float32)
    low[np.arange(SPECTRA), np.arange(SPECTRA)] = 500
    with Recorder(tmp_path / "recordings", start) as recorder:
        for first in range(0, SPECTRA, 10):
            part = slice(first, first + 10)
            block = SpectraBlock(
                run=start.run,
                seq=first + 1,
                t_ns=1,
                schema=start.schema,
                first=first,
                counts={"core_loss": core[part], "low": low[part]},
            )
            recorder.write(encode(block), 1)
            for work in run.receive(block, 1):
                run.defer(work)
    run.folder = recorder.folder
    batcher = Batcher(1 << 20)
    backlog = Backlog(batcher, lambda: [run])
    backlog.start()
    poll_until(lambda: len(batcher) == SPECTRA, "the backlog to be queued")
    run.process(batcher.take(lambda _: SPECTRA, 0))
    backlog.close()
    expected = expected_selected(
        core, 100.0, 1.0, ["O", "Mn"], low_loss=(low, -2.0, 0.5), exposure_ratio=5.0
    )
    for name, values in expected.items():
        layer = run.store.layer(f"selected/{name}").reshape(SPECTRA, -1).squeeze()
        np.testing.assert_allclose(layer, values, rtol=1e-5, err_msg=name)


def test_one_unreadable_recording_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    start = make_start(PLAN)
    lost = Run(start, run.analyses, sum_passes_bytes=0)
    for block in make_blocks(start, SPECTRA):
        for work in lost.receive(block, 1):
            lost.defer(work)
    lost.folder = tmp_path / "gone"
    batcher = Batcher(1 << 20)
    backlog = Backlog(batcher, lambda: [lost, run])
    backlog.start()
    poll_until(lambda: len(batcher) == SPECTRA, "the readable run to be queued")
    backlog.close()
    positions = [work.positions for work in batcher.take(lambda _: SPECTRA, 0)]
    np.testing.assert_array_equal(np.concatenate(positions), np.arange(SPECTRA))
    totals = lost.totals()
    assert totals.balanced
    assert totals.rejected == {"no longer readable in the recording": SPECTRA}
