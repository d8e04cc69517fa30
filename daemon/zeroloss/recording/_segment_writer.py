"""One segment of a recording: an MCAP file in which every message is a chunk of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import IO, cast

from mcap.writer import CompressionType, Writer

from zeroloss.wire import Heartbeat, Part, RunEnd, RunStart, SpectraBlock

from ._framing import pack
from ._location import Location

PROFILE = "zeroloss"
CHANNELS = {RunStart.KIND: 1, SpectraBlock.KIND: 2, Heartbeat.KIND: 3, RunEnd.KIND: 4, "other": 5}
"""Topic of each MCAP channel and its id, the same in every segment."""
SCHEMA_TEXT = (
    "payload: u32 number of frames, u64 length of each frame, the frames; little-endian. "
    "frames: topic, msgpack header, raw buffers, as received (zeroloss wire protocol version 1)."
)
MAX_MESSAGES = 1 << 16
"""Messages of one segment; bounds the index that the writer keeps in memory."""

# macOS and Windows have no fdatasync.
_sync_to_disk = getattr(os, "fdatasync", os.fsync)


class SegmentFile:
    """An unbuffered new file: what `write` has returned is with the operating system."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._position = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`; on an error the position counts what went in."""
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._position += written
            view = view[written:]
        return len(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._position

    def flush(self) -> None:
        """Nothing is buffered here."""

    def sync(self) -> None:
        """Wait until what was written is on the disk itself."""
        _sync_to_disk(self._file.fileno())

    def cut(self, size: int) -> None:
        """Drop everything from `size` on."""
        self._file.truncate(size)
        self._file.seek(size)
        self._position = size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Segment:
    """A segment that is being written; it begins with the run start and so stands alone."""

    def __init__(
        self, path: Path, start: Sequence[Part], received_ns: int, metadata: dict[str, str]
    ) -> None:
        self.path = path
        self.messages = 0
        self._file = SegmentFile(path)
        self._closing = Lock()
        self._closed = False
        self._intact = True
        try:
            # A chunk is closed as soon as it is longer than chunk_size: with every message.
            self._writer = Writer(
                cast(IO[bytes], self._file), chunk_size=1, compression=CompressionType.NONE
            )
            self._writer.start(profile=PROFILE, library=f"zeroloss {metadata['software']}")
            self._writer.add_metadata("zeroloss", metadata)
            for topic, channel in CHANNELS.items():
                schema = self._writer.register_schema(topic, "text", SCHEMA_TEXT.encode())
                assert channel == self._writer.register_channel(topic, "zeroloss-frames", schema)
            self._append(RunStart.KIND, start, received_ns)
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return self._file.tell()

    def write(self, parts: Sequence[Part], received_ns: int) -> Location:
        """Append one message and tell where; an `OSError` leaves the file as it was before."""
        kind = bytes(parts[0]).partition(b"/")[0].decode("ascii", "replace")
        return self._append(kind, parts, received_ns)

    def _append(self, kind: str, parts: Sequence[Part], received_ns: int) -> Location:
        payload = pack(parts)
        before = self._file.tell()
        try:
            self._writer.add_message(
                channel_id=CHANNELS.get(kind, CHANNELS["other"]),
                log_time=received_ns,
                publish_time=received_ns,
                sequence=self.messages,
                data=payload,
            )
        except BaseException:
            # Also Ctrl-C in the middle: the writer cannot be used any more, its file can.
            self._intact = False
            self._file.cut(before)
            raise
        self.messages += 1
        return Location(self.path, before, self._file.tell() - before)

    def sync(self) -> None:
        """Wait until what was written is on the disk itself; nothing on a closed segment."""
        with self._closing:
            if not self._closed:
                self._file.sync()

    def close(self, *, finish: bool) -> None:
        """Close the file, with the index and footer of a complete MCAP file where `finish`."""
        with self._closing:
            if self._closed:
                return
            try:
                if finish:
                    if self._intact:
                        self._writer.finish()  # type: ignore[no-untyped-call]
                    self._file.sync()
            finally:
                self._closed = True
                self._file.close()
