"""Sources of spectra: bytes in, wire messages out."""

from __future__ import annotations

from ._source import Received, Source, SourceError
from .files import FileSource
from .native import NativeSource

__all__ = ["FileSource", "NativeSource", "Received", "Source", "SourceError"]
