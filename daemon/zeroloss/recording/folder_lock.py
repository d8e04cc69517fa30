"""One writer per folder of recordings: a lock of the operating system, gone with its process."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from ._errors import RecordingError, cannot_write

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "zeroloss.lock"
NOTE_BYTES = 512
"""The note of the holder, filled up with blanks, so that the file need never be cut."""
_LOCKED_AT = 4096
"""The byte that is locked on Windows, where a locked byte cannot be read: behind the note."""
_HELD = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)


class FolderHeldError(RecordingError):
    """Another process records into this folder; the sentence says which."""


class FolderLock:
    """Holds a folder of recordings against every other writer, until `release` or the process ends.

    The lock is the operating system's, on the file `zeroloss.lock` in the folder, which stays there
    and does not matter when nobody holds it: a process that was killed holds nothing. Readers need
    no lock.

    `fault` is why there is no lock where the file system has none; the folder may be written then,
    and that nobody else does is for its owner to see to. None where the folder is held.
    """

    def __init__(self, root: Path) -> None:
        """Make the folder and take it.

        Raises `FolderHeldError` when another process holds it, `RecordingError` when there can be
        no file in it, or only one that may be read and for that reason not be locked.
        """
        self.fault: str | None = None
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._file, writable = _opened(root / LOCK_NAME)
        except OSError as error:
            raise cannot_write(root, error) from error
        try:
            _take(self._file)
        except OSError as error:
            if error.errno in _HELD:
                try:
                    holder = _read_note(self._file)
                finally:
                    os.close(self._file)
                raise FolderHeldError(
                    f"the recordings folder {root.absolute()} is held by {holder}: stop that one, "
                    "or record into another folder (--recordings DIR)"
                ) from None
            if not writable:
                # NFS on Linux refuses it, and so the folder may well be held.
                os.close(self._file)
                raise RecordingError(
                    f"cannot lock {root.absolute() / LOCK_NAME}, which is read-only here "
                    f"({error.strerror or error}): let its owner make it writable (chmod a+w)"
                ) from error
            self.fault = (
                f"the recordings folder {root.absolute()} cannot be locked "
                f"({error.strerror or error}): see to it that nothing else records there"
            )
        # A file of another user can be locked, but not written: its note stays the older one.
        with suppress(OSError):
            _write_note(self._file, _note())
        self._released = False

    def release(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if self._released:
            return
        self._released = True
        with suppress(OSError):
            _write_note(self._file, "")
        os.close(self._file)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _opened(path: Path) -> tuple[int, bool]:
    """The lock file, and whether it may be written."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDWR):
        # In a sticky folder Linux opens the file of another user only without O_CREAT.
        with suppress(PermissionError):
            file = os.open(path, flags, 0o666)
            if sys.platform != "win32":
                # Past the umask: others who may write to the folder are to lock it as well.
                with suppress(OSError):
                    os.fchmod(file, 0o666)
            return file, True
    return os.open(path, os.O_RDONLY), False


if sys.platform == "win32":

    def _take(file: int) -> None:
        os.lseek(file, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:

    def _take(file: int) -> None:
        # Not lockf: that lock would be lost with any other descriptor of the file that is closed.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _note() -> str:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _write_note(file: int, text: str) -> None:
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, text.encode("ascii")[:NOTE_BYTES].ljust(NOTE_BYTES))


def _read_note(file: int) -> str:
    """Who holds the folder, in words; the note may be missing, or be anything."""
    with suppress(OSError, ValueError, OverflowError, RecursionError, KeyError, TypeError):
        os.lseek(file, 0, os.SEEK_SET)
        note = json.loads(os.read(file, NOTE_BYTES))
        host, since = (str(note[key]) for key in ("host", "since"))
        if host.isprintable() and since.isprintable():
            return f"process {int(note['pid'])} on {host} (since {since})"
    return "another process"
