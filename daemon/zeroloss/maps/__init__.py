"""Maps: layers with coverage in memory, and the file that HyperSpy opens."""

from __future__ import annotations

from .answers import write_answers
from .closing import Closing
from .errors import MapFileError, MapSizeError
from .hspy import write_hspy
from .store import DEFAULT_MAX_BYTES, DETECTED_SHARE, STORED_KINDS, MapStore, stored_layers

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DETECTED_SHARE",
    "STORED_KINDS",
    "Closing",
    "MapFileError",
    "MapSizeError",
    "MapStore",
    "stored_layers",
    "write_answers",
    "write_hspy",
]
