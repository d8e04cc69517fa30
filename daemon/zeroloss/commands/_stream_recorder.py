"""Records whatever runs come over a stream, and keeps the ledger of each."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np

from zeroloss.recording import RecordedRun, Recorder
from zeroloss.scan import Ledger, ScanGeometry
from zeroloss.sources import Received
from zeroloss.wire import Heartbeat, RunEnd, RunStart, SpectraBlock, WireError, decode

RATE_WINDOW_S = 2.0
SHOWN_GAPS = 5


class RunTally:
    """One run that is being recorded: its recorder and what has come of it."""

    def __init__(self, start: RunStart, recorder: Recorder) -> None:
        self.start = start
        self.recorder = recorder
        self.messages = 0
        self.end: RunEnd | None = None
        self.ledger = Ledger()
        self._rate_hz = 0.0
        self._counted = (time.monotonic(), 0)
        # A recording that goes on after an interruption already holds spectra.
        for _, block in RecordedRun(recorder.folder).blocks():
            self._account(block)

    @property
    def name(self) -> str:
        """The first digits of the run, and its title."""
        title = f" {self.start.title}" if self.start.title else ""
        return f"run {self.start.run[:4].hex()}{title}"

    @property
    def complete(self) -> bool:
        """Whether the source ended the run well and everything announced was recorded."""
        ended = self.end is not None and self.end.status == "success"
        return ended and self.ledger.totals().missed == 0

    def write(self, message: SpectraBlock | Heartbeat | RunEnd, received: Received) -> None:
        """Record one message and account for it."""
        self.recorder.write(received.parts, received.received_ns)
        self.messages += 1
        if isinstance(message, SpectraBlock):
            self._account(message)
        else:
            self.ledger.announce(message.spectra)
        if isinstance(message, RunEnd):
            self.end = message

    def line(self) -> str:
        """The state of this moment on one line."""
        totals = self.ledger.totals()
        expected = self.start.expected or ScanGeometry(self.start.scan).expected
        share = f"/{expected}" if expected else ""
        return (
            f"{self.name} · {self.messages} messages · {totals.processed}{share} spectra · "
            f"{self.recorder.bytes_written / 1e6:.1f} MB · {self._rate(totals.processed):.0f}/s · "
            f"missing {totals.missed}"
        )

    def summary(self) -> list[str]:
        """How the run ended and its balance, on a few lines."""
        totals = self.ledger.totals()
        how = "was not ended by its source" if self.end is None else f"ended: {self.end.status}"
        reason = f" ({self.end.reason})" if self.end is not None and self.end.reason else ""
        megabytes = self.recorder.bytes_written / 1e6
        balance = f"{totals.announced} = recorded {totals.processed} + missing {totals.missed}"
        lines = [
            f"{self.name} {how}{reason}",
            f"  spectra: announced {balance}; {totals.duplicates} came twice",
            f"  {self.messages} messages, {megabytes:.1f} MB in {self.recorder.folder}",
        ]
        gaps = [f"{begin}-{end - 1}" for begin, end in self.ledger.gaps()]
        if gaps:
            more = f" and {len(gaps) - SHOWN_GAPS} more" if len(gaps) > SHOWN_GAPS else ""
            lines.append(f"  missing positions: {', '.join(gaps[:SHOWN_GAPS])}{more}")
        return lines

    def _account(self, block: SpectraBlock) -> None:
        self.ledger.receive(block.first, block.first + block.n)
        self.ledger.process(np.arange(block.first, block.first + block.n, dtype=np.int64))

    def _rate(self, spectra: int) -> float:
        since, counted = self._counted
        elapsed = time.monotonic() - since
        if elapsed >= RATE_WINDOW_S or self._rate_hz == 0.0:
            self._rate_hz = (spectra - counted) / max(elapsed, 1e-3)
        if elapsed >= RATE_WINDOW_S:
            self._counted = (time.monotonic(), spectra)
        return self._rate_hz


class StreamRecorder:
    """Opens a recording for every run that comes; what cannot be recorded is counted."""

    def __init__(self, root: Path, *, segment_bytes: int, fsync_s: float) -> None:
        self._root = root
        self._segment_bytes = segment_bytes
        self._fsync_s = fsync_s
        self._open: dict[bytes, RunTally] = {}
        self.runs: list[RunTally] = []
        """Every run of this recorder, in the order they came."""
        self.faults: Counter[str] = Counter()
        """Messages that were not recorded, by the reason."""

    @property
    def open_runs(self) -> list[RunTally]:
        """The runs that were not ended yet."""
        return list(self._open.values())

    def handle(self, received: Received) -> None:
        """Record one message; `RecordingError` when the disk takes it no more."""
        try:
            message = decode(received.parts)
        except WireError as error:
            self.faults[f"{error.fault} messages"] += 1
            return
        if isinstance(message, RunStart):
            self._start(message, received.received_ns)
            return
        tally = self._open.get(message.run) if message.run else None
        if tally is not None and isinstance(message, SpectraBlock | Heartbeat | RunEnd):
            tally.write(message, received)
            if tally.end is not None:
                del self._open[tally.start.run]
                tally.recorder.close()
        elif isinstance(message, SpectraBlock):
            known = any(message.run == item.start.run for item in self.runs)
            when = "after the end of their run" if known else "of a run whose start was not heard"
            self.faults[f"blocks {when}"] += 1

    def close(self) -> None:
        """Close every recording that is still open."""
        for tally in self.open_runs:
            tally.recorder.close()
        self._open.clear()

    def _start(self, start: RunStart, received_ns: int) -> None:
        if any(start.run == run.start.run for run in self.runs):
            return  # the source repeats it for late listeners
        recorder = Recorder(
            self._root,
            start,
            segment_bytes=self._segment_bytes,
            fsync_s=self._fsync_s,
            received_ns=received_ns,
        )
        tally = RunTally(start, recorder)
        self._open[start.run] = tally
        self.runs.append(tally)
