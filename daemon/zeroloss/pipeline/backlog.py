"""Catches up from the recording what could not be processed when it came."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Event, Thread

from zeroloss.recording import RecordedRun

from .batcher import Batcher
from .run import Run

log = logging.getLogger(__name__)

POLL_S = 0.1


class Backlog:
    """A thread that reads deferred spectra back and queues them behind the live ones."""

    def __init__(self, batcher: Batcher, runs: Callable[[], Iterable[Run]]) -> None:
        self._batcher = batcher
        self._runs = runs
        self._stop = Event()
        self._thread = Thread(target=self._loop, name="backlog", daemon=True)

    def start(self) -> None:
        """Start catching up."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is still deferred stays in the recording for the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(POLL_S):
            for run in self._runs():
                with run.lock:
                    wanted = list(run.deferred)
                if wanted:
                    self._catch_up(run, wanted)

    def _catch_up(self, run: Run, wanted: list[tuple[int, int]]) -> None:
        try:
            if not self._queue_all(run):
                return
        except Exception:
            log.exception("run %s: the recording cannot be read back", run.name)
        run.give_up_deferred(wanted, "no longer readable in the recording")

    def _queue_all(self, run: Run) -> bool:
        """Queue what is deferred; True when the recording was read to its end."""
        if run.folder is None:
            return True
        for received_ns, block in RecordedRun(run.folder).blocks():
            for work in run.take_deferred(block, received_ns):
                while not self._batcher.push_backlog(work, timeout_s=POLL_S):
                    if self._stop.is_set():
                        return False
            if self._stop.is_set() or not len(run.deferred):
                return False
        return True
