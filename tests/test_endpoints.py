from __future__ import annotations

import pytest

from zeroloss.endpoints import is_loopback, parse_tcp


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [
        ("tcp://127.0.0.1:5550", "127.0.0.1", "5550"),
        ("tcp://localhost:*", "localhost", "*"),
        ("tcp://[::1]:0", "::1", "0"),
        ("tcp://microscope.lab:65535", "microscope.lab", "65535"),
    ],
)
def test_the_parts_of_an_endpoint(endpoint: str, host: str, port: str) -> None:
    tcp = parse_tcp(endpoint)
    assert tcp is not None
    assert (tcp.host, tcp.port) == (host, port)
    assert tcp.is_ipv6 == (host == "::1")


@pytest.mark.parametrize(
    "endpoint",
    ["", "5550", "127.0.0.1:5550", "tcp://127.0.0.1", "tcp://::1:5550", "tcp://127.0.0.1:65536"],
)
def test_what_is_no_endpoint(endpoint: str) -> None:
    assert parse_tcp(endpoint) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_what_only_this_machine_can_reach(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.0.2.1", "::", "microscope.lab"])
def test_what_others_can_reach(host: str) -> None:
    assert not is_loopback(host)
