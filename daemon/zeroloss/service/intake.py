"""From a received message to recorded bytes, a balanced ledger and queued work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from zeroloss.config import Config
from zeroloss.maps import MapSizeError
from zeroloss.models import ModelSession
from zeroloss.outputs import Metrics
from zeroloss.pipeline import Batcher, Run, Work, choose_analyses
from zeroloss.recording import RecordedRun, Recorder, RecordingError, find_runs
from zeroloss.scan import AxisError
from zeroloss.sources import Received
from zeroloss.wire import Heartbeat, Message, RunEnd, RunStart, SpectraBlock, WireError, decode

from .closing import is_closed

log = logging.getLogger(__name__)

MAX_OPEN_RUNS = 8
REMEMBERED_RUNS = 1024


class Intake:
    """Opens runs, feeds them what comes, and queues their work; used from the ingest thread only.

    `on_open` is told of every new run. `recording_fault` is the sentence of a failed recording,
    until a later run can be recorded again.
    """

    def __init__(
        self,
        config: Config,
        batcher: Batcher,
        metrics: Metrics,
        on_open: Callable[[Run], None],
    ) -> None:
        self.runs: dict[bytes, Run] = {}
        self.sessions: Sequence[ModelSession] = ()
        self.recording_fault: str | None = None
        self._config = config
        self._batcher = batcher
        self._metrics = metrics
        self._on_open = on_open
        self._past: dict[bytes, None] = {}
        self._held: list[Work] = []
        metrics.recording("recording" if config.recording.record else "off")

    @property
    def blocked(self) -> bool:
        """Whether work waits for room in the queue; nothing may be received until it is placed."""
        return bool(self._held)

    def release(self, timeout_s: float) -> None:
        """Place waiting work if there is room within `timeout_s`."""
        if not self._batcher.offer(self._held[0]):
            self._batcher.wait_room(timeout_s)
            return
        self._held.pop(0)
        for run in self.runs.values():
            # The source could not be heard meanwhile: its silence was ours.
            run.last_message = time.monotonic()

    def handle(self, received: Received) -> None:
        """Take one message; what cannot be understood or used is counted and logged."""
        try:
            message = decode(received.parts)
        except WireError as error:
            self._metrics.malformed_messages.labels(error.fault).inc()
            for open_run in self.runs.values():
                open_run.malformed[error.fault] += 1
            log.warning("a message was refused: %s", error)
            return
        if isinstance(message, RunStart):
            self._start(message, received)
            return
        run = self.runs.get(message.run) if message.run else None
        if run is None or not isinstance(message, SpectraBlock | Heartbeat | RunEnd):
            self._foreign(message)
            return
        self._record(run, received)
        self._queue(run, _take(run, message, received.received_ns))

    def recover(self) -> None:
        """Open every run whose recording was never finished; its spectra wait in the recording."""
        for recorded in find_runs(self._config.recording.recordings):
            if not is_closed(recorded.folder):
                self._recover(recorded)

    def forget(self, run: Run) -> None:
        """The run is finished; what still comes of it is ignored."""
        self._past[run.start.run] = None
        while len(self._past) > REMEMBERED_RUNS:
            del self._past[next(iter(self._past))]
        self.runs.pop(run.start.run, None)

    def _start(self, start: RunStart, received: Received) -> None:
        if start.run in self.runs or start.run in self._past:
            return
        opened = self._open(start)
        if opened is not None:
            self._record(opened, received)

    def _open(self, start: RunStart) -> Run | None:
        try:
            run = Run(
                start,
                choose_analyses(start, self.sessions),
                sum_passes_bytes=self._config.queue.sum_passes_mb << 20,
            )
        except (AxisError, MapSizeError) as error:
            self._past[start.run] = None
            log.error("run %s is refused: %s", start.run[:4].hex(), error)
            return None
        run.recorder = self._recorder(start)
        run.recording = run.recorder is not None
        if len(self.runs) >= MAX_OPEN_RUNS:
            oldest = min(self.runs.values(), key=lambda item: item.last_message)
            oldest.give_up("abort", f"more than {MAX_OPEN_RUNS} runs at once")
        for analysis in run.analyses:
            analysis.session.warm_up(analysis.range.size)
        for info in run.packages:
            self._metrics.package(info)
        if not run.analyses:
            ranges = ", ".join(
                f"{item.name}: {item.size} channels of {item.scale_ev:g} eV "
                f"from {item.offset_ev:g} eV"
                for item in start.ranges
            )
            log.error("run %s: no model takes its %s ranges (%s)", run.name, start.modality, ranges)
        if run.newest_pass_only:
            log.warning(
                "run %s: the passes are not summed, the sums would exceed sum_passes_mb", run.name
            )
        self.runs[start.run] = run
        self._on_open(run)
        log.info("run %s opened: %s", run.name, start.title or "untitled")
        return run

    def _recover(self, recorded: RecordedRun) -> None:
        run = self._open(recorded.start)
        if run is None:
            return
        for item in recorded.messages():
            if isinstance(item.message, SpectraBlock | Heartbeat | RunEnd):
                for work in _take(run, item.message, item.received_ns):
                    run.defer(work)
        log.info("run %s recovered: %d spectra", run.name, run.totals().pending)

    def _foreign(self, message: Message) -> None:
        if message.run not in self._past:
            self._metrics.foreign_messages.inc()
            for open_run in self.runs.values():
                open_run.foreign += 1

    def _queue(self, run: Run, works: Sequence[Work]) -> None:
        for work in works:
            if run.recording:
                for evicted in self._batcher.push(work):
                    evicted.run.defer(evicted)
            elif self._held or not self._batcher.offer(work):
                self._held.append(work)

    def _recorder(self, start: RunStart) -> Recorder | None:
        config = self._config.recording
        if not config.record:
            return None
        try:
            recorder = Recorder(
                config.recordings,
                start,
                segment_bytes=config.segment_mb << 20,
                fsync_s=config.fsync_s,
            )
        except RecordingError as error:
            self._recording_failed(error)
            return None
        self.recording_fault = None
        self._metrics.recording("recording")
        return recorder

    def _record(self, run: Run, received: Received) -> None:
        if run.recorder is None or not run.recording:
            return
        try:
            run.recorder.write(received.parts, received.received_ns)
        except RecordingError as error:
            run.recording = False
            self._recording_failed(error)
        else:
            nbytes = sum(memoryview(part).nbytes for part in received.parts)
            self._metrics.recording_bytes.inc(nbytes)

    def _recording_failed(self, error: RecordingError) -> None:
        self.recording_fault = str(error)
        self._metrics.recording("failed")
        log.error("RECORDING STOPPED, maps go on: %s", error)


def _take(run: Run, message: SpectraBlock | Heartbeat | RunEnd, received_ns: int) -> list[Work]:
    if isinstance(message, SpectraBlock):
        return run.receive(message, received_ns)
    if isinstance(message, Heartbeat):
        run.heartbeat(message)
    else:
        run.finish(message)
    return []
