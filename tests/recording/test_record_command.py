"""`zeroloss record` as a process: what it writes, says and returns."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from support.polling import poll_until
from support.recordings import BLOCK, frames, make_block, make_start, make_stream
from zeroloss.recording import find_runs
from zeroloss.wire import Message, RunEnd, encode


class Recording:
    """A running `zeroloss record`, and a PUSH socket into it."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "zeroloss.cli", "record", "--source", "tcp://127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, "--recordings", str(folder), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        found = re.search(r"tcp://[\d.:]+", self.process.stderr.readline())
        assert found is not None
        self.context = zmq.Context()
        self.push = self.context.socket(zmq.PUSH)
        self.push.linger = 0
        self.push.connect(found.group())

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.push.send_multipart(encode(message))

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, output, messages."""
        output, errors = self.process.communicate(timeout=30)
        return self.process.returncode, output, errors

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.push.close()
        self.context.term()


@pytest.fixture
def recording(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Recording]:
    recording = Recording(tmp_path, *getattr(request, "param", ()))
    yield recording
    recording.close()


def messages_in(folder: Path) -> int:
    return sum(len(list(run.messages())) for run in find_runs(folder))


def test_a_whole_run_is_recorded_and_accounted_for(tmp_path: Path, recording: Recording) -> None:
    stream = make_stream(make_start(), 20)
    recording.send(*stream)
    code, output, _ = recording.finish()
    assert code == 0
    assert f"announced {20 * BLOCK} = recorded {20 * BLOCK} + missing 0" in output
    assert "ended: success" in output
    [run] = find_runs(tmp_path)
    assert [item.parts for item in run.messages()] == [frames(message) for message in stream]


def test_missing_spectra_are_told_and_change_the_exit_code(
    tmp_path: Path, recording: Recording
) -> None:
    start = make_start()
    stream = make_stream(start, 20)[1:]
    lost = make_block(start, 5).first
    recording.send(start, *(item for item in stream if getattr(item, "first", None) != lost))
    code, output, _ = recording.finish()
    assert code == 1
    assert f"announced {20 * BLOCK} = recorded {19 * BLOCK} + missing {BLOCK}" in output
    assert f"missing positions: {lost}-{lost + BLOCK - 1}" in output


def test_what_cannot_be_recorded_is_counted(recording: Recording) -> None:
    stream = make_stream(make_start(), 4)
    recording.send(make_block(make_start(), 0))
    recording.push.send_multipart([b"spec//", b"\xc1"])
    recording.send(*stream)
    code, output, _ = recording.finish()
    assert code == 0
    assert "not recorded: 1 blocks of a run whose start was not heard" in output
    assert "not recorded: 1 malformed messages" in output


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C for a single process there")
@pytest.mark.parametrize("recording", [("--keep",)], indirect=True)
def test_ctrl_c_ends_the_recording_with_a_summary(tmp_path: Path, recording: Recording) -> None:
    one, two = make_stream(make_start(), 3), make_stream(make_start(), 5)[:-1]
    recording.send(*one, *two)

    poll_until(lambda: messages_in(tmp_path) == len(one) + len(two), "everything to be recorded")
    recording.process.send_signal(signal.SIGINT)
    code, output, errors = recording.finish()
    assert code == 130
    assert "ended: success" in output
    assert "was not ended by its source" in output
    assert "Traceback" not in errors
    assert all(run.damage == [] for run in find_runs(tmp_path))


def test_an_interrupted_recording_goes_on_and_its_ledger_with_it(
    tmp_path: Path, recording: Recording
) -> None:
    start = make_start()
    recording.send(start, *(make_block(start, index) for index in range(4)))
    poll_until(lambda: messages_in(tmp_path) == 5, "everything to be recorded")
    recording.process.kill()
    recording.process.wait()
    again = Recording(tmp_path)
    try:
        again.send(start, *(make_block(start, index) for index in range(4, 6)))
        again.send(RunEnd(run=start.run, seq=7, t_ns=0, spectra=6 * BLOCK))
        code, output, _ = again.finish()
    finally:
        again.close()
    assert code == 0
    assert f"announced {6 * BLOCK} = recorded {6 * BLOCK} + missing 0" in output


def test_a_folder_that_cannot_be_written_is_one_sentence_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", "utf-8")
    code, errors = refused(tmp_path / "file")
    assert code == 2
    assert errors.startswith("zeroloss record: cannot record to")
    assert errors.count("\n") == 1


def test_a_folder_that_another_recorder_holds_is_refused(
    tmp_path: Path, recording: Recording
) -> None:
    code, errors = refused(tmp_path)
    assert code == 2
    assert errors.startswith(f"zeroloss record: the recordings folder {tmp_path} is held by ")
    assert f"process {recording.process.pid} on {socket.gethostname()}" in errors
    assert "--recordings" in errors
    assert errors.count("\n") == 1
    # The first is not disturbed.
    recording.send(*make_stream(make_start(), 5))
    assert recording.finish()[0] == 0


def refused(folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a recorder that does not get as far as its source."""
    command = [sys.executable, "-m", "zeroloss.cli", "record", "--source", "tcp://127.0.0.1:0"]
    ended = subprocess.run(
        [*command, "--recordings", str(folder)], capture_output=True, text=True, timeout=60
    )
    return ended.returncode, ended.stderr
