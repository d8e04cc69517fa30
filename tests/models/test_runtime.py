"""ONNX Runtime missing, doubled or broken is explained; tried with real folders and processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import onnxruntime
import pytest

import zeroloss
from zeroloss.models import InstallError
from zeroloss.models.runtime import import_onnxruntime, installed_wheels

SITE = Path(numpy.__file__).parents[1]
DAEMON = Path(zeroloss.__file__).parents[1]
PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
from zeroloss.models import ModelError
from zeroloss.models.runtime import import_onnxruntime
try:
    print("version", import_onnxruntime().__version__)
except ModelError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site-packages folder with all that is installed but ONNX Runtime."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for item in SITE.iterdir():
        if not item.name.lower().startswith("onnxruntime"):
            link(folder, item)
    return folder


def link(folder: Path, item: Path) -> None:
    try:
        (folder / item.name).symlink_to(item, target_is_directory=item.is_dir())
    except OSError as error:
        pytest.skip(f"this account may not make links: {error}")


def add_wheel(site: Path, name: str, version: str = "1.31.1") -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8"
    )


def ask(*folders: Path) -> str:
    """What a fresh Python says that sees the standard library and these folders only."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, *map(str, folders), str(DAEMON)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return line


def test_missing(site: Path) -> None:
    answer = ask(site)
    assert answer.startswith("InstallError ONNX Runtime is not installed: ")
    assert 'pip install "zeroloss[cpu]"' in answer
    assert 'pip install "zeroloss[gpu]"' in answer


def test_sound(site: Path) -> None:
    for item in SITE.iterdir():
        if item.name.lower().startswith("onnxruntime"):
            link(site, item)
    assert ask(site) == f"version {onnxruntime.__version__}"


def test_both_wheels(site: Path) -> None:
    link(site, Path(onnxruntime.__file__).parent)
    add_wheel(site, "onnxruntime")
    add_wheel(site, "onnxruntime-gpu")
    assert ask(site).startswith(
        "InstallError onnxruntime and onnxruntime-gpu are installed together and overwrite each "
        "other's files: run pip uninstall -y onnxruntime onnxruntime-gpu, then pip install"
    )


def test_the_rest_of_an_uninstalled_wheel(site: Path) -> None:
    (site / "onnxruntime" / "capi").mkdir(parents=True)
    add_wheel(site, "onnxruntime-gpu")
    answer = ask(site)
    assert f"broken (only a rest of it is left in {site / 'onnxruntime'})" in answer
    assert "run pip uninstall -y onnxruntime-gpu, delete the folder onnxruntime" in answer


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import onnxruntime.capi", "broken (No module named 'onnxruntime.capi')"),
        (
            "raise ImportError('DLL load failed while importing it')",
            "broken (ImportError: DLL load failed while importing it)",
        ),
    ],
)
def test_a_wheel_that_does_not_import(site: Path, source: str, expected: str) -> None:
    (site / "onnxruntime").mkdir()
    (site / "onnxruntime" / "__init__.py").write_text(source, "utf-8")
    add_wheel(site, "onnxruntime")
    assert expected in ask(site)


def test_a_wheel_added_beside_the_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (real,) = installed_wheels()
    other = "onnxruntime-gpu" if real == "onnxruntime" else "onnxruntime"
    add_wheel(tmp_path, other)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InstallError, match=r"onnxruntime and onnxruntime-gpu are installed"):
        import_onnxruntime()
