"""The socket a source sends through, and whether anybody is at its other end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import zmq
from zmq.utils.monitor import recv_monitor_message

from zeroloss.wire import Part

BUFFERED_BYTES = 64 << 20
MIN_MESSAGES = 8
MAX_MESSAGES = 1000


class Outlet:
    """A PUSH or PUB socket, bound or connected, that holds at most about 64 MiB of messages.

    `bytes_each` is the size of a large message: the high-water mark counts messages. PUB is an
    XPUB socket, which sees its subscribers come. Raises `OSError` for an endpoint that is taken or
    cannot be used.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        pattern: Literal["push", "pub"],
        bind: bool,
        bytes_each: int,
    ) -> None:
        self._pub = pattern == "pub"
        self._socket = context.socket(zmq.XPUB if self._pub else zmq.PUSH)
        self._socket.sndhwm = max(
            MIN_MESSAGES, min(MAX_MESSAGES, BUFFERED_BYTES // max(1, bytes_each))
        )
        # Only a living connection takes messages: what waits for a daemon waits in the source.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 10000)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._peers = 0
        self._was_lost = False
        self._back = False
        try:
            if bind:
                self._socket.bind(endpoint)
            else:
                self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close(0.0)
            verb = "listen" if bind else "connect"
            raise OSError(f"cannot {verb} at {endpoint}: {error.strerror}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    @property
    def connected(self) -> bool:
        """Whether a peer is connected (PUB: has subscribed)."""
        self._watch()
        return self._peers > 0

    def came_back(self) -> bool:
        """Whether a peer has come (back) since the last call."""
        self._watch()
        back, self._back = self._back, False
        return back

    def ready(self, timeout_s: float) -> bool:
        """Wait until a message can be sent; a PUB waits for its first subscriber only."""
        if self._pub:
            self._watch()
            if self._peers == 0 and not self._was_lost:
                self._socket.poll(int(timeout_s * 1000), zmq.POLLIN)
                self._watch()
            return self._peers > 0 or self._was_lost
        return bool(self._socket.poll(int(timeout_s * 1000), zmq.POLLOUT))

    def send(self, parts: Sequence[Part]) -> None:
        """Send the frames; call it when `ready`."""
        self._socket.send_multipart(parts)

    def close(self, linger_s: float) -> None:
        """Close, giving what is still queued `linger_s` seconds to leave."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=int(linger_s * 1000))

    def _watch(self) -> None:
        if self._pub:
            while self._socket.poll(0, zmq.POLLIN):
                self._count(joined=self._socket.recv()[:1] == b"\x01")
            return
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            self._count(joined=event == zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def _count(self, *, joined: bool) -> None:
        self._peers = max(0, self._peers + (1 if joined else -1))
        if joined:
            self._back = True
        else:
            self._was_lost = True
