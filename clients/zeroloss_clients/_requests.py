"""Questions to the daemon's request socket, one at a time, that survive its restarts."""

from __future__ import annotations

import time

import zmq

from zeroloss.wire import Gaps, Message, Refusal, Request, Snapshot, WireError, decode, encode
from zeroloss.wire.requests import Operation

ANSWER_WITHIN_S = 2.0


class Requester:
    """A DEALER socket of its own; not thread-safe. `OSError` for an endpoint that cannot be."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self._context = context
        self.endpoint = endpoint
        self._ticket = 0
        self._asked: float | None = None
        self.socket = self._connected()

    def _connected(self) -> zmq.Socket[bytes]:
        return _connect(self._context, self.endpoint)

    @property
    def waiting(self) -> bool:
        """Whether an answer is still due; after two seconds without one, ask anew."""
        return self._asked is not None and time.monotonic() - self._asked < ANSWER_WITHIN_S

    @property
    def overdue(self) -> bool:
        """Whether an answer should have come by now."""
        return self._asked is not None and not self.waiting

    def ask(self, op: Operation, run: bytes | None, first: int = 0) -> None:
        """Send a question; an unanswered one before it is forgotten."""
        if self._asked is not None:
            # What an absent daemon was asked would reach it late, once per question: start afresh.
            self.socket.close()
            self.socket = self._connected()
        self._ticket += 1
        self._asked = time.monotonic()
        request = Request(op=op, ticket=self._ticket, run=run, first=first, t_ns=time.time_ns())
        self.socket.send_multipart(encode(request))

    def poll(self) -> Gaps | Snapshot | Refusal | None:
        """The answer to the last question, or None as long as there is none."""
        while self.socket.poll(0):
            parts = self.socket.recv_multipart()
            try:
                reply: Message = decode(parts)
            except WireError:
                continue
            if isinstance(reply, Gaps | Snapshot | Refusal) and reply.ticket == self._ticket:
                self._asked = None
                return reply
        return None

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def ask_once(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, request: Request, timeout_s: float
) -> Message:
    """The answer to one question, over a connection of its own; may be called from any thread.

    Raises `OSError` for an endpoint that cannot be, `TimeoutError` without an answer in time.
    """
    deadline = time.monotonic() + timeout_s
    socket = _connect(context, endpoint)
    try:
        socket.send_multipart(encode(request))
        while socket.poll(max(0, round(1000 * (deadline - time.monotonic())))):
            try:
                reply = decode(socket.recv_multipart())
            except WireError:
                continue
            # Nothing else was asked here: also what is refused without a ticket is the answer.
            return reply
    finally:
        socket.close()
    raise TimeoutError(
        f"no answer from {endpoint} within {timeout_s:g} s: is a daemon running there?"
    )


def _connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise OSError(f"cannot connect to {endpoint}: {error.strerror}") from None
    return socket
