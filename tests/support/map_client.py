"""A small but complete subscriber: snapshot in pages, then live, again after every gap."""

from __future__ import annotations

import time
from itertools import count

import numpy as np
import numpy.typing as npt
import zmq

from zeroloss.outputs import Publisher
from zeroloss.wire import (
    Gaps,
    Heartbeat,
    MapClose,
    MapOpen,
    MapUpdate,
    Message,
    Refusal,
    Request,
    Snapshot,
    decode,
    encode,
)

DEADLINE_S = 20.0


class MapClient:
    """Follows the newest run of a publisher with its own arrays."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], publisher: Publisher, *, rcvhwm: int = 1000
    ) -> None:
        self._tickets = count(1)
        self.live = context.socket(zmq.SUB)
        self.live.setsockopt(zmq.RCVHWM, rcvhwm)
        self.live.setsockopt(zmq.RCVBUF, 8192)
        self.live.connect(publisher.maps_endpoint)
        self.live.subscribe(b"")
        self.asking = context.socket(zmq.DEALER)
        self.asking.connect(publisher.requests_endpoint)
        for socket in (self.live, self.asking):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVTIMEO, int(DEADLINE_S * 1000))
        self.values: dict[str, npt.NDArray[np.float32]] = {}
        self.coverage = np.zeros(0, np.uint8)
        self.seq = -1
        self.taken_ns = 0
        self.opened: MapOpen | None = None
        self.closed: MapClose | None = None
        self.snapshots = 0
        self.updates = 0
        self.sequence: list[int] = []

    def close(self) -> None:
        self.live.close(0)
        self.asking.close(0)

    def next_message(self) -> Message:
        """The next published message."""
        return decode(self.live.recv_multipart())

    def ask(self, request: Request) -> Message:
        """The answer to one request."""
        self.asking.send_multipart(encode(request))
        return decode(self.asking.recv_multipart())

    def snapshot(self) -> None:
        """Replace everything by the map as it is now; asks until a run is there."""
        deadline = time.monotonic() + DEADLINE_S
        first = 0
        begun: Snapshot | None = None
        while True:
            answer = self.ask(Request(op="snapshot", ticket=next(self._tickets), first=first))
            if isinstance(answer, Refusal) and begun is None and time.monotonic() < deadline:
                continue
            assert isinstance(answer, Snapshot), answer
            if begun is None:
                begun = answer
                self.opened, self.closed = answer.opened, answer.closed
                rows, columns = answer.opened.start.scan.shape
                self.coverage = np.zeros(rows * columns, np.uint8)
                self.values = {
                    key: np.full((rows * columns, *item.shape[1:]), np.nan, np.float32)
                    for key, item in answer.values.items()
                }
            end = first + len(answer.coverage)
            self.coverage[first:end] = answer.coverage
            for key, item in answer.values.items():
                self.values[key][first:end] = item
            first = end
            if first >= len(self.coverage):
                break
        self.seq, self.taken_ns = begun.seq, begun.t_ns
        self.snapshots += 1

    def step(self) -> Message:
        """Take one published message; a gap in the numbers leads to a new snapshot."""
        message = self.next_message()
        if isinstance(message, Heartbeat):
            # A number that differs, told after the snapshot: messages were missed, or it is a new
            # daemon that counts from 0 again.
            if message.t_ns > self.taken_ns and message.seq != self.seq:
                self.snapshot()
            return message
        self.sequence.append(message.seq)
        if message.seq <= self.seq:
            return message
        if message.seq != self.seq + 1:
            self.snapshot()
            return message
        self.seq = message.seq
        if isinstance(message, MapUpdate):
            self.updates += 1
            self.coverage[message.pixels] = message.coverage
            for key, item in message.values.items():
                self.values[key][message.pixels] = item
        elif isinstance(message, MapClose):
            self.closed = message
        return message

    def follow(self) -> None:
        """Snapshot, then live until the map is closed."""
        self.snapshot()
        deadline = time.monotonic() + DEADLINE_S
        while self.closed is None and time.monotonic() < deadline:
            self.step()
        assert self.closed is not None

    def gaps(self, run: bytes | None = None) -> Message:
        """The answer to a question for gaps."""
        answer = self.ask(Request(op="gaps", ticket=next(self._tickets), run=run))
        assert isinstance(answer, Gaps | Refusal)
        return answer
