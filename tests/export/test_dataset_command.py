from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from zeroloss_export.cli import main
from zeroloss_export.physics.cross_section_table import CrossSectionTable

# Starting processes is most of the work, and long on a busy machine.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

SPECTRA = "3000"


@pytest.fixture
def cache(table: CrossSectionTable, tmp_path: Path) -> Path:
    path = tmp_path / "cross_sections.npz"
    table.save(path)
    return path


def _arguments(cache: Path, out: Path, *more: str) -> list[str]:
    whole = ["dataset", "--cross-sections", str(cache), "--out", str(out), "--spectra", SPECTRA]
    return [*whole, *more]


def _begun(arguments: list[str], parts: Path) -> subprocess.Popen[str]:
    """The command as a process of its own that has made a shard."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zeroloss_export.cli", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list(parts.glob("*.h5")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no shard within five minutes: {process.communicate()[1]}")
        time.sleep(0.01)
    return process


def test_a_killed_run_goes_on_to_the_same_file(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, killed = tmp_path / "undisturbed.h5", tmp_path / "killed.h5"
    assert main(_arguments(cache, undisturbed)) == 0
    assert "every element in" in capsys.readouterr().out
    parts = tmp_path / "killed.h5.parts"
    process = _begun(_arguments(cache, killed), parts)
    process.kill()
    process.communicate(timeout=300)
    assert not killed.exists()
    held = 0
    for path in parts.glob("*.h5"):
        with h5py.File(path, "r") as file:
            held += len(file["counts"])
    assert 0 < held < int(SPECTRA)
    # What a process leaves that is killed while it writes.
    (parts / "test-0000000.part").write_bytes(b"half a shard")
    assert main(_arguments(cache, killed)) == 0
    assert f"simulated {int(SPECTRA) - held}" in capsys.readouterr().out
    assert killed.read_bytes() == undisturbed.read_bytes()
    assert not parts.exists()
    assert main(_arguments(cache, killed)) == 0
    assert "is complete already" in capsys.readouterr().out


def test_several_processes_make_the_same_file(cache: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    assert main(_arguments(cache, one, "--spectra", "400")) == 0
    assert main(_arguments(cache, two, "--spectra", "400", "--processes", "2")) == 0
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another signal there")
def test_ctrl_c_leaves_whole_shards_and_says_how_to_go_on(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped.h5"
    parts = tmp_path / "stopped.h5.parts"
    process = _begun(_arguments(cache, out, "--spectra", "60000"), parts)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "zeroloss-export: stopped: " in said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    for shard in parts.glob("*.h5"):
        with h5py.File(shard, "r") as file:
            assert len(file["counts"]) > 0


def test_other_settings_do_not_go_on(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set.h5"
    small = ("--spectra", "100")
    assert main(_arguments(cache, out, *small)) == 0
    assert main(_arguments(cache, out, *small, "--seed", "2")) == 1
    assert "holds another data set" in capsys.readouterr().err
    parts = tmp_path / "other.h5.parts"
    parts.mkdir()
    (parts / "plan.json").write_text("{}")
    assert main(_arguments(cache, tmp_path / "other.h5", *small)) == 1
    assert "holds parts of another data set" in capsys.readouterr().err


def test_a_disk_without_room_is_told_before_anything_is_written(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "huge.h5"
    assert main(_arguments(cache, out, "--spectra", "10000000000000")) == 1
    assert "GB free in" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cross_sections.npz"]
