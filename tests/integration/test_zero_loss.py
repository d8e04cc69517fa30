"""The zero-loss peak live: a vacuum scan is recorded, trained on, and the next scan is subtracted.

One daemon process, real sockets. The specimen scan has a low-loss and a
core-loss range on an axis that is wrong by 6 eV, vacuum beside the flake, and four bad pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from support.daemons import ANY, DaemonProcess, get_health
from support.packages import make_package
from support.polling import DEADLINE_S, poll_until
from support.streams import ELEMENTS, T0_NS, counts_at, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.scan import Coverage
from zeroloss.wire import EnergyRange, RunStart, ScanPlan, SpectraBlock, encode
from zeroloss_clients import LiveMaps, LiveRun

pytest.importorskip("torch", reason="training needs torch")

from zeroloss_export.cli import main
from zeroloss_export.simulate.low_loss import Instrument, LowLossScan, specimen_scan, vacuum_scan
from zeroloss_export.simulate.low_loss_faults import Fault, spoil

pytestmark = pytest.mark.timeout(700)

WRONG_BY_EV = 6.0
VACUUM_SHAPE, SHAPE = (3, 8), (10, 14)
INSTRUMENT = Instrument(scale_ev=0.06, channels=1600)
"""A range that holds nearly all losses, so that their sum is known."""
BAD: dict[tuple[int, int], tuple[Fault, str]] = {
    (3, 5): ("saturated", "saturated"),
    (4, 6): ("shifted out", "no zero-loss peak"),
    (5, 7): ("no peak", "no zero-loss peak"),
    (6, 8): ("clipped", "clipped"),
}
"""Pixels of the flake, their fault, and the reason that is given for it."""


def core_range() -> EnergyRange:
    """The announced axis; energies are truly lower. No onset lies on the edge of a channel."""
    offset = 100.5 + WRONG_BY_EV
    return EnergyRange(name="core_loss", offset_ev=offset, scale_ev=1, size=900, dtype="float32")


def blocks(start: RunStart, counts: dict[str, np.ndarray]) -> Iterator[SpectraBlock]:
    for seq, first in enumerate(range(0, len(next(iter(counts.values()))), 16), 1):
        part = {name: array[first : first + 16] for name, array in counts.items()}
        yield SpectraBlock(
            run=start.run, seq=seq, t_ns=T0_NS, schema=start.schema, first=first, counts=part
        )


@dataclass
class Mapped:
    """The specimen scan as simulated and as mapped, while the daemon still runs."""

    scan: LowLossScan
    run: LiveRun
    core: np.ndarray
    elements: Path
    bad: np.ndarray
    health: dict[str, object]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapped]:
    folder = tmp_path_factory.mktemp("zero_loss")
    elements = make_package(folder / "elements", labels=ELEMENTS)
    trained = folder / "trained"
    trained.mkdir()
    daemon = DaemonProcess(
        *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
        *("--recordings", str(folder / "recordings"), "--provider", "cpu", "--repair-s", "0.2"),
        *("--models", str(elements.parent), "--models", str(trained)),
        *("--use", "tiny", "--use", "zero_loss"),
    )
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    push = context.socket(zmq.PUSH)
    push.linger = 0
    push.connect(daemon.endpoints["source"])
    try:
        with LiveMaps(daemon.endpoints["maps"], daemon.endpoints["requests"]) as maps:

            def send(start: RunStart, counts: dict[str, np.ndarray]) -> LiveRun:
                spectra = len(next(iter(counts.values())))
                for message in (start, *blocks(start, counts), make_end(start, spectra)):
                    push.send_multipart(encode(message))

                def final() -> bool:
                    newest = maps.wait_for_run(DEADLINE_S)
                    return newest.run == start.run and newest.closed is not None

                poll_until(final, "the final maps")
                return maps.latest()

            vacuum = vacuum_scan(1, VACUUM_SHAPE, INSTRUMENT)
            start = make_start(ScanPlan(shape=VACUUM_SHAPE), ranges=(low_range(vacuum),))
            send(start, {"low_loss": flat(vacuum.counts)})
            (recording,) = (folder / "recordings").glob(f"*-{start.run[:4].hex()}")
            train(recording, trained / "zero_loss")

            def taken() -> bool:
                models = get_health(daemon.endpoints["http"])["models"]
                return "zero_loss" in [item["name"] for item in models]

            poll_until(taken, "the trained package")

            scan = specimen_scan(2, SHAPE, replace(INSTRUMENT, misalignment_ev=WRONG_BY_EV))
            low = scan.counts.copy()
            bad = np.zeros(SHAPE, bool)
            for pixel, (fault, _) in BAD.items():
                low[pixel] = spoil(scan, fault)[pixel]
                bad[pixel] = True
            core = counts_at(range(SHAPE[0] * SHAPE[1]), dtype="float32")
            start = make_start(ScanPlan(shape=SHAPE), ranges=(core_range(), low_range(scan)))
            run = send(start, {"core_loss": core, "low_loss": flat(low)})
            health = get_health(daemon.endpoints["http"])
            yield Mapped(scan, run, core, elements, bad, health)
    finally:
        push.close()
        context.term()
        daemon.kill()


def low_range(scan: LowLossScan) -> EnergyRange:
    instrument = scan.instrument
    return EnergyRange(
        name="low_loss",
        offset_ev=instrument.offset_ev,
        scale_ev=instrument.scale_ev,
        size=instrument.channels,
        dtype="float32",
    )


def flat(counts: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(counts.reshape(-1, counts.shape[-1]), np.float32)


def train(recording: Path, out: Path) -> None:
    # In this process, where other tests have loaded what exports graphs: that takes longest.
    flags = ("--out", str(out), "--replicas", "24", "--peaks", "0")
    assert main(["train", "zlp", str(recording), *flags]) == 0


def test_every_pixel_is_mapped_and_nothing_is_rejected(mapped: Mapped) -> None:
    assert (mapped.run.coverage == Coverage.DONE).all()
    assert mapped.run.ledger.rejected == {}
    assert mapped.health["models_broken"] == []
    assert mapped.health["status"] == "ok"


def test_the_shift_is_known_to_a_fraction_of_a_channel(mapped: Mapped) -> None:
    off = mapped.run.layer("zero_loss/zero_loss_shift") - mapped.scan.shift_ev
    off = off[~mapped.bad] / mapped.scan.instrument.scale_ev
    # A parabola through an asymmetric peak lies beside its maximum, everywhere by the same.
    assert abs(np.median(off)) < 0.5
    assert np.abs(off - np.median(off)).max() < 0.1


def test_bad_pixels_say_why(mapped: Mapped) -> None:
    why = mapped.run.reason("zero_loss/zero_loss_shift")
    for pixel, (_, reason) in BAD.items():
        assert why.labels[int(why.values[pixel])] == reason
    assert (why.values[~mapped.bad] == 0).all()
    shift = mapped.run["zero_loss/zero_loss_shift"]
    np.testing.assert_array_equal(shift.mask, mapped.bad)


def test_thickness_is_near_the_truth_and_missing_in_the_vacuum(mapped: Mapped) -> None:
    scan, run = mapped.scan, mapped.run
    inside = (scan.material >= 0) & ~mapped.bad
    value = run.layer("zero_loss/thickness")[inside]
    error = run.layer("zero_loss/thickness_error")[inside]
    off = value - scan.thickness[inside]
    # What lies beyond the range is extrapolated, and more than was really lost.
    assert np.abs(off / scan.thickness[inside]).max() < 0.2
    assert (error > 0).all()
    why = run.reason("zero_loss/thickness")
    outside = (scan.material < 0) & ~mapped.bad
    assert (why.values[outside] == why.labels.index("vacuum")).all()


def test_the_gap_is_near_the_truth_in_the_flake_and_missing_beside_it(mapped: Mapped) -> None:
    scan, run = mapped.scan, mapped.run
    gap, error = run.layer("zero_loss/gap"), run.layer("zero_loss/gap_error")
    why = run.reason("zero_loss/gap")
    outside = (scan.material < 0) & ~mapped.bad
    assert np.isnan(gap[outside]).all()
    assert (why.values[outside] == why.labels.index("vacuum")).all()
    for index, material in enumerate(scan.materials):
        here = (scan.material == index) & ~mapped.bad
        given = here & (why.values == 0)
        assert given.sum() > 0.8 * here.sum()
        off = np.abs(gap[given] - material.gap_ev)
        assert np.median(off) < 0.35
        assert np.median(off / error[given]) < 2.0


def test_the_subtracted_spectrum_of_a_pixel_is_the_loss_within_its_band(mapped: Mapped) -> None:
    scan, pixel = mapped.scan, (2, 6)
    assert scan.material[pixel] >= 0
    found = mapped.run.spectrum(rows=pixel[0], columns=pixel[1], what="zero_loss/subtracted")
    spectrum = found["zero_loss/subtracted"]
    assert spectrum.labels == ("16 %", "median", "84 %")
    assert spectrum.energies_ev is not None
    instrument = scan.instrument
    axis = spectrum.energies_ev + scan.shift_ev[pixel]
    truth = np.interp(axis, instrument.energy_ev, scan.inelastic[pixel])
    sigma = np.sqrt(np.interp(axis, instrument.energy_ev, scan.variance[pixel]))
    low, _, high = spectrum.values
    used = (spectrum.energies_ev > 1.3) & (axis < instrument.energy_ev[-1])
    within = (truth > low - 2 * sigma) & (truth < high + 2 * sigma)
    assert within[used].mean() > 0.9


def test_the_core_loss_is_identified_on_the_axis_that_the_zero_loss_peak_tells(
    mapped: Mapped,
) -> None:
    session = ModelSession(load_package(mapped.elements))
    announced = core_range().offset_ev
    shift = mapped.run.layer("zero_loss/zero_loss_shift").ravel().astype(np.float64)
    corrected = np.where(np.isnan(shift), announced, announced - shift).astype(np.float32)
    layer = mapped.run.layer("tiny/probability").reshape(len(mapped.core), -1)
    expected = session.run(mapped.core, corrected, 1.0)["probability"]
    np.testing.assert_allclose(layer, expected, atol=1e-6)
    good = ~mapped.bad.ravel()
    truth = session.run(mapped.core, announced - WRONG_BY_EV, 1.0)["probability"]
    np.testing.assert_array_equal(layer[good], truth[good])
    wrong = session.run(mapped.core, announced, 1.0)["probability"]
    np.testing.assert_array_equal(layer[~good], wrong[~good])
    assert np.abs(wrong - truth).max() > 0.05
