from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.daemons import hspy_layers
from support.packages import make_package
from support.streams import CHANNELS, ELEMENTS, counts_at
from zeroloss.cli import EXIT_FAILED, main
from zeroloss.models import ModelSession, load_package

pytest.importorskip("rsciio", reason="reading spectrum files needs RosettaSciIO")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A spectrum image of 3 x 4 pixels in a file that HyperSpy would write."""
    path = tmp_path / "scan.hspy"
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        group = file.create_group("Experiments/scan")
        group.create_dataset("data", data=counts_at(range(12)).reshape(3, 4, CHANNELS))
        axes = [("y", 3, 2.0, 0.0, "nm", True), ("x", 4, 2.0, 0.0, "nm", True)]
        axes.append(("Energy loss", CHANNELS, 1.0, 100.0, "eV", False))
        for index, (name, size, scale, offset, units, navigate) in enumerate(axes):
            axis = group.create_group(f"axis-{index}")
            axis.attrs.update(
                name=name, size=size, scale=scale, offset=offset, units=units, navigate=navigate
            )
        group.create_group("metadata/Signal").attrs["signal_type"] = "EELS"
        group.create_group("metadata/General").attrs["title"] = "scan"
        group.create_group("original_metadata")
    return path


def run_map(scan: Path, models: Path, out: Path, *flags: str) -> int:
    model = ["--models", str(models), "--use", "tiny", "--provider", "cpu"]
    return main(["map", str(scan), "--out", str(out), *model, *flags])


def test_a_spectrum_image_becomes_a_map_file(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_package(tmp_path / "models", labels=ELEMENTS)
    out = tmp_path / "maps.hspy"
    assert run_map(scan, package.parent, out) == 0
    assert "12 of 12 spectra mapped" in capsys.readouterr().out
    session = ModelSession(load_package(package))
    expected = session.run(counts_at(range(12)).astype(np.float32), 100.0, 1.0)["probability"]
    found = [layer for layer in hspy_layers(out).values() if layer.shape == (4, 3, 4)]
    assert any(np.array_equal(layer, expected.T.reshape(4, 3, 4)) for layer in found)
    assert list(tmp_path.glob("zeroloss-map-*")) == []


def test_a_map_file_is_not_overwritten_unasked(
    tmp_path: Path, scan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = make_package(tmp_path / "models", labels=ELEMENTS)
    out = tmp_path / "maps.hspy"
    out.write_text("mine")
    assert run_map(scan, package.parent, out) == EXIT_FAILED
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run_map(scan, package.parent, out, "--force") == 0
    assert out.read_bytes()[:4] == b"\x89HDF"


def test_a_file_that_is_no_spectrum_image_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no spectra here")
    assert main(["map", str(path), "--out", str(tmp_path / "maps.hspy")]) == EXIT_FAILED
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "notes.txt" in said


def test_a_line_of_pixels_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = make_package(tmp_path / "models", labels=ELEMENTS)
    line = tmp_path / "line_100eV_999eV.txt"
    np.savetxt(line, counts_at(range(3)), delimiter="\t")
    assert run_map(line, package.parent, tmp_path / "maps.hspy") == 0
    assert "3 of 3 spectra mapped" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_disk_that_is_full_is_one_sentence(tmp_path: Path, scan: Path) -> None:
    package = make_package(tmp_path / "models", labels=ELEMENTS)
    limited = (
        "import resource, sys; from zeroloss.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "maps.hspy"
    flags = ["--models", str(package.parent), "--use", "tiny", "--provider", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", limited, "map", str(scan), "--out", str(out), *flags],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == EXIT_FAILED
    assert "Traceback" not in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("zeroloss map: no map ")
    assert not out.exists()
