"""The publisher: map updates on XPUB, snapshots and other answers on ROUTER, from one thread."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import deque
from threading import Event, Thread

import zmq

from zeroloss.wire import (
    DAEMON_BYTES,
    RUN_BYTES,
    Gaps,
    Heartbeat,
    MapOpen,
    Message,
    Part,
    Refusal,
    Request,
    WireError,
    decode,
    encode,
)
from zeroloss.wire.limits import MAX_GAPS, MAX_HEADER_BYTES

from .answers import Answers
from .endpoints import bind, release
from .live import LiveRun
from .metrics import Metrics
from .run import PublishedRun

log = logging.getLogger(__name__)

MAPS_SNDHWM = 32
"""Messages queued for one subscriber; beyond that it misses some, sees the gap in `seq` and asks
for a snapshot. With updates of 4 MiB at most 128 MiB per subscriber."""
REPLIES_SNDHWM = 4
"""Answers queued for one asking peer: at most 64 MiB; further ones are dropped and counted."""
REQUESTS_PER_TURN = 32
HEARTBEAT_S = 0.5
TURN_S = 0.05
"""Longest wait before new runs and the call to stop are looked at."""
PEER_TIMEOUT_S = 30
"""A peer that is silent on the transport for so long is disconnected and its queue released."""
LINGER_MS = 1000
NO_RUN = bytes(RUN_BYTES)


class Publisher:
    """Publishes runs to subscribers and answers requests, from `start` to `close`.

    Subscribers have no state here: what changed is kept as dirty flags of the map, once for all of
    them. Raises `EndpointError` when an address is taken, malformed, or reachable from other
    machines without `allow_remote`.
    """

    def __init__(
        self,
        *,
        maps: str,
        requests: str,
        software: str,
        config_sha256: str,
        rate_hz: float = 20.0,
        keep_runs: int = 4,
        metrics: Metrics | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        allow_remote: bool = False,
    ) -> None:
        """Bind both sockets.

        `maps` and `requests` are addresses like tcp://127.0.0.1:5551, `rate_hz` the updates per
        second of a run, `keep_runs` how many of the newest runs are kept for snapshots.
        """
        self.metrics = metrics or Metrics()
        self.daemon = secrets.token_bytes(DAEMON_BYTES)
        self.failure: str | None = None
        """Why the publisher stopped by itself; None while all is well."""
        self._software = software
        self._config_sha256 = config_sha256
        self._interval_s = 1.0 / rate_hz
        self._keep_runs = keep_runs
        self._seq = 0
        self._opening: deque[PublishedRun] = deque()
        self._runs: dict[bytes, LiveRun] = {}
        self._heartbeat_at = 0.0
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="zeroloss-publisher", daemon=True)

        context = context or zmq.Context.instance()
        self._maps = _socket(context, zmq.XPUB, MAPS_SNDHWM)
        self._requests = _socket(context, zmq.ROUTER, REPLIES_SNDHWM)
        self._requests.setsockopt(zmq.ROUTER_MANDATORY, 1)
        try:
            self.maps_endpoint = bind(self._maps, "maps", maps, allow_remote)
            self.requests_endpoint = bind(self._requests, "requests", requests, allow_remote)
        except OSError:
            self._maps.close(0)
            self._requests.close(0)
            raise
        self._answers = Answers(context, self.metrics)

    @property
    def seq(self) -> int:
        """Number of the last published message."""
        return self._seq

    def open(self, run: PublishedRun) -> None:
        """Publish this run from now on, until it is closing and all of it is out."""
        self._opening.append(run)

    def start(self) -> None:
        """Begin to publish and to answer."""
        self._answers.start()
        self._thread.start()

    def close(self) -> None:
        """Publish what is due, stop, and release both addresses; a second call does nothing."""
        if self._maps.closed:
            return
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._answers.close()
        release(self._maps, self.maps_endpoint, LINGER_MS)
        release(self._requests, self.requests_endpoint, 0)

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self.failure = f"the publisher stopped: {error!r}"
            log.exception("the publisher stopped")

    def _loop(self) -> None:
        poller = zmq.Poller()
        poller.register(self._maps, zmq.POLLIN)
        poller.register(self._requests, zmq.POLLIN)
        poller.register(self._answers.bell, zmq.POLLIN)
        tick = time.monotonic()
        while not self._stopping.is_set():
            wait_ms = math.ceil(1e3 * min(TURN_S, max(0.0, tick - time.monotonic())))
            ready = dict(poller.poll(wait_ms))
            self._take_new_runs()
            if self._maps in ready:
                self._drain_subscriptions()
            if self._requests in ready:
                self._serve_requests()
            if self._answers.bell in ready:
                for peer, answer in self._answers.take():
                    self._reply(peer, answer)
            now = time.monotonic()
            if now >= tick:
                self._publish_due(now)
                tick = now + self._interval_s
            if now - self._heartbeat_at >= HEARTBEAT_S:
                self._heartbeat_at = now
                self._beat()
        self._take_new_runs()
        self._publish_due(time.monotonic())
        # A finished map is published to its end, however much of it is still to come.
        while any(live.closed is None and live.run.closing for live in self._runs.values()):
            self._publish_due(time.monotonic())

    def _take_new_runs(self) -> None:
        while self._opening:
            run = self._opening.popleft()
            opened = MapOpen(
                run=run.start.run,
                seq=self._seq + 1,
                t_ns=time.time_ns(),
                daemon=self.daemon,
                start=run.start,
                packages=run.packages,
                software=self._software,
                config_sha256=self._config_sha256,
            )
            self._runs.pop(opened.run, None)
            self._runs[opened.run] = LiveRun(run, opened)
            self._publish(opened)
            finished = [key for key, live in self._runs.items() if live.closed is not None]
            for key in finished[: max(0, len(self._runs) - self._keep_runs)]:
                del self._runs[key]

    def _publish_due(self, now: float) -> None:
        began = self._seq
        for live in self._runs.values():
            if live.closed is None:
                for message in live.due(self._seq + 1, now):
                    self._publish(message)
        if self._seq != began:
            self.metrics.stage("publish", time.monotonic() - now)

    def _beat(self) -> None:
        beating = False
        for key, live in self._runs.items():
            if live.closed is None:
                beating = True
                self._send_heartbeat(key, live.run.totals().processed)
        if not beating:
            self._send_heartbeat(NO_RUN, 0)

    def _send_heartbeat(self, run: bytes, spectra: int) -> None:
        beat = Heartbeat(run=run, seq=self._seq, t_ns=time.time_ns(), spectra=spectra)
        self._send(beat)

    def _publish(self, message: Message) -> None:
        self._seq += 1
        if message.seq != self._seq:
            raise RuntimeError(f"message number {message.seq} published as {self._seq}")
        self._send(message)

    def _send(self, message: Message) -> None:
        frames = encode(message)
        # An XPUB never blocks: for a subscriber whose queue is full the message is left out.
        self._maps.send_multipart(frames, copy=False)
        self.metrics.published(message.KIND, _nbytes(frames))

    def _drain_subscriptions(self) -> None:
        while True:
            try:
                self._maps.recv(zmq.NOBLOCK)
            except zmq.Again:
                return

    def _serve_requests(self) -> None:
        for _ in range(REQUESTS_PER_TURN):
            try:
                peer, *frames = self._requests.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            answer = self._answer(peer, frames)
            if answer is not None:
                self._reply(peer, answer)

    def _reply(self, peer: bytes, answer: Message) -> None:
        frames = encode(answer)
        try:
            self._requests.send_multipart([peer, *frames], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.metrics.replies_dropped.inc()
        else:
            self.metrics.replied(answer.KIND, _nbytes(frames))

    def _answer(self, peer: bytes, frames: list[bytes]) -> Message | None:
        """The answer, or None when it is to come."""
        now = time.time_ns()
        try:
            request = decode(frames)
        except WireError as error:
            self.metrics.malformed_requests.labels(error.fault).inc()
            return Refusal(ticket=0, t_ns=now, reason=str(error)[:1000])
        if not isinstance(request, Request):
            self.metrics.malformed_requests.labels("kind").inc()
            return Refusal(
                ticket=0, t_ns=now, reason=f"expected a request (ask), got {request.KIND!r}"
            )
        live = self._find(request.run)
        if live is None:
            reason = (
                "no run has been opened yet"
                if request.run is None
                else f"run {request.run.hex()} is not known here, or no longer kept"
            )
            return Refusal(ticket=request.ticket, t_ns=now, reason=reason, run=request.run)
        if request.op == "gaps":
            gaps = live.run.gaps()
            return Gaps(
                run=live.opened.run,
                ticket=request.ticket,
                t_ns=now,
                announced=live.run.totals().announced,
                ranges=tuple(gaps[:MAX_GAPS]),
                ended=live.run.ended,
                complete=len(gaps) <= MAX_GAPS,
            )
        if request.op == "spectrum":
            if self._answers.ask(peer, live.run, request):
                return None
            return Refusal(
                ticket=request.ticket,
                t_ns=now,
                reason="busy: too many requests for spectra are waiting; ask again in a moment",
                run=live.opened.run,
            )
        if request.first >= live.run.store.pixels:
            return Refusal(
                ticket=request.ticket,
                t_ns=now,
                reason=f"pixel {request.first}: the map has {live.run.store.pixels} pixels",
                run=live.opened.run,
            )
        return live.snapshot(request.ticket, request.first, self._seq)

    def _find(self, run: bytes | None) -> LiveRun | None:
        if run is not None:
            return self._runs.get(run)
        return next(reversed(self._runs.values()), None)


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, hwm: int) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.RCVHWM, REQUESTS_PER_TURN)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.HEARTBEAT_IVL, PEER_TIMEOUT_S * 1000 // 6)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PEER_TIMEOUT_S * 1000)
    return socket


def _nbytes(frames: list[Part]) -> int:
    return sum(memoryview(frame).nbytes for frame in frames)
