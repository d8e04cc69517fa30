"""Recordings and files of spectra as sources: the same messages as a live run, at any speed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from zeroloss.recording import RecordedRun, RecordingError
from zeroloss.recording.spectrum_files import Axis, SpectrumFile, read_spectrum_file, run_start
from zeroloss.scan import IntervalSet, ScanGeometry
from zeroloss.wire import RUN_BYTES, RunEnd, RunStart, SpectraBlock
from zeroloss.wire.limits import MAX_BUFFER_BYTES

from .readout import Readout, Timed, block_size


class RecordedSource:
    """A recorded run, played again as it was received; `speed` None is as fast as possible.

    It gets a new uid unless `same_run`. Spectra recorded twice are sent once; `ended` is how the
    recorded run ended, None where it did not. Raises `RecordingError`.
    """

    def __init__(self, path: Path, *, speed: float | None = 1.0, same_run: bool = False) -> None:
        self.recorded = RecordedRun(path)
        self._speed = speed
        self._schema = self.recorded.start.schema
        self.start: RunStart = self.recorded.start
        if not same_run:
            metadata = dict(self.start.metadata) | {"replay_of": self.recorded.run.hex()}
            self.start = replace(
                self.start,
                run=secrets.token_bytes(RUN_BYTES),
                t_ns=time.time_ns(),
                metadata=metadata,
            )
        self.ended: RunEnd | None = self.recorded.end()
        self.total = self.start.expected if self.ended is None else self.ended.spectra
        self._again: Iterator[SpectraBlock] = iter(())
        self._held: SpectraBlock | None = None

    def __iter__(self) -> Iterator[Timed]:
        """The recorded blocks in the order they came."""
        sent = IntervalSet()
        began_ns: int | None = None
        for received_ns, block in self.recorded.blocks():
            began_ns = received_ns if began_ns is None else began_ns
            if block.schema != self._schema:
                continue
            due_s = 0.0 if self._speed is None else (received_ns - began_ns) * 1e-9 / self._speed
            for begin, end in sent.add(block.first, block.first + block.n):
                yield Timed(begin, _part(block, begin, end), due_s)
        if not len(sent):
            raise RecordingError(f"{self.recorded.folder}: no spectra in this recording")

    def read(self, begin: int, end: int) -> Iterator[tuple[int, Readout]]:
        """The recorded spectra at positions [begin, end); those never recorded are left out.

        Reads on from where the last question ended, since gaps are asked for in rising order.
        """
        found = IntervalSet()
        pieces: list[tuple[int, Readout]] = []
        for turn in range(2):
            while len(found) < end - begin:
                if self._held is None:
                    self._held = next(self._again, None)
                    if self._held is None:
                        break
                block = self._held
                low, high = max(begin, block.first), min(end, block.first + block.n)
                if low < high and block.schema == self._schema:
                    for first, stop in found.add(low, high):
                        pieces.append((first, _part(block, first, stop)))
                if len(found) < end - begin:
                    self._held = None
            if len(found) == end - begin or turn:
                break
            # Not from here to the end: what was recorded late stands behind, so once from the top.
            self._again = (block for _, block in self.recorded.blocks())
            self._held = None
        yield from sorted(pieces, key=lambda piece: piece[0])


def _part(block: SpectraBlock, begin: int, end: int) -> Readout:
    return Readout(block.counts, block.pixels).part(begin - block.first, end - block.first)


class FileSource:
    """Files of spectra (several: several energy ranges of the same pixels) as a timed acquisition.

    `names` name the ranges; `axis` is that of text with counts only; `dwell_s` defaults to what
    the file says, and where it says nothing, or with `speed` None, spectra go as fast as possible.
    Raises `SpectrumFileError`.
    """

    ended: RunEnd | None = None

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        names: Sequence[str] | None = None,
        axis: Axis | None = None,
        dwell_s: float | None = None,
        speed: float | None = 1.0,
    ) -> None:
        self.file: SpectrumFile = read_spectrum_file(*paths, names=names, axis=axis)
        self.start = run_start(self.file, t_ns=time.time_ns(), dwell_s=dwell_s)
        self.total = self.file.pixels
        self._geometry = ScanGeometry(self.start.scan)
        dwell = self.start.scan.dwell_s
        self._pace_s = 0.0 if speed is None or dwell is None else dwell / speed

    def __iter__(self) -> Iterator[Timed]:
        """The spectra in the order of the scan."""
        widest = max(array.dtype.itemsize * array.shape[1] for array in self.file.counts.values())
        block = max(1, min(block_size(self._pace_s), MAX_BUFFER_BYTES // widest))
        for first in range(0, self.total, block):
            end = min(first + block, self.total)
            yield Timed(first, self._readout(first, end), end * self._pace_s)

    def read(self, begin: int, end: int) -> Iterator[tuple[int, Readout]]:
        """The spectra at positions [begin, end)."""
        end = min(end, self.total)
        if begin < end:
            yield begin, self._readout(begin, end)

    def _readout(self, begin: int, end: int) -> Readout:
        pixels = self._geometry.pixel_of(np.arange(begin, end))
        return Readout({name: array[pixels] for name, array in self.file.counts.items()})
