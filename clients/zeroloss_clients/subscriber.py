"""Live maps of a running daemon, as numpy arrays that grow while the beam scans.

with LiveMaps() as maps:
    maps.wait_for_run(timeout=60)
    for event in maps:
        print(event.run.detected, event.run["Fe"].share)
        if event.kind == "close":
            break
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import zmq

from zeroloss.wire import LedgerTotals

from ._follower import Follower
from ._live_run import LiveRun, MapView
from .spectrum import ANSWER_WITHIN_S, Span, SummedSpectra

log = logging.getLogger("zeroloss.clients")

EventKind = Literal["open", "update", "close"]
MAX_WAITING_EVENTS = 16
DEFAULT_MEMORY_BYTES = 4 << 30
Function = TypeVar("Function", bound=Callable[["MapEvent"], object])


@dataclass(frozen=True, slots=True)
class MapEvent:
    """Something happened to `run`: its maps were opened, changed at `pixels`, or are final.

    `pixels` are the flat indices (row x columns + column) changed since the event before; whoever
    is slow gets fewer events with more pixels, never a queue of old ones.
    """

    kind: EventKind
    run: LiveRun
    pixels: npt.NDArray[np.uint32]


class _Waiting:
    """What one consumer has not seen yet: at most one update of each run, of bounded size."""

    def __init__(self) -> None:
        self._events: deque[tuple[EventKind, LiveRun, npt.NDArray[np.bool_] | None]] = deque()

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, kind: str, run: LiveRun, pixels: npt.NDArray[np.uint32] | None) -> None:
        """Note an event; changes of the same run melt into one."""
        if kind == "update":
            dirty = next(
                (item[2] for item in self._events if item[0] == "update" and item[1] is run), None
            )
            if dirty is None:
                dirty = np.zeros(run.pixels, np.bool_)
                self._events.append(("update", run, dirty))
            if pixels is not None:
                dirty[pixels] = True
        else:
            self._events.append(("open" if kind == "open" else "close", run, None))
        while len(self._events) > MAX_WAITING_EVENTS:
            self._events.popleft()

    def take(self) -> MapEvent:
        """The oldest event."""
        kind, run, dirty = self._events.popleft()
        pixels = np.empty(0, np.uint32)
        if dirty is not None:
            pixels = np.flatnonzero(dirty).astype(np.uint32)
        return MapEvent(kind, run, pixels)


class LiveMaps:
    """Follows the maps of one daemon until closed; use it as a context manager.

    A late joiner gets the whole map at once; a restarted daemon, or messages that were lost on the
    way, are noticed and the maps fetched anew. Memory is bounded: the maps of the newest run (and
    of those still open) of at most `memory_bytes` each, and per consumer one bit per pixel.
    Raises `OSError` for an endpoint that cannot be used.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:5551",
        requests: str = "tcp://127.0.0.1:5552",
        *,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self._change = threading.Condition()
        self._consumers: list[_Waiting] = []
        self._newest: LiveRun | None = None
        self._closing = False
        self._follower = Follower(
            context or zmq.Context.instance(), endpoint, requests, memory_bytes, self._tell
        )
        self._threads = [self._thread("zeroloss-maps", self._follower.run)]

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        return thread

    def _tell(self, kind: str, run: LiveRun, pixels: npt.NDArray[np.uint32] | None) -> None:
        with self._change:
            if kind == "open":
                self._newest = run
            for consumer in self._consumers:
                consumer.add(kind, run, pixels)
            self._change.notify_all()

    def __enter__(self) -> LiveMaps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following; iterators end, the callback worker finishes what it is at."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._follower.stop.set()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    # -- waiting for what happens ---------------------------------------------------------------

    def wait_for_run(self, timeout: float | None = None, after: LiveRun | None = None) -> LiveRun:
        """The newest run, as soon as there is one (other than `after`).

        Who joins in the middle of a run gets it with everything that is mapped by then.

        Raises `TimeoutError` when none came within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._change:
            while self._newest is None or self._newest is after:
                left = 1.0 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(self._why_not(f"no run came within {timeout:g} s"))
                if self._closing:
                    raise RuntimeError("these live maps are closed")
                self._change.wait(min(left, 1.0))
            return self._newest

    def wait_for_close(self, timeout: float | None = None) -> LiveRun:
        """The newest run, as soon as its maps are final.

        Raises `TimeoutError` when they were not within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._change:
            while self._newest is None or self._newest.closed is None:
                left = 1.0 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(self._why_not(f"no run was finished within {timeout:g} s"))
                if self._closing:
                    raise RuntimeError("these live maps are closed")
                self._change.wait(min(left, 1.0))
            return self._newest

    def _why_not(self, sentence: str) -> str:
        if self._follower.problem:
            return f"{sentence}: {self._follower.problem}"
        return sentence if self.connected else f"{sentence}: the daemon cannot be heard"

    def __iter__(self) -> Iterator[MapEvent]:
        return self.events()

    def events(self, timeout: float | None = None) -> Iterator[MapEvent]:
        """Events from now on, beginning with the open run if there is one.

        Ends when the maps are closed, or when nothing happened for `timeout` seconds.
        """
        waiting = self._consumer()
        return self._events(waiting, timeout)

    def _consumer(self) -> _Waiting:
        waiting = _Waiting()
        with self._change:
            if self._newest is not None:
                run = self._newest
                waiting.add("open", run, None)
                waiting.add("update", run, np.arange(run.pixels, dtype=np.uint32))
                if run.closed is not None:
                    waiting.add("close", run, None)
            self._consumers.append(waiting)
        return waiting

    def _events(self, waiting: _Waiting, timeout: float | None) -> Iterator[MapEvent]:
        try:
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                with self._change:
                    if not waiting and not self._closing:
                        self._change.wait(0.25)
                    event = waiting.take() if waiting and not self._closing else None
                    if event is None and self._closing:
                        return
                if event is not None:
                    yield event
                    deadline = None if timeout is None else time.monotonic() + timeout
                elif deadline is not None and time.monotonic() > deadline:
                    return
        finally:
            with self._change:
                self._consumers.remove(waiting)

    def on_update(self, function: Function) -> Function:
        """Call `function(event)` for every event, in order, from one worker thread.

        An exception is logged and does not stop the next call. Can be used as a decorator.
        """
        events = self.events()

        def work() -> None:
            for event in events:
                try:
                    function(event)
                except Exception:
                    log.exception("a callback failed on %r of run %s", event.kind, event.run.run)

        self._threads.append(self._thread("zeroloss-maps-callback", work))
        return function

    # -- the newest run ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the daemon has been heard in the last three seconds."""
        return self._follower.connected

    @property
    def run(self) -> LiveRun | None:
        """The newest run, or None before the first."""
        return self._newest

    def latest(self) -> LiveRun:
        """The maps of the newest run: `latest()["Fe"]` is a `MapView`; `LookupError` without one.

        The run keeps growing; each view taken from it is a copy that does not.
        """
        if self._newest is None:
            raise LookupError("no run yet: use wait_for_run()")
        return self._newest

    def spectrum(
        self,
        *,
        what: Sequence[str] | str = (),
        pixels: npt.ArrayLike | None = None,
        rows: Span = None,
        columns: Span = None,
        timeout_s: float = ANSWER_WITHIN_S,
    ) -> SummedSpectra:
        """The sum of the spectra of some pixels of the newest run: see `LiveRun.spectrum`."""
        return self.latest().spectrum(
            what=what, pixels=pixels, rows=rows, columns=columns, timeout_s=timeout_s
        )

    def spread(self, name: str) -> MapView:
        """The uncertainty of a map of the newest run."""
        return self.latest().spread(name)

    @property
    def elements(self) -> tuple[str, ...]:
        """Every label that has a map in the newest run."""
        return self.latest().elements

    @property
    def detected(self) -> tuple[str, ...]:
        """Labels present in at least 1 % of the mapped pixels of the newest run."""
        return self.latest().detected

    @property
    def ledger(self) -> LedgerTotals:
        """The balance of the newest run."""
        return self.latest().ledger

    @property
    def lag_s(self) -> float:
        """Age of the newest mapped spectrum since the daemon received it."""
        return self.latest().lag_s

    @property
    def rate_hz(self) -> float:
        """Spectra mapped per second of late."""
        return self.latest().rate_hz

    @property
    def provenance(self) -> dict[str, object]:
        """What made the maps of the newest run."""
        return self.latest().provenance
