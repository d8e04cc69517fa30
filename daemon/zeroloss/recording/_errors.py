"""The one error of this room."""

from __future__ import annotations

import errno
from pathlib import Path

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EFBIG: "the file may not grow any further",
    errno.EDQUOT: "the disk quota is used up",
}
_REASONS = _NO_ROOM | {
    errno.EACCES: "the folder is not writable",
    errno.EPERM: "the folder is not writable",
    errno.EROFS: "the disk is read-only",
    errno.EEXIST: "it is a file, not a folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
}


class RecordingError(OSError):
    """A recording that cannot be written or read; one sentence says why and what to do."""


def cannot_write(path: Path, error: OSError) -> RecordingError:
    """The sentence for an error of the operating system while writing to `path`."""
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    remedy = "make room or choose" if error.errno in _NO_ROOM else "choose"
    return RecordingError(
        f"cannot record to {path}: {reason}; {remedy} another folder for recordings"
    )
