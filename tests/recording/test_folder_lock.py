from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.recordings import make_start, make_stream, record
from zeroloss.recording import FolderHeldError, FolderLock, RecordingError, find_runs
from zeroloss.recording.folder_lock import LOCK_NAME, NOTE_BYTES

HOLD = """
import sys
from pathlib import Path
from zeroloss.recording import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(FolderHeldError) as raised:
            FolderLock(tmp_path)
        process.communicate("")
    said = str(raised.value)
    assert f"{tmp_path} is held by process {process.pid} on {socket.gethostname()} (since " in said
    assert "--recordings" in said
    FolderLock(tmp_path).release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        with FolderLock(tmp_path) as lock:
            assert lock.fault is None
            assert f'"pid": {os.getpid()}' in (tmp_path / LOCK_NAME).read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_two_of_one_process_are_kept_apart_and_a_folder_is_free_again(tmp_path: Path) -> None:
    link = tmp_path / "link"
    folder = tmp_path / "recordings"
    with FolderLock(folder) as lock:
        link.symlink_to(folder)
        with pytest.raises(FolderHeldError, match=f"process {os.getpid()} "):
            FolderLock(link)
        with FolderLock(tmp_path):
            pass  # the folder around it is another one
    lock.release()
    with FolderLock(link):
        pass


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\x00" * 300,
        b"[]",
        b'{"pid": "x", "host": "h", "since": "s"}',
        b'{"pid": Infinity, "host": "h", "since": "s"}',
        b"[" * NOTE_BYTES,
        b'{"pid": 1, "host": "a\\u001b[2Jb", "since": "s"}',
    ],
)
def test_a_note_that_says_nothing_is_no_obstacle(tmp_path: Path, note: bytes) -> None:
    with FolderLock(tmp_path):
        (tmp_path / LOCK_NAME).write_bytes(note)
        with pytest.raises(FolderHeldError, match="is held by another process: stop"):
            FolderLock(tmp_path)
    assert (tmp_path / LOCK_NAME).stat().st_size <= max(NOTE_BYTES, len(note))


def test_runs_of_a_held_folder_can_be_read(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        record(tmp_path, make_stream(make_start(), 3))
        (run,) = find_runs(tmp_path)
        assert len(list(run.messages())) == 5


def test_where_no_file_can_be_made_the_sentence_is_that_of_a_recording(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError) as raised:
        FolderLock(tmp_path / "file")
    assert str(raised.value) == (
        f"cannot record to {tmp_path / 'file'}: it is a file, not a folder; choose another folder "
        "for recordings"
    )
    with pytest.raises(RecordingError, match="a part of this path is a file, not a folder; choose"):
        FolderLock(tmp_path / "file" / "recordings")


@pytest.mark.skipif(sys.platform == "win32", reason="another system call")
def test_a_file_system_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path) as lock:
        assert lock.fault == (
            f"the recordings folder {tmp_path} cannot be locked (No locks available): see to it "
            "that nothing else records there"
        )


@pytest.mark.skipif(sys.platform == "win32", reason="no umask there")
def test_other_users_may_lock_the_folder_too(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        FolderLock(tmp_path).release()
    finally:
        os.umask(before)
    assert (tmp_path / LOCK_NAME).stat().st_mode & 0o777 == 0o666


AS_NOBODY = """
import errno, fcntl, os, sys
from pathlib import Path
from zeroloss.recording import FolderLock, RecordingError

def as_on_nfs(file, how, flock=fcntl.flock):
    if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    flock(file, how)

if sys.argv[1] == "nfs":
    fcntl.flock = as_on_nfs
if os.getuid() == 0:  # to whom nothing is forbidden
    os.seteuid(65534)
try:
    print(FolderLock(Path(".")).fault)
except RecordingError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files have no owner there")
@pytest.mark.parametrize("where", ["local", "nfs"])
def test_a_lock_that_another_user_has_left_is_taken_or_refused(tmp_path: Path, where: str) -> None:
    FolderLock(tmp_path).release()
    (tmp_path / LOCK_NAME).chmod(0o444)
    tmp_path.chmod(0o755)
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, where], cwd=tmp_path, capture_output=True, text=True
    )
    if where == "local":
        assert ended.stdout == "None\n", ended.stderr
    else:
        assert ended.stdout == (
            f"cannot lock {tmp_path / LOCK_NAME}, which is read-only here (Bad file descriptor): "
            "let its owner make it writable (chmod a+w)\n"
        ), ended.stderr
