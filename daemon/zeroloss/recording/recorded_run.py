"""Reads a recorded run back, also after a crash, with damage, and while it is being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zeroloss.wire import (
    Message,
    RunEnd,
    RunStart,
    SpectraBlock,
    WireError,
    decode,
)

from ._errors import RecordingError
from ._framing import unpack
from ._location import Location
from ._segment_reader import RawMessage, read_segment
from ._segment_writer import CHANNELS

MAX_DAMAGE = 1000
"""Sentences kept in `RecordedRun.damage`."""


@dataclass(frozen=True, slots=True)
class RecordedMessage:
    """One message of a run: when it was received (ns of the UTC epoch), its frames, its meaning,
    and where it lies."""

    received_ns: int
    parts: list[bytes]
    message: Message
    location: Location


def segment_paths(folder: Path) -> list[Path]:
    """The segments in a run's folder, in the order they were written."""
    paths = [path for path in folder.glob("*.mcap") if path.stem.isdecimal()]
    return sorted(paths, key=lambda path: int(path.stem))


class RecordedRun:
    """A recorded run, from its folder or from one segment file.

    Everything whole is read: killed writers, truncation, garbage and flipped bits cost the messages
    they hit and no others. Raises `RecordingError` when there is no recorded run at `path`.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path if path.is_dir() else path.parent
        self._path = path
        self._damage: dict[str, None] = {}
        self._head, self.start = self._find_start()
        self.run = self.start.run

    @property
    def damage(self) -> list[str]:
        """What could not be read so far, a sentence for each damaged place."""
        return list(self._damage)

    def messages(self) -> Iterator[RecordedMessage]:
        """Every whole message in the order it was recorded, the run start first.

        Arrays are read-only. In a run that is still recorded this ends with the newest message.
        """
        head: RecordedMessage | None = self._head
        for item in self._messages(frozenset(CHANNELS.values())):
            # Segments begin with the run start for their own sake; the stream has it once.
            if head is not None and not isinstance(item.message, RunStart):
                yield head
            head = None
            yield item
        if head is not None:
            yield head

    def blocks(self) -> Iterator[tuple[int, SpectraBlock]]:
        """Time of reception and content of every whole block of spectra, in recorded order."""
        for item in self._messages(frozenset({CHANNELS[SpectraBlock.KIND]})):
            if isinstance(item.message, SpectraBlock):
                yield item.received_ns, item.message

    def end(self) -> RunEnd | None:
        """The newest end of the run, or None if none was recorded."""
        end = None
        for item in self._messages(frozenset({CHANNELS[RunEnd.KIND]})):
            if isinstance(item.message, RunEnd):
                end = item.message
        return end

    def _messages(self, channels: frozenset[int]) -> Iterator[RecordedMessage]:
        for path, raw in self._raw(channels):
            # Every segment begins with the run start again.
            if raw.sequence == 0:
                continue
            item = self._decoded(path, raw)
            if item is None:
                continue
            if item.message.run != self.run:
                self._note(f"a message of another run was skipped ({item.message.KIND})")
                continue
            yield item

    def _raw(self, channels: frozenset[int]) -> Iterator[tuple[Path, RawMessage]]:
        """Every message, and the segment it is in."""
        paths = segment_paths(self._path) if self._path.is_dir() else [self._path]
        for path in paths:
            last = path == paths[-1]
            try:
                for raw in read_segment(path, self._note, channels=channels, last=last):
                    yield path, raw
            except OSError as error:
                raise RecordingError(
                    f"cannot read the recording {path}: {error.strerror or error}"
                ) from error

    def _decoded(self, path: Path, raw: RawMessage) -> RecordedMessage | None:
        at = Location(path, raw.offset, raw.nbytes)
        try:
            parts = unpack(raw.payload)
            return RecordedMessage(raw.received_ns, parts, decode(parts), at)
        except WireError as error:
            self._note(f"a recorded message cannot be understood: {error}")
            return None

    def _note(self, sentence: str) -> None:
        if len(self._damage) < MAX_DAMAGE:
            self._damage[sentence] = None

    def _find_start(self) -> tuple[RecordedMessage, RunStart]:
        for path, raw in self._raw(frozenset({CHANNELS[RunStart.KIND]})):
            item = self._decoded(path, raw)
            if item is not None and isinstance(item.message, RunStart):
                return item, item.message
        raise RecordingError(
            f"no recorded run in {self._path}: expected a folder of segments 000.mcap, 001.mcap, "
            "... or one such file, with the start of the run in it"
        )


def find_runs(root: Path) -> list[RecordedRun]:
    """The recorded runs in the folders of `root`, oldest first.

    A folder in which no run start can be read is left out.
    """
    runs = []
    if root.is_dir():
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if segment_paths(folder):
                with suppress(RecordingError):
                    runs.append(RecordedRun(folder))
    return sorted(runs, key=lambda run: (run.start.t_ns, run.folder.name))
