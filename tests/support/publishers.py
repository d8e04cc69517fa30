"""Publishers on free ports, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from support.map_client import MapClient
from support.published_runs import SmallRun
from zeroloss.outputs import Publisher

ANY = "tcp://127.0.0.1:0"
Connect: TypeAlias = Callable[..., MapClient]


def new_publisher(**options: Any) -> Publisher:
    return Publisher(maps=ANY, requests=ANY, software="test", config_sha256="c" * 64, **options)


def metric(publisher: Publisher, name: str, **labels: str) -> float:
    value = publisher.metrics.registry.get_sample_value(f"zeroloss_{name}", labels)
    return 0.0 if value is None else value


def assert_same(client: MapClient, run: SmallRun) -> None:
    coverage, values = run.store.page(0, run.store.pixels)
    np.testing.assert_array_equal(client.coverage, coverage)
    assert client.values.keys() == values.keys()
    for key, layer in values.items():
        np.testing.assert_array_equal(client.values[key], layer)
