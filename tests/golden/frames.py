"""Multipart messages in a file: per frame a little-endian uint32 length, then the bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def pack(parts: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """The frames one after the other, each behind its length."""
    return b"".join(struct.pack("<I", memoryview(part).nbytes) + bytes(part) for part in parts)


def unpack(data: bytes) -> list[bytes]:
    """The frames of `pack`."""
    parts, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(data)
    return parts
