"""The frames of one wire message as the payload of one recorded message, and back.

Little-endian: u32 number of frames, u64 length of each frame, then the frames one after another.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from zeroloss.wire import Fault, Part, WireError
from zeroloss.wire.limits import (
    MAX_BUFFER_BYTES,
    MAX_HEADER_BYTES,
    MAX_PARTS,
    MAX_TOPIC_BYTES,
)

_COUNT = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")

MAX_PAYLOAD_BYTES = (
    _COUNT.size
    + MAX_PARTS * _LENGTH.size
    + MAX_TOPIC_BYTES
    + MAX_HEADER_BYTES
    + (MAX_PARTS - 2) * MAX_BUFFER_BYTES
)


def pack(parts: Sequence[Part]) -> bytes:
    """The payload that holds these frames; `WireError` for more or longer ones than the caps."""
    lengths = [memoryview(part).nbytes for part in parts]
    _check(lengths)
    return b"".join(
        [
            _COUNT.pack(len(lengths)),
            struct.pack(f"<{len(lengths)}Q", *lengths),
            *(memoryview(part).cast("B") for part in parts),
        ]
    )


def unpack(payload: bytes) -> list[bytes]:
    """The frames in a payload; `WireError` unless the lengths add up to it exactly."""
    if len(payload) < _COUNT.size:
        raise WireError(Fault.TRUNCATED, f"a recorded message of {len(payload)} bytes")
    (count,) = _COUNT.unpack_from(payload)
    at = _COUNT.size + count * _LENGTH.size
    if count > MAX_PARTS or at > len(payload):
        raise WireError(Fault.MALFORMED, f"a recorded message that announces {count} frames")
    lengths = list(struct.unpack_from(f"<{count}Q", payload, _COUNT.size))
    _check(lengths)
    if at + sum(lengths) != len(payload):
        raise WireError(
            Fault.MALFORMED,
            f"a recorded message of {len(payload)} bytes whose frames need {at + sum(lengths)}",
        )
    parts = []
    for length in lengths:
        parts.append(payload[at : at + length])
        at += length
    return parts


def _check(lengths: Sequence[int]) -> None:
    if len(lengths) < 2 or len(lengths) > MAX_PARTS:
        raise WireError(
            Fault.MALFORMED, f"a message of {len(lengths)} frames: expected 2 to {MAX_PARTS}"
        )
    caps = [MAX_TOPIC_BYTES, MAX_HEADER_BYTES] + [MAX_BUFFER_BYTES] * (len(lengths) - 2)
    for index, (length, cap) in enumerate(zip(lengths, caps, strict=True)):
        if length > cap:
            raise WireError(Fault.OVERSIZED, f"frame {index} of {length} bytes: the cap is {cap}")
