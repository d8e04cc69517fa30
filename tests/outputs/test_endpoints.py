from __future__ import annotations

from typing import Any

import pytest

from support.publishers import ANY
from zeroloss.outputs import EndpointError, Publisher


def test_a_taken_port_is_one_sentence(publisher: Publisher) -> None:
    with pytest.raises(EndpointError, match=r"maps: tcp://127\.0\.0\.1:\d+ is already taken"):
        Publisher(maps=publisher.maps_endpoint, requests=ANY, software="test", config_sha256="")
    with pytest.raises(EndpointError, match=r"requests: .* is already taken"):
        Publisher(maps=ANY, requests=publisher.requests_endpoint, software="test", config_sha256="")


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0"])
def test_other_machines_are_kept_out_unless_allowed(endpoint: str) -> None:
    options: dict[str, Any] = {"requests": ANY, "software": "test", "config_sha256": ""}
    with pytest.raises(EndpointError, match="can be reached from other machines"):
        Publisher(maps=endpoint, **options)
    if "[" not in endpoint:
        Publisher(maps=endpoint, **options, allow_remote=True).close()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:5551", "tcp://127.0.0.1", "ftp://127.0.0.1:1", ""])
def test_a_malformed_address_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(EndpointError, match="expected an address like tcp://127"):
        Publisher(maps=endpoint, requests=ANY, software="test", config_sha256="")
