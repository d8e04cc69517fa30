"""TCP endpoints of ZeroMQ: their parts, and whether only this machine can reach them."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_TCP = re.compile(r"tcp://(?P<host>\[[^\[\]/]+\]|[^:\[\]/]+):(?P<port>\d{1,5}|\*)")


class TcpEndpoint(NamedTuple):
    """Host (an IPv6 address without its brackets) and port (`*` for any free one)."""

    host: str
    port: str

    @property
    def is_ipv6(self) -> bool:
        """Whether the socket needs IPv6."""
        return ":" in self.host


def parse_tcp(endpoint: str) -> TcpEndpoint | None:
    """The parts of `tcp://host:port`; None for anything else or a port above 65535."""
    match = _TCP.fullmatch(endpoint)
    if match is None or (match["port"] != "*" and int(match["port"]) > 65535):
        return None
    return TcpEndpoint(match["host"].strip("[]"), match["port"])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
