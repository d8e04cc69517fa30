"""What can go wrong with a map: it does not fit into memory, or its file cannot be written."""

from __future__ import annotations


class MapSizeError(ValueError):
    """A map that would need more memory, or more layers, than is allowed."""


class MapFileError(OSError):
    """A map file that could not be written; whatever stood there before is untouched."""
