"""The queue between receiving and the models: bounded in bytes, newest kept, batches on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition

from .work import Work

MAX_PASSED_OVER = 256
"""Work of other runs that is looked past to fill a batch."""


class Batcher:
    """Live work first, backlog after it. Safe to use from several threads.

    A batch is whatever waits for one run when a worker asks, up to the run's own limit: no delay is
    added, and runs that come at the same time still fill their batches. When live work exceeds
    `capacity` bytes the oldest that is in a recording leaves to make room for the newest.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._changed = Condition()
        self._live: deque[Work] = deque()
        self._backlog: deque[Work] = deque()
        self._live_bytes = 0
        self._backlog_bytes = 0
        self._closed = False

    @property
    def nbytes(self) -> int:
        """Bytes that wait."""
        with self._changed:
            return self._live_bytes + self._backlog_bytes

    def __len__(self) -> int:
        """Spectra that wait."""
        with self._changed:
            return sum(map(len, self._live)) + sum(map(len, self._backlog))

    def offer(self, work: Work) -> bool:
        """Queue live work if it fits; False leaves it with the caller."""
        with self._changed:
            if self._live and self._live_bytes + work.nbytes > self.capacity:
                return False
            self._append_live(work)
            return True

    def push(self, work: Work) -> list[Work]:
        """Queue recorded work; returns the oldest recorded work that had to leave for it."""
        with self._changed:
            self._append_live(work)
            evicted: list[Work] = []
            unrecorded: list[Work] = []
            while self._live_bytes > self.capacity and len(self._live) > 1:
                oldest = self._live.popleft()
                if oldest.run.recording:
                    self._live_bytes -= oldest.nbytes
                    evicted.append(oldest)
                else:
                    unrecorded.append(oldest)
            self._live.extendleft(reversed(unrecorded))
            return evicted

    def push_backlog(self, work: Work, *, timeout_s: float) -> bool:
        """Queue old work as soon as the backlog holds less than half the capacity."""
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._closed or self._backlog_bytes <= self.capacity // 2, timeout_s
            )
            if not room or self._closed:
                return False
            self._backlog.append(work)
            self._backlog_bytes += work.nbytes
            self._changed.notify_all()
            return True

    def take(self, limit: Callable[[Work], int], timeout_s: float) -> list[Work]:
        """Work of one run, at most `limit(first)` spectra in all; empty after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._live or self._backlog, timeout_s)
            live = bool(self._live)
            queue = self._live if live else self._backlog
            if not queue:
                return []
            most = limit(queue[0])
            run = queue[0].run
            batch: list[Work] = []
            others: list[Work] = []
            taken = 0
            nbytes = 0
            while queue and taken < most and len(others) < MAX_PASSED_OVER:
                work = queue.popleft()
                if work.run is not run:
                    others.append(work)
                    continue
                nbytes += work.nbytes
                if taken + len(work) > most:
                    work, rest = work.split(most - taken)
                    nbytes -= rest.nbytes
                    queue.appendleft(rest)
                batch.append(work)
                taken += len(work)
            queue.extendleft(reversed(others))
            if live:
                self._live_bytes -= nbytes
            else:
                self._backlog_bytes -= nbytes
            self._changed.notify_all()
            return batch

    def wait_room(self, timeout_s: float) -> None:
        """Wait until some work was taken, at most `timeout_s`."""
        with self._changed:
            self._changed.wait(timeout_s)

    def close(self) -> None:
        """Wake everybody who waits; nothing is queued any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _append_live(self, work: Work) -> None:
        self._live.append(work)
        self._live_bytes += work.nbytes
        self._changed.notify_all()
