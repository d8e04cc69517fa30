"""The native source: wire messages from a ZeroMQ PULL or SUB socket."""

from __future__ import annotations

import errno
import time
from types import TracebackType
from typing import Literal

import zmq

from zeroloss.endpoints import is_loopback, parse_tcp
from zeroloss.wire import Part
from zeroloss.wire.limits import MAX_BUFFER_BYTES, MAX_PARTS

from ._source import Received, SourceError

HWM_BLOCKS = {"pull": 4, "sub": 256}
"""Messages that wait inside ZeroMQ. PULL: few, so that a slow daemon is felt by the source at once
instead of hiding seconds of latency; SUB: many, since what does not fit is lost."""
RECEIVE_BUFFER_BYTES = 1 << 20
COPY_BELOW = 1 << 16
"""Shorter frames are copied: ZeroMQ keeps them in a receive buffer that they would pin."""
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3


class NativeSource:
    """Receives the wire protocol of docs/protocol.md.

    `kind` "pull" is complete: the source waits while the daemon is busy. "sub" never holds the
    source up and may lose messages, which the ledger shows. `bind` waits for sources at `endpoint`
    (port 0: any free one), otherwise the source's own endpoint is connected to.

    A PUSH socket deals its messages out to everybody who pulls. Pulling from a detector that
    another program reads steals every second frame from that program, and the protocol gives no way
    to see it; connecting with "pull" is therefore refused unless `sole_consumer` says that there is
    no other. Endpoints beyond this machine are refused unless `allow_remote`: the stream is neither
    encrypted nor authenticated.

    Raises `SourceError`. Not safe to use from several threads.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        kind: Literal["pull", "sub"] = "pull",
        bind: bool = True,
        sole_consumer: bool = False,
        allow_remote: bool = False,
        hwm_blocks: int | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        if kind not in HWM_BLOCKS:
            raise SourceError(f"source kind {kind!r}: expected 'pull' or 'sub'")
        if kind == "pull" and not bind and not sole_consumer:
            raise SourceError(
                f"refused to pull from {endpoint}: a PUSH source deals its messages out, so a "
                "second reader steals frames from the first; if nobody else reads from it say "
                "so with --sole-consumer, else have the source publish (--kind sub) or push to "
                "this daemon (without --connect)"
            )
        host = _host(endpoint)
        if host is not None and not allow_remote and not is_loopback(host):
            raise SourceError(
                f"refused {endpoint}: it reaches beyond this machine, and the stream is neither "
                "encrypted nor authenticated (CURVE keys are not supported yet); use "
                "tcp://127.0.0.1:PORT through an SSH tunnel, or allow it with --allow-remote on a "
                "network that you trust"
            )
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._socket = self._context.socket(zmq.PULL if kind == "pull" else zmq.SUB)
        try:
            self._configure(HWM_BLOCKS[kind] if hwm_blocks is None else hwm_blocks)
            if host is not None and ":" in host:
                self._socket.setsockopt(zmq.IPV6, 1)
            if kind == "sub":
                self._socket.subscribe(b"")
            if bind:
                self._socket.bind(endpoint.replace("//localhost:", "//127.0.0.1:"))
                self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
            else:
                self._socket.connect(endpoint)
                self.endpoint = endpoint
        except zmq.ZMQError as error:
            self.close()
            raise SourceError(_sentence(endpoint, bind, error)) from error

    def receive(self, timeout_s: float) -> Received | None:
        """The next message, or None when none came within `timeout_s`.

        Long frames are views of ZeroMQ's own memory, which is freed with the last view. Of a
        message with more frames than the protocol allows, one more than allowed is returned.
        """
        if not self._socket.poll(round(1000 * timeout_s), zmq.POLLIN):
            return None
        received_ns = time.time_ns()
        parts: list[Part] = []
        while True:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            if len(parts) <= MAX_PARTS:
                parts.append(frame.bytes if len(frame) < COPY_BELOW else frame.buffer.toreadonly())
            if not frame.more:
                return Received(parts, received_ns)

    def close(self) -> None:
        """Close the socket; what waits in it is dropped."""
        self._socket.close(linger=0)
        if self._own_context:
            self._context.term()

    def __enter__(self) -> NativeSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _configure(self, hwm_blocks: int) -> None:
        # ZeroMQ's own heartbeats stay off: under back pressure they wait behind the data, and the
        # connection would be torn down with everything in it.
        options = {
            zmq.RCVHWM: hwm_blocks,
            zmq.RCVBUF: RECEIVE_BUFFER_BYTES,
            zmq.LINGER: 0,
            zmq.MAXMSGSIZE: MAX_BUFFER_BYTES,
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: KEEPALIVE_IDLE_S,
            zmq.TCP_KEEPALIVE_INTVL: KEEPALIVE_INTERVAL_S,
            zmq.TCP_KEEPALIVE_CNT: KEEPALIVE_PROBES,
        }
        for option, value in options.items():
            self._socket.setsockopt(option, value)


def _host(endpoint: str) -> str | None:
    """The host of a TCP endpoint, None for one inside this machine; `SourceError` for others."""
    if endpoint.startswith(("ipc://", "inproc://")):
        return None
    tcp = parse_tcp(endpoint)
    if tcp is None:
        raise SourceError(f"{endpoint}: expected an endpoint like tcp://127.0.0.1:5550")
    return tcp.host


def _sentence(endpoint: str, bind: bool, error: zmq.ZMQError) -> str:
    if error.errno in (errno.EADDRINUSE, zmq.EADDRINUSE):
        port = endpoint.rpartition(":")[2]
        return (
            f"port {port} is already taken ({endpoint}), perhaps by a zeroloss that still runs; "
            "stop that program or choose another port with --source"
        )
    return (
        f"cannot {'wait for spectra at' if bind else 'connect to'} {endpoint}: {error.strerror}; "
        "expected something like tcp://127.0.0.1:5550"
    )
