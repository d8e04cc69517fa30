"""Outputs that cannot be opened."""

from __future__ import annotations


class EndpointError(OSError):
    """An address that cannot be bound: taken, malformed, or not on loopback."""
