"""Addresses to bind: loopback unless allowed otherwise, and one clear sentence when taken."""

from __future__ import annotations

import zmq

from zeroloss.endpoints import is_loopback, parse_tcp

from .errors import EndpointError

RELEASE_MS = 2000
"""Longest wait for a port to become free."""


def check_host(what: str, host: str, allow_remote: bool) -> None:
    """`EndpointError` when other machines could reach the address and that was not allowed."""
    if not allow_remote and not is_loopback(host):
        raise EndpointError(
            f"{what}: {host} can be reached from other machines; bind 127.0.0.1, or allow remote "
            "access explicitly"
        )


def bind(socket: zmq.Socket[bytes], what: str, endpoint: str, allow_remote: bool) -> str:
    """Bind `tcp://host:port` (port 0 or * for any free one) and return the real address."""
    tcp = parse_tcp(endpoint)
    if tcp is None:
        raise EndpointError(
            f"{what}: expected an address like tcp://127.0.0.1:5551, got {endpoint}"
        )
    check_host(what, tcp.host, allow_remote)
    if tcp.is_ipv6:
        socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise EndpointError(
                f"{what}: {endpoint} is already taken; is another zeroloss running? Stop it or "
                "choose another port"
            ) from None
        raise EndpointError(f"{what}: cannot bind {endpoint}: {error.strerror}") from None
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT)).rstrip("\0")


def release(socket: zmq.Socket[bytes], endpoint: str, linger_ms: int) -> None:
    """Close a bound socket; its port is free again when this returns.

    Closing alone releases the port some time later, on the library's own thread.
    """
    socket.setsockopt(zmq.LINGER, linger_ms)
    monitor = socket.get_monitor_socket(zmq.EVENT_CLOSED)
    socket.unbind(endpoint)
    monitor.poll(RELEASE_MS)
    socket.disable_monitor()
    monitor.close(0)
    socket.close()
