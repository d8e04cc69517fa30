"""Reads whatever whole messages a segment file still holds, however the file was damaged.

The MCAP library's own readers stop at the first record they do not understand. This one trusts
nothing but chunks whose lengths agree and whose CRC is right, and looks for the next one at every
byte after it; what lies between two good chunks is either whole index records or damage.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Chunk, Message
from mcap.stream_reader import breakup_chunk
from mcap.writer import MCAP0_MAGIC

from ._framing import MAX_PAYLOAD_BYTES

_RECORD = struct.Struct("<BQ")
# Chunk record: opcode, length, start, end, size, CRC, length of compression (0: none), data length;
# then the first record inside: its opcode, length and, for a message, its channel.
_CHUNK = struct.Struct("<BQQQQIIQ")
_INSIDE = struct.Struct("<BQH")
_FIXED = _CHUNK.size - _RECORD.size
_LOOKS_LIKE_CHUNK = re.compile(rb"(?=\x06.{5}\0{3}.{28}\0{4}.{5}\0{3}[\x03\x05])", re.DOTALL)
_PATTERN_BYTES = _CHUNK.size + 1
_PEEK = _CHUNK.size + _INSIDE.size
_OVERHEAD = 1 << 16
"""More than the schema and channel records in the first chunk need."""
_FIRST_WINDOW = 1 << 12
_WINDOW = 1 << 20
_MAX_GAP_RECORD = 1 << 20
_SUMMARY = frozenset(
    {
        Opcode.HEADER,
        Opcode.FOOTER,
        Opcode.MESSAGE_INDEX,
        Opcode.CHUNK_INDEX,
        Opcode.METADATA,
        Opcode.METADATA_INDEX,
        Opcode.DATA_END,
        Opcode.SCHEMA,
        Opcode.CHANNEL,
        Opcode.STATISTICS,
        Opcode.SUMMARY_OFFSET,
    }
)


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One recorded message, undecoded; `sequence` counts within its segment from 0.

    `offset` and `nbytes` are where its chunk begins in the file, and how long it is.
    """

    channel: int
    sequence: int
    received_ns: int
    payload: bytes
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Head:
    """What the fixed fields of a chunk say."""

    data_at: int
    data_bytes: int
    crc: int
    channel: int | None
    """Channel of a chunk that holds one message and nothing else."""

    @property
    def end(self) -> int:
        return self.data_at + self.data_bytes


def read_segment(
    path: Path,
    damaged: Callable[[str], None],
    *,
    channels: frozenset[int],
    last: bool = True,
) -> Iterator[RawMessage]:
    """The whole messages of a segment in order; `damaged` is told of every hole, one sentence each.

    `channels` leaves out messages of other channels without reading them. In the `last` segment of
    a run an unfinished record at the end is no damage: it may be about to be completed.
    Raises `OSError` when the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        good = 0  # everything before this offset is accounted for
        at = 0
        while (found := _next_chunk(file, at, size)) is not None:
            begin, head = found
            if head.channel is not None and head.channel not in channels:
                messages: list[RawMessage] = []
            else:
                whole = _messages(file, head)
                if whole is None:
                    at = begin + 1
                    continue
                messages = whole
            if not _is_records(file, good, begin):
                damaged(_hole(path, good, begin))
            good = at = head.end
            yield from messages
        if not _is_records(file, good, size, open_end=last):
            damaged(_hole(path, good, size))


def read_chunk(file: BufferedReader, offset: int) -> bytes | None:
    """The payload of the message whose chunk begins at `offset`, or None where it is damaged."""
    size = os.fstat(file.fileno()).st_size
    file.seek(offset)
    head = _head(file.read(_PEEK), offset, size)
    messages = None if head is None else _messages(file, head)
    return messages[0].payload if messages else None


def _hole(path: Path, begin: int, end: int) -> str:
    return (
        f"{path.name}: {end - begin} bytes at offset {begin} are damaged or incomplete "
        "and were skipped"
    )


def _next_chunk(file: BufferedReader, at: int, size: int) -> tuple[int, _Head] | None:
    """Offset and head of the first place from `at` on that has the form of a chunk."""
    window = _FIRST_WINDOW
    while at + _PEEK <= size:
        file.seek(at)
        data = file.read(min(window, size - at))
        for match in _LOOKS_LIKE_CHUNK.finditer(data):
            begin = at + match.start()
            file.seek(begin)
            head = _head(file.read(_PEEK), begin, size)
            if head is not None:
                return begin, head
        if len(data) < _PATTERN_BYTES:
            return None
        at += len(data) - _PATTERN_BYTES + 1
        window = min(2 * window, _WINDOW)
    return None


def _head(data: bytes, begin: int, size: int) -> _Head | None:
    """The head of a chunk, or None where its lengths disagree, pass the caps or the file's end."""
    if len(data) < _PEEK:
        return None
    _, length, _, _, plain_bytes, crc, _, data_bytes = _CHUNK.unpack_from(data)
    if length != _FIXED + data_bytes or plain_bytes != data_bytes:
        return None
    if data_bytes > MAX_PAYLOAD_BYTES + _OVERHEAD or begin + _CHUNK.size + data_bytes > size:
        return None
    opcode, inside_bytes, channel = _INSIDE.unpack_from(data, _CHUNK.size)
    alone = opcode == Opcode.MESSAGE
    if alone and inside_bytes + _RECORD.size != data_bytes:
        return None
    return _Head(begin + _CHUNK.size, data_bytes, crc, channel if alone else None)


def _messages(file: BufferedReader, head: _Head) -> list[RawMessage] | None:
    """The messages of a chunk, or None where its CRC or a record in it is wrong."""
    file.seek(head.data_at)
    data = file.read(head.data_bytes)
    if len(data) != head.data_bytes or zlib.crc32(data) != head.crc:
        return None
    chunk = Chunk(
        compression="",
        data=data,
        message_start_time=0,
        message_end_time=0,
        uncompressed_crc=head.crc,
        uncompressed_size=len(data),
    )
    try:
        records = breakup_chunk(chunk)
    except (McapError, ValueError, OverflowError, struct.error):
        return None
    return [
        RawMessage(
            item.channel_id,
            item.sequence,
            item.log_time,
            item.data,
            head.data_at - _CHUNK.size,
            _CHUNK.size + head.data_bytes,
        )
        for item in records
        if isinstance(item, Message)
    ]


def _is_records(file: BufferedReader, begin: int, end: int, *, open_end: bool = False) -> bool:
    """Whether [begin, end) is made of whole records other than chunks, and magic at either end.

    With `open_end` the last one may be cut off.
    """
    at = begin
    while at < end:
        file.seek(at)
        start = file.read(_RECORD.size)
        magic = MCAP0_MAGIC.startswith(start[: len(MCAP0_MAGIC)])
        if magic and (at == 0 or at + len(MCAP0_MAGIC) >= end):
            at += len(MCAP0_MAGIC)
            continue
        if len(start) < _RECORD.size:
            return open_end
        opcode, length = _RECORD.unpack(start)
        if open_end and opcode == Opcode.CHUNK and at + _RECORD.size + length > end:
            return int(length) <= MAX_PAYLOAD_BYTES + _OVERHEAD
        if opcode not in _SUMMARY or length > _MAX_GAP_RECORD:
            return False
        at += _RECORD.size + length
    return at == end or open_end
