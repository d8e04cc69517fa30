"""Writes the raw stream of one run to disk before anything else is done with it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from threading import Event, Lock, Thread

from zeroloss import __version__
from zeroloss.wire import Part, RunStart, encode

from ._errors import RecordingError, cannot_write
from ._location import Location
from ._segment_writer import MAX_MESSAGES, Segment
from .recorded_run import RecordedRun, segment_paths


def prepare_folder(root: Path) -> None:
    """Make the folder of recordings and try it; `RecordingError` when nothing can be written."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=root) as file:
            file.write(b"zeroloss")
    except OSError as error:
        raise cannot_write(root, error) from error


class Recorder:
    """Records one run into the folder `root/<UTC of the start>-<run>/`, in segments `000.mcap`, ...

    When `write` has returned, the message is with the operating system: killing the process loses
    nothing. Every `fsync_s` seconds and at the end it is forced to the disk itself: a power cut
    loses at most the last `fsync_s` seconds. A new segment is begun before one grows beyond
    `segment_bytes`. A folder that already holds this run is continued with the next segment.

    After a failure the recorder is closed, and every further `write` raises the same
    `RecordingError`. Safe to use from several threads.
    """

    def __init__(
        self,
        root: Path,
        start: RunStart,
        *,
        segment_bytes: int = 1 << 30,
        fsync_s: float = 1.0,
        received_ns: int | None = None,
    ) -> None:
        """`received_ns` is when the run start came, in ns of the UTC epoch (default: now)."""
        self._start = encode(start)
        self._metadata = {"run": start.run.hex(), "software": __version__, "protocol": "1"}
        self._segment_bytes = segment_bytes
        self._lock = Lock()
        self._failure: RecordingError | None = None
        self._unsynced = True
        self._stop = Event()
        self.bytes_written = 0
        """Bytes of the finished segments of this recorder and of the one being written."""
        self._finished_bytes = 0
        try:
            self.folder = _folder(root, start)
            self._number = 1 + max(
                (int(path.stem) for path in segment_paths(self.folder)), default=-1
            )
            self._segment = self._open(time.time_ns() if received_ns is None else received_ns)
        except RecordingError:
            raise
        except OSError as error:
            raise cannot_write(root, error) from error
        self._thread = Thread(
            target=self._sync_loop, args=(fsync_s,), name="recording-sync", daemon=True
        )
        self._thread.start()

    def write(self, parts: Sequence[Part], received_ns: int) -> Location:
        """Append the frames of one message, received at `received_ns` (ns of the UTC epoch).

        Returns where they are to be read again. Raises `RecordingError` when it cannot be written,
        `WireError` for frames beyond the caps of the protocol.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                size = sum(memoryview(part).nbytes for part in parts)
                full = self._segment.size + size > self._segment_bytes
                if (full and self._segment.messages > 1) or self._segment.messages >= MAX_MESSAGES:
                    self._rotate(received_ns)
                location = self._segment.write(parts, received_ns)
            except OSError as error:
                raise self._fail(error) from error
            self._unsynced = True
            self.bytes_written = self._finished_bytes + self._segment.size
            return location

    def close(self) -> None:
        """Finish the segment and force it to the disk; `RecordingError` where that fails."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            if self._failure is not None:
                return
            try:
                self._segment.close(finish=True)
            except OSError as error:
                raise self._fail(error) from error
            self._failure = RecordingError(f"the recording {self.folder} is closed")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, received_ns: int) -> Segment:
        while True:
            path = self.folder / f"{self._number:03d}.mcap"
            self._number += 1
            try:
                segment = Segment(path, self._start, received_ns, self._metadata)
            except FileExistsError:
                continue  # another process records this run too
            _sync_folder(self.folder)
            return segment

    def _rotate(self, received_ns: int) -> None:
        self._segment.close(finish=True)
        self._finished_bytes += self._segment.size
        self._segment = self._open(received_ns)

    def _fail(self, error: OSError) -> RecordingError:
        self._failure = cannot_write(self._segment.path, error)
        with suppress(OSError):
            self._segment.close(finish=False)
        return self._failure

    def _sync_loop(self, fsync_s: float) -> None:
        while not self._stop.wait(fsync_s):
            with self._lock:
                segment, due = self._segment, self._unsynced and self._failure is None
                self._unsynced = False
            if not due:
                continue
            try:
                segment.sync()
            except OSError as error:
                with self._lock:
                    if self._failure is None:
                        self._fail(error)


def _folder(root: Path, start: RunStart) -> Path:
    """The folder of this run: the one that holds it already, or a new one."""
    run8 = start.run.hex()[:8]
    if root.is_dir():
        for folder in sorted(root.glob(f"*-{run8}*")):
            with suppress(RecordingError):
                if RecordedRun(folder).run == start.run:
                    return folder
    stamp = datetime.fromtimestamp(start.t_ns // 1_000_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = root / f"{stamp}-{run8}"
    if segment_paths(folder):
        with suppress(RecordingError):
            RecordedRun(folder)
            folder = root / f"{stamp}-{start.run.hex()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file survive a power cut, where folders can be synced at all."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
