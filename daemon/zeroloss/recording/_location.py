"""Where a message lies in a recording, and single blocks read from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from zeroloss.wire import SpectraBlock, WireError, decode

from ._errors import RecordingError
from ._framing import unpack
from ._segment_reader import read_chunk


@dataclass(frozen=True, slots=True)
class Location:
    """The segment file of a message, the offset of its chunk, and the bytes to read there."""

    segment: Path
    offset: int
    nbytes: int


class BlockReader:
    """Reads blocks of spectra by their location; used from one thread, inside `opened`."""

    def __init__(self, files: ExitStack) -> None:
        self._files = files
        self._open: dict[Path, BufferedReader] = {}

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[BlockReader]:
        """A reader that closes its files at the end."""
        with ExitStack() as files:
            yield cls(files)

    def read(self, at: Location) -> SpectraBlock | None:
        """The block recorded there, its CRC checked; None where it is damaged.

        Raises `RecordingError` when the segment cannot be read at all.
        """
        try:
            file = self._open.get(at.segment)
            if file is None:
                file = self._open[at.segment] = self._files.enter_context(at.segment.open("rb"))
            payload = read_chunk(file, at.offset)
        except OSError as error:
            raise RecordingError(
                f"cannot read the recording {at.segment}: {error.strerror or error}"
            ) from error
        if payload is None:
            return None
        try:
            message = decode(unpack(payload))
        except WireError:
            return None
        return message if isinstance(message, SpectraBlock) else None
