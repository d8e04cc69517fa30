"""Two daemons on one folder of recordings: the second is refused until the first is gone."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zmq

from support.daemons import ANY, DaemonProcess, get_health, make_config, running_daemon
from support.polling import poll_until
from support.streams import counts_at, make_blocks, make_end, make_start
from zeroloss.cli import EXIT_FAILED, main
from zeroloss.recording import FolderHeldError, FolderLock
from zeroloss.recording.spectrum_files import read_measurement
from zeroloss.wire import ScanPlan, encode

PLAN = ScanPlan(shape=(8, 12))
SPECTRA = 96


@pytest.fixture
def flags(tmp_path: Path, models: Path) -> list[str]:
    return [
        *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
        *("--recordings", str(tmp_path / "recordings"), "--models", str(models)),
        *("--use", "tiny", "--provider", "cpu", "--repair-s", "0.2"),
    ]


def processed(daemon: DaemonProcess) -> int:
    return sum(run["ledger"]["processed"] for run in get_health(daemon.endpoints["http"])["runs"])


def refused(*command: str) -> tuple[int, str]:
    """Exit code and stderr of a command that ends by itself."""
    ended = subprocess.run(
        [sys.executable, "-m", "zeroloss.cli", *command], capture_output=True, text=True, timeout=60
    )
    return ended.returncode, ended.stderr


def test_the_second_is_refused_and_takes_over_when_the_first_was_killed(
    tmp_path: Path, flags: list[str]
) -> None:
    start = make_start(PLAN, expected=SPECTRA)
    blocks = list(make_blocks(start, SPECTRA))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    first = DaemonProcess(*flags)
    second: DaemonProcess | None = None
    try:
        with context.socket(zmq.PUSH) as push:
            push.connect(first.endpoints["source"])
            for message in (start, *blocks[:3]):
                push.send_multipart(encode(message))
            poll_until(lambda: processed(first) == 48, "half of the map")
        for command in (
            # Also where the port of the source is taken: the folder comes first.
            ("serve", *flags, *first.same_ports()),
            ("record", "--source", ANY, "--recordings", str(tmp_path / "recordings")),
        ):
            code, said = refused(*command)
            assert code == 2
            assert said.startswith(f"zeroloss {command[0]}: the recordings folder {tmp_path}")
            assert f"process {first.process.pid} on {socket.gethostname()}" in said
            assert said.count("\n") == 1
        assert get_health(first.endpoints["http"])["status"] == "ok"
        (folder,) = (tmp_path / "recordings").glob("*/")
        # What only reads is not hindered.
        measured = read_measurement(folder)
        np.testing.assert_array_equal(measured.counts["core_loss"][:48], counts_at(range(48)))
        first.kill()
        second = DaemonProcess(*flags)
        poll_until(lambda: processed(second) == 48, "what was recorded to be mapped again")
        with context.socket(zmq.PUSH) as push:
            push.connect(second.endpoints["source"])
            for message in (start, *blocks[3:], make_end(start, SPECTRA)):
                push.send_multipart(encode(message))
            poll_until(lambda: (folder / "closed.json").exists(), "the run to close")
    finally:
        first.process.kill()
        first.process.communicate()
        if second is not None:
            second.stop()
        context.term()


def test_where_the_folder_is_held_no_source_is_connected_to(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    connect = ("--connect", "--sole-consumer", "--kind", "pull")
    with socket.create_server(("127.0.0.1", 0)) as pushing, FolderLock(tmp_path / "recordings"):
        address = f"tcp://127.0.0.1:{pushing.getsockname()[1]}"
        assert main(["serve", *flags, *connect, "--source", address]) == EXIT_FAILED
        assert "is held by process" in capsys.readouterr().err
        pushing.setblocking(False)
        with pytest.raises(BlockingIOError):
            pushing.accept()


def test_a_file_where_the_folder_should_be_is_told_once(tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "recordings").write_text("")
    said = DaemonProcess(*flags).stop()
    assert said.count("RECORDING STOPPED") == 1
    assert f"cannot record to {tmp_path / 'recordings'}: it is a file, not a folder; choose" in said


def test_without_recording_the_folder_may_be_held(tmp_path: Path, flags: list[str]) -> None:
    with FolderLock(tmp_path / "recordings"):
        daemon = DaemonProcess(*flags, "--no-record")
        assert daemon.stop() is not None
        assert daemon.process.returncode == 0


def test_a_folder_that_others_took_meanwhile_is_left_to_them(tmp_path: Path, models: Path) -> None:
    config = make_config(tmp_path, models)
    folder = config.recording.recordings
    folder.write_text("a file where the folder should be")
    with running_daemon(config) as running:
        folder.unlink()
        with FolderLock(folder):
            running.send_run(make_start(PLAN), SPECTRA)
            finished = running.wait_finished()
            assert "is held by process" in running.health()["recording"]["fault"]
        assert finished.folder is None
        assert finished.run.totals().processed == SPECTRA
        running.send_run(make_start(PLAN), SPECTRA)
        assert running.wait_finished(2).folder is not None
        with pytest.raises(FolderHeldError):
            FolderLock(folder)
    FolderLock(folder).release()
