"""A file under HDF5 that keeps its write errors to itself until it is asked."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class CarefulFile(io.FileIO):
    """A binary file whose writes always seem to succeed; `check` raises the first error.

    The HDF5 library cannot close a file on a full disk: it leaves objects behind whose release
    ends the process. So it must not notice.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, or nothing more once there was an error."""
        view = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += super().write(view[done:])
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file, unless there was an error."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return self.tell() if size is None else size

    def check(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self.error is not None:
            raise self.error
