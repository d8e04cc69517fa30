from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from support.map_client import MapClient
from support.publishers import Connect, new_publisher
from zeroloss.outputs import Publisher


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = new_publisher()
    publisher.start()
    yield publisher
    publisher.close()
    assert publisher.failure is None


@pytest.fixture
def connect(publisher: Publisher) -> Iterator[Connect]:
    context: zmq.Context[Any] = zmq.Context()
    clients: list[MapClient] = []

    def make(to: Publisher = publisher, **options: int) -> MapClient:
        clients.append(MapClient(context, to, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    context.term()
