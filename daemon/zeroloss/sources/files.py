"""A file of spectra played inside the daemon as if it were being acquired now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event

from zeroloss.recording.spectrum_files import SpectrumFile, blocks, run_start
from zeroloss.wire import Heartbeat, Message, Pattern, RunEnd, SpectraBlock, encode

from ._source import Received, SourceError

DEFAULT_DWELL_S = 0.01
"""Time per pixel where the file does not tell."""
HEARTBEAT_S = 0.5
BLOCK_S = 0.02
"""A timed acquisition sends what it recorded within this time as one block."""
MAX_BLOCK = 256
FAST_BLOCK = 64


class FileSource:
    """Plays one run: its start, blocks of spectra when their dwell times are over, and its end.

    `speed` divides the dwell times (2: twice as fast); None sends everything as fast as it is
    received. `dwell_s` overrides the dwell time of the file, `block` the spectra per block.
    Heartbeats come every half second between blocks, and the run is over when `receive` has
    returned the run end. `close` may be called from another thread.
    """

    def __init__(
        self,
        file: SpectrumFile,
        *,
        speed: float | None = 1.0,
        dwell_s: float | None = None,
        block: int | None = None,
        pattern: Pattern = "raster",
        run: bytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if speed is not None and not speed > 0:
            raise SourceError(f"a speed of {speed:g}: expected a factor above zero")
        if dwell_s is not None and not dwell_s > 0:
            raise SourceError(f"a dwell time of {dwell_s:g} s: expected a time above zero")
        self.endpoint = f"file:{file.path.name}"
        dwell = dwell_s or file.dwell_s or DEFAULT_DWELL_S
        self._pace_s = 0.0 if speed is None else dwell / speed
        if block is None:
            in_time = FAST_BLOCK if speed is None else round(BLOCK_S / self._pace_s)
            block = max(1, min(MAX_BLOCK, in_time))
        self.start = run_start(file, run=run, t_ns=time.time_ns(), dwell_s=dwell, pattern=pattern)
        self._blocks = blocks(file, self.start, block)
        self._total = file.pixels
        self._clock = clock
        self._began: float | None = None
        self._sent_at = 0.0
        self._seq = 0
        self._spectra = 0
        self._next: SpectraBlock | None = None
        self._ended = False
        self._closed = Event()

    def receive(self, timeout_s: float) -> Received | None:
        """The next message, or None when none is due within `timeout_s`."""
        if self._closed.is_set():
            return None
        if self._began is None:
            self._began = self._clock()
            self._next = next(self._blocks, None)
            return self._received(self.start)
        if self._ended:
            self._closed.wait(timeout_s)
            return None
        if self._next is None:
            self._ended = True
            return self._received(self._end())
        return self._timed(self._next, timeout_s)

    def close(self) -> None:
        """End the play; a waiting `receive` returns."""
        self._closed.set()

    def _timed(self, block: SpectraBlock, timeout_s: float) -> Received | None:
        assert self._began is not None
        due = self._began + self._pace_s * (block.first + block.n)
        beat = self._sent_at + HEARTBEAT_S
        wait_s = min(due, beat) - self._clock()
        if wait_s > 0 and self._closed.wait(min(wait_s, timeout_s)):
            return None
        now = self._clock()
        if due <= now:
            self._seq, self._spectra = block.seq, self._spectra + block.n
            self._next = next(self._blocks, None)
            return self._received(replace(block, t_ns=time.time_ns()))
        if beat <= now:
            return self._received(
                Heartbeat(
                    run=self.start.run, seq=self._seq, t_ns=time.time_ns(), spectra=self._spectra
                )
            )
        return None

    def _end(self) -> RunEnd:
        return RunEnd(
            run=self.start.run, seq=self._seq + 1, t_ns=time.time_ns(), spectra=self._total
        )

    def _received(self, message: Message) -> Received:
        self._sent_at = self._clock()
        return Received(encode(message), time.time_ns())
