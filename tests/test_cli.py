from __future__ import annotations

import subprocess
import sys

import pytest

from zeroloss.cli import EXIT_FAILED, main

COMMANDS = (
    *("serve", "demo", "record", "replay", "watch", "spectrum"),
    *("map", "identify", "models", "microscope"),
)


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_FAILED
    words = capsys.readouterr().out.split()
    for name in COMMANDS:
        assert name in words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"zeroloss {name}" in said.partition("example")[2]


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["elephants"])
    assert stopped.value.code == EXIT_FAILED
    assert "elephants" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("imported", "forbidden"),
    [
        ("zeroloss_clients", ("onnxruntime", "torch", "pydantic", "mcap", "h5py", "rsciio")),
        ("zeroloss.service", ("torch", "rsciio", "hyperspy", "matplotlib", "scipy")),
        ("zeroloss.cli", ("onnxruntime", "torch", "numpy", "zmq")),
    ],
)
def test_imports_stay_light(imported: str, forbidden: tuple[str, ...]) -> None:
    program = (
        f"import sys, {imported}; print([name for name in {forbidden!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
