"""Sources of spectra: bytes in, wire messages out."""

from __future__ import annotations

from ._source import Received, Source, SourceError
from .native import NativeSource

__all__ = ["NativeSource", "Received", "Source", "SourceError"]
