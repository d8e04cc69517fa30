"""The source of spectra that a configuration names."""

from __future__ import annotations

from zeroloss.config import Stream
from zeroloss.sources import NativeSource


def open_source(stream: Stream) -> NativeSource:
    """Bind or connect it, as it says; raises the typed error of an endpoint that cannot be had."""
    return NativeSource(
        stream.source,
        kind=stream.kind,
        bind=not stream.connect,
        sole_consumer=stream.sole_consumer,
        allow_remote=stream.allow_remote,
    )
