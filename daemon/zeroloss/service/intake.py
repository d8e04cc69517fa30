"""From a received message to recorded bytes, a balanced ledger and queued work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from zeroloss.config import Config, settings
from zeroloss.maps import MapSizeError
from zeroloss.models import InferenceError, ModelSession
from zeroloss.outputs import Metrics
from zeroloss.pipeline import Analysis, Batcher, Run, Work, choose_analyses
from zeroloss.recording import (
    FolderHeldError,
    FolderLock,
    Location,
    RecordedRun,
    Recorder,
    RecordingError,
    find_runs,
    prepare_folder,
)
from zeroloss.scan import AxisError
from zeroloss.sources import Received
from zeroloss.wire import Heartbeat, Message, RunEnd, RunStart, SpectraBlock, WireError, decode

from .closing import is_closed, reopen
from .past import PastRun, PastRuns

log = logging.getLogger(__name__)

MAX_OPEN_RUNS = 8
"""From so many open runs on, the one that was silent for longest is given up for a new one."""
MOST_OPEN_RUNS = 2 * MAX_OPEN_RUNS


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
        lock: FolderLock | None = None,
    ) -> None:
        self.runs: dict[bytes, Run] = {}
        self.sessions: Sequence[ModelSession] = ()
        """For the runs that begin from now on; replaced whole, from any thread."""
        self.recording_fault: str | None = None
        self._config = config
        self._given = settings(config.models.set)
        self._batcher = batcher
        self._metrics = metrics
        self._on_open = on_open
        self._past = PastRuns()
        self._retired: dict[bytes, Run] = {}
        self._refused: Counter[str] = Counter()
        self._held: list[Work] = []
        self._lock: FolderLock | None = None
        if lock is not None:
            self._keep(lock)
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
            run.silent_s = run.unchanged_s = 0.0

    def handle(self, received: Received) -> None:
        """Take one message; what cannot be understood or used is counted and logged."""
        try:
            message = decode(received.parts)
        except WireError as error:
            self._metrics.malformed_messages.labels(error.fault).inc()
            for open_run in self.runs.values():
                open_run.malformed[error.fault] += 1
            self._refused[error.fault] += 1
            count = self._refused[error.fault]
            if count & (count - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...: a flood must not fill logs
                log.warning("a message was refused (%d of this kind): %s", count, error)
            return
        if isinstance(message, RunStart):
            self._start(message, received)
            return
        run = self.runs.get(message.run) if message.run else None
        if run is None and isinstance(message, SpectraBlock):
            run = self._resume(message)
        if run is None or not isinstance(message, SpectraBlock | Heartbeat | RunEnd):
            self._foreign(message)
            return
        location = self._record(run, received)
        self._queue(run, _take(run, message, received.received_ns, location))

    def open_runs(self) -> list[Run]:
        """The runs that are fed; safe on any thread."""
        return list(self.runs.values())

    def claim(self) -> None:
        """Hold the recordings folder against other writers; `FolderHeldError` where one holds it.

        A folder that cannot be written is told, and tried again when a run is to be recorded.
        """
        try:
            self._hold()
            prepare_folder(self._config.recording.recordings)
        except FolderHeldError:
            raise
        except RecordingError as error:
            self._recording_failed(error)

    def close(self) -> None:
        """Let others have the recordings folder; every recorder must be closed."""
        if self._lock is not None:
            self._lock.release()

    def recover(self, stop: Event) -> None:
        """Open every run whose recording was never finished; its spectra wait in the recording."""
        unfinished = [
            recorded
            for recorded in find_runs(self._config.recording.recordings)
            if not is_closed(recorded.folder)
        ]
        for recorded in unfinished[:-MAX_OPEN_RUNS]:
            log.warning(
                "%s is not finished; it waits for another start, the newest %d come first",
                recorded.folder,
                MAX_OPEN_RUNS,
            )
        for recorded in unfinished[-MAX_OPEN_RUNS:]:
            if stop.is_set():
                return
            if recorded.run in self.runs:
                log.warning("%s holds a run that another folder holds too", recorded.folder)
                continue
            run = self._open(recorded.start)
            if run is not None:
                # Also where no more can be recorded: what is there can be read.
                run.folder = recorded.folder
                self._read_back(run, recorded.folder)

    def retire(self, run: Run) -> None:
        """The run is being closed; what still comes of it is ignored."""
        self._retired[run.start.run] = self.runs.pop(run.start.run)

    def forget(self, run: Run) -> None:
        """The retired run is closed, until something comes that has it go on."""
        del self._retired[run.start.run]
        self._past.add(PastRun.closed(run))

    def _start(self, start: RunStart, received: Received) -> None:
        run = self.runs.get(start.run)
        if run is not None:
            run.heard()
            return
        past = self._past.get(start.run)
        if start.run in self._retired or (past is not None and not past.given_up):
            return
        opened = self._open_with_past(start)
        if opened is not None:
            self._record(opened, received)

    def _resume(self, block: SpectraBlock) -> Run | None:
        """The closed run of this block, opened again where the block fills one of its holes.

        Not where another run would have to be given up for it.
        """
        past = self._past.get(block.run)
        if past is None or len(self.runs) >= MAX_OPEN_RUNS or not past.lacks(block):
            return None
        run = self._open_with_past(past.start)
        if run is not None:
            log.info("run %s goes on: spectra come that it was closed without", run.name)
        return run

    def _open_with_past(self, start: RunStart) -> Run | None:
        """A run with all that was recorded of it earlier."""
        run = self._open(start)
        if run is None:
            return None
        past = self._past.pop(start.run)
        if run.folder is None and past is not None:
            # No more can be recorded, but what is there can be read.
            run.folder = past.folder
        if run.folder is not None:
            self._read_back(run, run.folder)
        return run

    def _open(self, start: RunStart) -> Run | None:
        if len(self.runs) >= MOST_OPEN_RUNS:
            log.error("run %s has to wait: %d runs are open", start.run.hex()[:8], len(self.runs))
            return None
        try:
            run = self._new_run(start)
        except (AxisError, MemoryError) as error:
            self._past.add(PastRun(start))
            log.error("run %s is refused: %s", start.run[:4].hex(), error)
            return None
        run.recorder = self._recorder(start)
        run.recording = run.recorder is not None
        run.folder = None if run.recorder is None else run.recorder.folder
        if len(self.runs) >= MAX_OPEN_RUNS:
            going = [item for item in self.runs.values() if not item.ended]
            if going:
                silent = max(going, key=lambda item: item.silent_s)
                silent.give_up("abort", f"more than {MAX_OPEN_RUNS} runs at once")
        for info in run.packages:
            self._metrics.package(info)
        if run.newest_pass_only:
            log.warning(
                "run %s: the passes are not summed, the sums would exceed sum_passes_mb", run.name
            )
        self.runs[start.run] = run
        self._on_open(run)
        log.info("run %s opened: %s", run.name, start.title or "untitled")
        return run

    def _new_run(self, start: RunStart) -> Run:
        """A run with its models warm; `AxisError` where its calibration cannot be right.

        One that cannot be mapped is still received and recorded, and its spectra are rejected.
        """
        queue = self._config.queue
        try:
            run = Run(
                start,
                self._warm_analyses(start),
                sum_passes_bytes=queue.sum_passes_mb << 20,
                map_bytes=queue.map_mb << 20,
            )
        except (MapSizeError, MemoryError) as error:
            log.error("run %s is recorded without maps: %s", start.run[:4].hex(), error)
            return Run(start, (), sum_passes_bytes=0, unmapped="the map is too large")
        if not run.analyses:
            ranges = ", ".join(
                f"{item.name}: {item.size} channels of {item.scale_ev:g} eV "
                f"from {item.offset_ev:g} eV"
                for item in start.ranges
            )
            log.error("run %s: no model takes its %s ranges (%s)", run.name, start.modality, ranges)
        return run

    def _warm_analyses(self, start: RunStart) -> list[Analysis]:
        """The models of a run, each tried on spectra of its size; those that fail are left out."""
        warm = []
        chosen = choose_analyses(start, self.sessions, self._given, self._config.models.use)
        shifting = {item.range.name for item in chosen if item.manifest.shifts_axis is not None}
        for analysis in chosen:
            low_loss = analysis.low_loss
            try:
                analysis.session.warm_up(
                    analysis.range.size,
                    low_loss_channels=None if low_loss is None else low_loss.size,
                    own_axes=bool(shifting - {analysis.range.name}),
                )
            except InferenceError as error:
                log.error("run %s goes without a model: %s", start.run[:4].hex(), error)
            else:
                warm.append(analysis)
        return warm

    def _read_back(self, run: Run, folder: Path) -> None:
        """Take what was recorded of this run earlier; its spectra wait in the recording."""
        try:
            for item in RecordedRun(folder).messages():
                if isinstance(item.message, SpectraBlock | Heartbeat | RunEnd):
                    for work in _take(run, item.message, item.received_ns, item.location):
                        run.defer(work)
            reopen(folder)
        except OSError as error:
            log.error("run %s could not be recovered whole: %s", run.name, error)
        pending = run.totals().pending
        if pending:
            log.info("run %s recovered: %d spectra", run.name, pending)

    def _foreign(self, message: Message) -> None:
        if message.run not in self._past and message.run not in self._retired:
            self._metrics.foreign_messages.inc()
            for open_run in self.runs.values():
                open_run.foreign += 1
        elif isinstance(message, SpectraBlock):
            self._metrics.late_blocks.inc()

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
            self._hold()
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

    def _hold(self) -> None:
        if self._lock is None:
            self._keep(FolderLock(self._config.recording.recordings))

    def _keep(self, lock: FolderLock) -> None:
        self._lock = lock
        if lock.fault is not None:
            log.warning("%s", lock.fault)

    def _record(self, run: Run, received: Received) -> Location | None:
        if run.recorder is None or not run.recording:
            return None
        try:
            location = run.recorder.write(received.parts, received.received_ns)
        except RecordingError as error:
            run.recording = False
            self._recording_failed(error)
            return None
        nbytes = sum(memoryview(part).nbytes for part in received.parts)
        self._metrics.recording_bytes.inc(nbytes)
        return location

    def _recording_failed(self, error: RecordingError) -> None:
        self.recording_fault = str(error)
        self._metrics.recording("failed")
        log.error("RECORDING STOPPED, maps go on: %s", error)


def _take(
    run: Run,
    message: SpectraBlock | Heartbeat | RunEnd,
    received_ns: int,
    location: Location | None,
) -> list[Work]:
    if isinstance(message, SpectraBlock):
        return run.receive(message, received_ns, location)
    if isinstance(message, Heartbeat):
        run.heartbeat(message)
    else:
        run.finish(message)
    return []
