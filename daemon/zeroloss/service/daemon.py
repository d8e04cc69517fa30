"""One daemon on one spectrum source: its threads, its beginning and its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from threading import Event, Lock

from zeroloss import __version__
from zeroloss.config import Config
from zeroloss.maps import Closing
from zeroloss.models import ModelSession
from zeroloss.outputs import HealthServer, Metrics, Publisher
from zeroloss.pipeline import Backlog, Batcher, LocalExecutor, Run, Work
from zeroloss.recording import FolderLock, RecordingError
from zeroloss.sources import Source

from .closing import Finished, close_run
from .intake import Intake
from .library import ModelLibrary

log = logging.getLogger(__name__)

TICK_S = 0.05
LISTENED_S = 0.5
"""Most of the time spent listening between two ticks that counts: a machine may fall asleep."""


class Daemon:
    """Receives, records, accounts, maps and publishes.

    `start` makes it ready: models loaded and warm, interrupted runs recovered, maps published.
    `serve` then works until `stop`, on whatever thread calls it. `close` ends it; the source stays
    its owner's to close.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        *,
        lock: FolderLock | None = None,
        on_finished: Callable[[Finished], None] | None = None,
    ) -> None:
        """Bind every socket; raises the typed error of whatever cannot be bound.

        `lock` holds the folder of recordings where its owner took it before the source, and is
        released with the daemon; otherwise `start` takes the folder.
        """
        self.config = config
        self.source = source
        self.metrics = Metrics()
        self.metrics.build(f"zeroloss {__version__}", config.sha256)
        self._on_finished = on_finished
        self._ready = Event()
        self._stop = Event()
        self._some_finished = Event()
        self._closing: dict[bytes, tuple[Run, Future[None]]] = {}
        self._closer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="closer")
        self._serving = Lock()
        self._ticked = time.monotonic()
        self._listened_s = 0.0
        self._batcher = Batcher(config.queue.queue_mb << 20)
        self._executor = LocalExecutor(
            self._batcher,
            workers=config.models.workers,
            latency_s=config.queue.latency_ms / 1000,
            observe=self._observe_batch,
        )
        remote = config.stream.allow_remote
        self.publisher = Publisher(
            maps=config.outputs.maps,
            requests=config.outputs.requests,
            software=f"zeroloss {__version__}",
            config_sha256=config.sha256,
            rate_hz=config.outputs.rate_hz,
            metrics=self.metrics,
            allow_remote=remote,
        )
        self._intake = Intake(config, self._batcher, self.metrics, self.publisher.open, lock)
        self._library = ModelLibrary(
            config.models,
            on_change=self._use,
            on_swap=lambda name: self.metrics.model_swaps.labels(name).inc(),
        )
        self._backlog = Backlog(self._batcher, self.open_runs)
        host, _, port = config.outputs.http.rpartition(":")
        try:
            self.http = HealthServer(
                host, int(port), self.metrics, self.health, allow_remote=remote
            )
        except OSError:
            self.publisher.close()
            raise

    def start(self) -> None:
        """Load and warm the models, recover interrupted runs, begin to publish.

        Raises `FolderHeldError` when another process records into the recordings folder, and the
        typed error of a model in `use` that cannot run.
        """
        if self.config.recording.record:
            self._intake.claim()
        self._library.load()
        self.publisher.start()
        self._executor.start()
        if self.config.recording.record:
            self._intake.recover(self._stop)
        self._backlog.start()
        self._ready.set()

    def serve(self, *, once: bool = False) -> None:
        """Receive and map until `stop`; with `once` until a run is finished and none is open."""
        with self._serving:
            while not self._stop.is_set() and not (once and self._all_finished()):
                if self._intake.blocked:
                    self._intake.release(TICK_S)
                else:
                    began = time.monotonic()
                    received = self.source.receive(TICK_S)
                    self._listened_s += time.monotonic() - began
                    if received is not None:
                        self._intake.handle(received)
                if time.monotonic() >= self._ticked + TICK_S:
                    self._tick()

    def open_runs(self) -> list[Run]:
        """The runs whose maps are not finished."""
        closing = [run for run, _ in list(self._closing.values())]
        return [*self._intake.open_runs(), *(run for run in closing if run.closing is None)]

    def _all_finished(self) -> bool:
        return self._some_finished.is_set() and not self.open_runs()

    @property
    def recording_fault(self) -> str | None:
        """Why nothing is recorded; None while all is well."""
        return self._intake.recording_fault

    def stop(self) -> None:
        """Ask `serve` to return; safe in a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Stop everything; unfinished runs stay in their recordings and go on at the next start."""
        self.stop()
        with self._serving:
            self._backlog.close()
        self._library.close()
        self._executor.close()
        self._closer.shutdown(wait=True)
        for run in self.open_runs():
            if run.recorder is not None:
                try:
                    run.recorder.close()
                except RecordingError as error:
                    log.error("run %s: %s", run.name, error)
        self._intake.close()
        self.publisher.close()
        self.http.close()

    def health(self) -> dict[str, object]:
        """What /health tells; `status` is ok, starting, or the reason why not all is well."""
        fault = self.recording_fault
        status = "ok" if self._ready.is_set() else "starting"
        if fault is not None:
            status = "recording stopped"
        if self._executor.fault is not None:
            status = "model failed"
        if self.publisher.failure is not None:
            status = "publisher stopped"
        return {
            "status": status,
            "software": f"zeroloss {__version__}",
            "config_sha256": self.config.sha256,
            **self._library.health(),
            "publisher": self.publisher.failure,
            "recording": {"enabled": self.config.recording.record, "fault": fault},
            "queue": {"spectra": len(self._batcher), "bytes": self._batcher.nbytes},
            "failed_batches": self._executor.failures,
            "model_fault": self._executor.fault,
            "runs": [
                {
                    "run": run.start.run.hex(),
                    "title": run.start.title,
                    "ended": run.ended,
                    "models": {info.name: info.sha256 for info in run.packages},
                    "ledger": asdict(run.totals()),
                    "lag_s": run.lag_s(),
                    "rate_hz": run.rate_hz(),
                }
                for run in self.open_runs()
            ],
        }

    def _use(self, sessions: tuple[ModelSession, ...]) -> None:
        # One assignment: a run that begins meanwhile has either all of these or all of those.
        self._intake.sessions = sessions

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        # What could not be heard while the daemon was busy, or the machine asleep, is no silence.
        listened_s, self._listened_s = min(self._listened_s, LISTENED_S), 0.0
        settings = self.config.runs
        for run in self._intake.open_runs():
            self.metrics.ledger(run.start.run, run.totals())
            self.metrics.lag_seconds.set(run.lag_s())
            self.metrics.mapped_rate.set(run.rate_hz())
            if self._intake.blocked:
                continue
            run.listened(listened_s)
            if not run.ended and run.silent_s > settings.idle_s:
                run.give_up("abort", f"no message for {settings.idle_s:g} s")
            if run.settled(settings.repair_s, settings.idle_s):
                self._intake.retire(run)
                self._closing[run.start.run] = run, self._closer.submit(self._finish, run)
        for run, closed in list(self._closing.values()):
            if closed.done():
                self._intake.forget(run)
                del self._closing[run.start.run]

    def _finish(self, run: Run) -> None:
        try:
            finished = close_run(
                run,
                detect_share=self.config.runs.detect_share,
                config_sha256=self.config.sha256,
            )
        except Exception as error:
            log.exception("run %s could not be closed", run.name)
            run.close(Closing(status="fail", reason=f"the map could not be finished: {error}"))
            finished = Finished(run, None)
        self.metrics.close_ledger(run.start.run, run.totals())
        if self._on_finished is not None:
            self._on_finished(finished)
        self._some_finished.set()

    def _observe_batch(self, batch: Sequence[Work], seconds: float) -> None:
        spectra = sum(map(len, batch))
        waited = (time.time_ns() - batch[0].received_ns) * 1e-9 - seconds
        for info in batch[0].run.packages:
            self.metrics.batch(info.name, spectra, {})
        for (package, reason), count in batch[0].run.models.take_unanswered().items():
            self.metrics.unanswered(package, reason, count)
        self.metrics.stage("wait", max(0.0, waited))
        self.metrics.stage("process", seconds)
        self.metrics.queue_bytes.set(self._batcher.nbytes)
