"""Follows one daemon: live messages, snapshots where something was missed, restarts.

Every stored value carries the number of the message it came from, so live updates and snapshot
pages may arrive in any order. Live messages count up without a hole; where one is missing, or the
daemon's identity changes, the maps are fetched anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import zmq

from zeroloss.wire import (
    Gaps,
    Heartbeat,
    LedgerUpdate,
    MapClose,
    MapOpen,
    MapUpdate,
    Refusal,
    Snapshot,
    WireError,
    decode,
)

from ._live_run import LiveRun, MapTooLargeError
from ._requests import Requester

log = logging.getLogger("zeroloss.clients")

NO_RUN = bytes(16)
SILENT_AFTER_S = 3.0
MAX_RUNS = 4
MAX_RECEIVED = 64
RETRY_S = 0.5

Tell = Callable[[str, LiveRun, npt.NDArray[np.uint32] | None], None]
Published = MapOpen | MapUpdate | LedgerUpdate | MapClose | Heartbeat


class Follower:
    """Owns the sockets; `run()` is the body of one thread and ends when `stop` is set.

    `tell(kind, run, pixels)` is called for what changed: kinds open, update, close.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        requests: str,
        memory_bytes: int,
        tell: Tell,
    ) -> None:
        self._tell = tell
        self._memory_bytes = memory_bytes
        self._requests = (context, requests)
        self.stop = threading.Event()
        self.heard = 0.0
        self.problem = ""
        self.malformed = 0
        self.runs: OrderedDict[bytes, LiveRun] = OrderedDict()
        self._daemon = b""
        self._live: tuple[int, int] | None = None
        self._synced: int | None = None
        self._refused: deque[bytes] = deque(maxlen=64)
        self._wanted: deque[bytes | None] = deque([None])
        self._sync: _Sync | None = None
        self._retry_at = 0.0
        self._unanswered = False
        self._closes: dict[bytes, MapClose] = {}
        self._fetched: set[bytes] = set()
        self._subscriber = context.socket(zmq.SUB)
        # Messages beyond this are dropped by the daemon's socket; the hole is seen and mended.
        self._subscriber.setsockopt(zmq.RCVHWM, 1000)
        self._subscriber.setsockopt(zmq.LINGER, 0)
        self._subscriber.setsockopt(zmq.RECONNECT_IVL, 50)
        self._subscriber.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._subscriber.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        self._subscriber.subscribe(b"")
        self._monitor = self._subscriber.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._joined = False
        try:
            self._subscriber.connect(endpoint)
            self._requester = Requester(context, requests)
        except (zmq.ZMQError, OSError) as error:
            self._close_subscriber()
            raise OSError(f"cannot follow the maps at {endpoint}: {error}") from None

    @property
    def connected(self) -> bool:
        """Whether the daemon has been heard in the last three seconds."""
        return time.monotonic() - self.heard < SILENT_AFTER_S and self.heard > 0

    def run(self) -> None:
        """Follow until told to stop."""
        poller = zmq.Poller()
        try:
            while not self.stop.is_set():
                poller.register(self._subscriber, zmq.POLLIN)
                poller.register(self._requester.socket, zmq.POLLIN)
                poller.poll(50)
                asked = self._requester.socket
                self._watch_connection()
                self._receive()
                self._synchronise()
                self._announce_fetched()
                self._close_complete()
                if asked is not self._requester.socket:
                    poller.unregister(asked)
        finally:
            self._close_subscriber()
            self._requester.close()

    def _close_subscriber(self) -> None:
        self._subscriber.disable_monitor()
        self._monitor.close(linger=0)
        self._subscriber.close()

    # -- live messages ------------------------------------------------------------------------

    def _watch_connection(self) -> None:
        """After a broken connection nothing is known of what was missed, nor of whom we hear."""
        while self._monitor.poll(0):
            self._monitor.recv_multipart()
            if self._joined:
                self._live = self._synced = None
                self._fetch_again()
            self._joined = True

    def _receive(self) -> None:
        for _ in range(MAX_RECEIVED):
            try:
                message = decode(self._subscriber.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            except WireError as error:
                self.malformed += 1
                self.problem = str(error)
                continue
            self.heard = time.monotonic()
            if isinstance(message, MapOpen | MapUpdate | LedgerUpdate | MapClose):
                self._identify(message.daemon)
                self._number(message.seq, numbered=True)
                self._apply(message)
            elif isinstance(message, Heartbeat):
                self._number(message.seq, numbered=False)
                if message.run not in (NO_RUN, *self.runs, *self._refused):
                    self._want(message.run)

    def _identify(self, daemon: bytes) -> None:
        """Notice a daemon that is not the one before."""
        if daemon == self._daemon:
            return
        if self._daemon:
            log.info("the daemon was restarted: fetching the maps anew")
            self._live = self._synced = None
            self._refused.clear()
            self._fetch_again()
        self._daemon = daemon

    def _number(self, seq: int, *, numbered: bool) -> None:
        """Check that no live message was missed; a heartbeat carries the number of the last one."""
        begin = seq if numbered else seq + 1
        if self._live is None:
            self._live = (begin, seq)
            if self._synced is not None and begin > self._synced + 1:
                self._fetch_again()
        elif numbered and seq == self._live[1] + 1:
            self._live = (self._live[0], seq)
        elif seq != self._live[1]:
            # Ahead: something was missed. Behind: a daemon that counts anew.
            self._live = (begin, seq)
            self._fetch_again()

    def _apply(self, message: MapOpen | MapUpdate | LedgerUpdate | MapClose) -> None:
        if isinstance(message, MapOpen):
            self._open(message)
            return
        run = self.runs.get(message.run)
        if run is None or _opened_unheard(run, message):
            if self._sync is not None and self._sync.run in (None, message.run):
                self._sync.unseen = max(self._sync.unseen, message.seq)
            if message.run not in self._refused:
                self._want(message.run)
            return
        if isinstance(message, MapUpdate):
            try:
                changed = run.update(message)
            except ValueError as error:
                self._misfit(error)
                return
            self._changed(run, changed)
        elif isinstance(message, LedgerUpdate):
            run.account(message)
            self._changed(run, None)
        elif run.closed is None:
            self._closes[message.run] = message

    def _open(self, message: MapOpen, *, fetched: bool = False) -> LiveRun | None:
        known = self.runs.get(message.run)
        if known is not None:
            if known.opened.daemon == message.daemon and known.opened.seq >= message.seq:
                return known
            # By another daemon, or once more by this one: spectra have come after its close, which
            # is not that of the map from now on.
            self._closes.pop(message.run, None)
            if known.fits(message):
                known.restart(message)
                return known
        try:
            run = LiveRun(message, self._memory_bytes, self._requests)
        except MapTooLargeError as error:
            self.problem = str(error)
            log.error("%s", error)
            self._refused.append(message.run)
            return None
        self.runs.pop(message.run, None)
        for old in [key for key, item in self.runs.items() if item.closed is not None]:
            del self.runs[old]
        while len(self.runs) >= MAX_RUNS:
            self.runs.popitem(last=False)
        self.runs[message.run] = run
        if fetched:
            self._fetched.add(message.run)
        else:
            self._fetched.discard(message.run)
            self._tell("open", run, None)
        return run

    def _changed(self, run: LiveRun, pixels: npt.NDArray[np.uint32] | None) -> None:
        if run.run not in self._fetched:
            self._tell("update", run, pixels)

    def _announce_fetched(self) -> None:
        """Tell of runs that were under way when we joined, once all of their map is here."""
        for key in [key for key in self._fetched if not self._awaits(key)]:
            self._fetched.remove(key)
            run = self.runs.get(key)
            if run is not None:
                self._tell("open", run, None)
                self._tell("update", run, np.flatnonzero(run.coverage).astype(np.uint32))

    def _close_complete(self) -> None:
        """Close the maps whose end is known, as soon as nothing of them is missing any more."""
        for key in [key for key in self._closes if not self._awaits(key)]:
            message, run = self._closes.pop(key), self.runs.get(key)
            if run is not None and run.closed is None:
                run.close(message)
                self._tell("close", run, None)

    def _awaits(self, run: bytes) -> bool:
        if self._unanswered:
            return False
        asked = self._wanted if self._sync is None else (*self._wanted, self._sync.run)
        return None in asked or run in asked

    def _misfit(self, error: ValueError) -> None:
        self.malformed += 1
        self.problem = str(error)
        log.warning("an update that does not fit its map: %s", error)

    # -- snapshots ------------------------------------------------------------------------------

    def _want(self, run: bytes | None) -> None:
        if run not in self._wanted and (self._sync is None or self._sync.run != run):
            self._wanted.append(run)

    def _fetch_again(self) -> None:
        """Fetch what is unfinished, and whatever is newest."""
        self._sync = None
        self._retry_at = 0.0
        self._wanted.clear()
        self._wanted.extend(key for key, run in self.runs.items() if run.closed is None)
        self._wanted.append(None)

    def _synchronise(self) -> None:
        if self._sync is None:
            if not self._wanted or time.monotonic() < self._retry_at:
                return
            self._sync = _Sync(self._wanted.popleft())
            self._requester.ask("snapshot", self._sync.run, 0)
            return
        reply = self._requester.poll()
        if reply is not None:
            self._unanswered = False
        if isinstance(reply, Snapshot):
            self._take_page(self._sync, reply)
        elif isinstance(reply, Refusal):
            if self._sync.run is not None:
                self._refused.append(self._sync.run)
            elif self._live is not None and self._live[0] > 1:
                # There was no run yet; the one that came since went by before we could hear it.
                self._wanted.append(None)
                self._retry_at = time.monotonic() + RETRY_S
            self._sync = None
            self._synced = 0
        elif isinstance(reply, Gaps) or self._requester.overdue:
            self._unanswered = True
            self._wanted.appendleft(self._sync.run)
            self._sync = None
            self._retry_at = time.monotonic() + RETRY_S

    def _take_page(self, sync: _Sync, page: Snapshot) -> None:
        self.heard = time.monotonic()
        self._identify(page.opened.daemon)
        if self._sync is None:
            return
        if sync.run is None:
            sync.run = page.run
        run = self._open(page.opened, fetched=True)
        if run is None or page.run != sync.run:
            self._sync = None
            return
        if sync.unseen > page.seq:
            # Updates went by before their map was known: this page once more, now they are kept.
            sync.first_seq = None
            self._requester.ask("snapshot", run.run, 0)
            sync.unseen = -1
            return
        if page.opened.seq != run.opened.seq:
            # Of the map as it was closed, before it was opened once more.
            self._sync = None
            self._want(run.run)
            return
        if sync.first_seq is None:
            sync.first_seq = page.seq
        try:
            changed = run.page(page)
        except ValueError as error:
            self._misfit(error)
            self._sync = None
            return
        if run.closed is None:
            self._changed(run, changed)
            if page.closed is not None:
                self._closes[run.run] = page.closed
        position = page.first + len(page.coverage)
        if position < run.pixels:
            self._requester.ask("snapshot", run.run, position)
            return
        self._sync = None
        self._synced = sync.first_seq
        missed = self._live is not None and self._live[0] > sync.first_seq + 1
        if missed and run.closed is None:
            self._want(run.run)


def _opened_unheard(run: LiveRun, message: MapUpdate | LedgerUpdate | MapClose) -> bool:
    """Whether the message is of a later opening of this run than the one that is known."""
    if message.daemon != run.opened.daemon:
        return True
    return run.closed is not None and message.seq > run.closed.seq


class _Sync:
    """A snapshot on its way, page by page."""

    def __init__(self, run: bytes | None) -> None:
        self.run = run
        self.first_seq: int | None = None
        self.unseen = -1
