"""Outputs: live maps over ZeroMQ, metrics and health over HTTP."""

from __future__ import annotations

from .errors import EndpointError
from .health import HealthServer
from .metrics import Metrics
from .publisher import Publisher
from .run import PublishedRun

__all__ = [
    "EndpointError",
    "HealthServer",
    "Metrics",
    "PublishedRun",
    "Publisher",
]
