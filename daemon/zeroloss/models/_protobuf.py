"""Reads and writes the protobuf wire format, as far as ONNX files need it.

See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotProtobufError(ValueError):
    """The bytes are no protobuf message."""


def fields(view: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """Field numbers, values, and the bytes of the whole field, so that it can be copied as it is.

    Values are integers as they are, and of everything with a length its bytes.
    """
    at, end = 0, len(view)
    while at < end:
        begin = at
        key, at = _varint(view, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            number, at = _varint(view, at)
            yield field, number, view[begin:at]
            continue
        if kind == _BYTES:
            length, at = _varint(view, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise NotProtobufError(f"field of unknown kind {kind} at byte {at}")
        if field == 0 or length > end - at:
            raise NotProtobufError(f"field {field} of {length} bytes at byte {at} is cut off")
        stop = at + length
        yield field, view[at:stop], view[begin:stop]
        at = stop


def encode_bytes(field: int, content: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return _encode_varint(field << 3 | _BYTES) + _encode_varint(len(content)) + content


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    # Nearly all numbers are of one byte.
    if at < len(view) and view[at] < 0x80:
        return view[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise NotProtobufError("it ends in the middle of a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotProtobufError(f"number too long at byte {at}")


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
