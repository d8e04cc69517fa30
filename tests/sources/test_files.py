"""A file played as a timed acquisition."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from zeroloss.recording.spectrum_files import SpectrumFile
from zeroloss.sources import FileSource, SourceError
from zeroloss.wire import EnergyRange, Heartbeat, RunEnd, RunStart, SpectraBlock, decode


def spectrum_file(pixels=10, dwell_s=0.1):
    counts = np.arange(pixels * 4, dtype=np.uint16).reshape(pixels, 4)
    return SpectrumFile(
        path=Path("scan.hspy"),
        title="scan",
        modality="eels",
        shape=(1, pixels),
        ranges=(
            EnergyRange(name="core_loss", offset_ev=400, scale_ev=0.5, size=4, dtype="uint16"),
        ),
        counts={"core_loss": counts},
        dwell_s=dwell_s,
    )


class Clock:
    """Time that passes when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def messages_until_end(source):
    """Every message of a run that is played as fast as possible."""
    out = []
    while not (out and isinstance(out[-1], RunEnd)):
        received = source.receive(0.0)
        assert received is not None
        out.append(decode(received.parts))
    return out


@pytest.mark.parametrize("pattern", ["raster", "serpentine", "list"])
def test_as_fast_as_possible_holds_everything_once(pattern):
    file = spectrum_file(pixels=10)
    start, *sent, end = messages_until_end(
        FileSource(file, speed=None, block=4, run=bytes(16), pattern=pattern)
    )
    assert isinstance(start, RunStart)
    assert (start.expected, start.scan.pattern, start.scan.dwell_s) == (10, pattern, 0.1)
    assert all(isinstance(item, SpectraBlock) for item in sent)
    assert [(item.first, item.n) for item in sent] == [(0, 4), (4, 4), (8, 2)]
    assert [item.seq for item in sent] == [1, 2, 3]
    assert (end.seq, end.spectra, end.status) == (4, 10, "success")
    rows = np.concatenate([item.counts["core_loss"] for item in sent])
    np.testing.assert_array_equal(rows, file.counts["core_loss"])


def test_nothing_comes_after_the_end():
    source = FileSource(spectrum_file(), speed=None)
    messages_until_end(source)
    assert source.receive(0.0) is None
    assert source.receive(0.001) is None


def test_blocks_are_due_when_their_dwell_times_are_over():
    clock = Clock()
    source = FileSource(spectrum_file(dwell_s=0.1), speed=2.0, block=4, clock=clock)
    assert isinstance(decode(source.receive(0.0).parts), RunStart)
    clock.now = 0.19
    assert source.receive(0.0) is None
    clock.now = 0.201
    assert decode(source.receive(0.0).parts).first == 0
    assert source.receive(0.0) is None
    clock.now = 0.6
    assert [decode(source.receive(0.0).parts).first for _ in range(2)] == [4, 8]
    assert isinstance(decode(source.receive(0.0).parts), RunEnd)


def test_heartbeats_between_slow_blocks():
    clock = Clock()
    source = FileSource(spectrum_file(pixels=2, dwell_s=1.2), block=1, clock=clock)
    source.receive(0.0)
    kinds = []
    for step in range(1, 25):
        clock.now = 0.1 * step
        while (received := source.receive(0.0)) is not None:
            kinds.append(decode(received.parts))
    assert [type(item) for item in kinds] == [
        Heartbeat,
        Heartbeat,
        SpectraBlock,
        Heartbeat,
        Heartbeat,
        SpectraBlock,
        RunEnd,
    ]
    beats = [(item.seq, item.spectra) for item in kinds if isinstance(item, Heartbeat)]
    assert beats == [(0, 0), (0, 0), (1, 1), (1, 1)]


def test_default_blocks_follow_the_pace():
    fast = FileSource(spectrum_file(pixels=1000, dwell_s=1e-3), speed=1.0)
    slow = FileSource(spectrum_file(pixels=10, dwell_s=0.5), speed=1.0)
    assert next(fast._blocks).n == 20
    assert next(slow._blocks).n == 1


def test_a_file_without_a_dwell_time_gets_one():
    source = FileSource(spectrum_file(dwell_s=None))
    assert source.start.scan.dwell_s == 0.01
    assert FileSource(spectrum_file(), dwell_s=0.25).start.scan.dwell_s == 0.25
    assert source.endpoint == "file:scan.hspy"


@pytest.mark.parametrize("options", [{"speed": 0}, {"speed": -1.0}, {"dwell_s": 0.0}])
def test_impossible_paces_are_refused(options):
    with pytest.raises(SourceError, match="above zero"):
        FileSource(spectrum_file(), **options)


def test_close_wakes_a_waiting_receive():
    source = FileSource(spectrum_file(dwell_s=1000.0))
    source.receive(0.0)
    got = []
    waiting = Thread(target=lambda: got.append(source.receive(60.0)))
    began = time.monotonic()
    waiting.start()
    source.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert got == [None]
    assert time.monotonic() - began < 10
