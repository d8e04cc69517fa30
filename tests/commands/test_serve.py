from __future__ import annotations

import socket
from pathlib import Path

import pytest

from support.daemons import ANY, DaemonProcess, get_health
from support.packages import make_package
from zeroloss.cli import EXIT_FAILED, main


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return make_package(tmp_path / "models").parent


@pytest.fixture
def taken_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def flags(folder: Path, models: Path, **changes: str) -> list[str]:
    values = {
        "source": ANY,
        "maps": ANY,
        "requests": ANY,
        "http": "127.0.0.1:0",
        "recordings": str(folder / "recordings"),
        "models": str(models),
        "use": "tiny",
        "provider": "cpu",
    } | changes
    return [text for name, value in values.items() for text in (f"--{name}", value)]


def test_it_announces_its_endpoints_and_stops_cleanly(tmp_path: Path, models: Path) -> None:
    daemon = DaemonProcess(*flags(tmp_path, models))
    health = get_health(daemon.endpoints["http"])
    said = daemon.stop()
    assert health["status"] == "ok"
    assert [model["name"] for model in health["models"]] == ["tiny"]
    assert daemon.process.returncode == 0
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["source", "maps", "requests", "http"])
def test_a_port_already_taken_is_one_sentence(
    tmp_path: Path,
    models: Path,
    taken_port: int,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prefix = "" if name == "http" else "tcp://"
    address = f"{prefix}127.0.0.1:{taken_port}"
    code = main(["serve", *flags(tmp_path, models, **{name: address})])
    said = capsys.readouterr().err.strip()
    assert code == EXIT_FAILED
    assert str(taken_port) in said
    assert said.count("\n") == 0
    assert said.startswith("zeroloss serve: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use": "elephants"}, ["elephants", "tiny"]),
        ({"provider": "cuda"}, ["cuda"]),
        ({"source": "tcp://0.0.0.0:0"}, ["0.0.0.0"]),
        ({"maps": "tcp://0.0.0.0:0"}, ["0.0.0.0"]),
        ({"http": "localhost"}, ["outputs.http", "localhost"]),
    ],
)
def test_what_cannot_work_is_one_sentence(
    tmp_path: Path,
    models: Path,
    change: dict[str, str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["serve", *flags(tmp_path, models, **change)])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == EXIT_FAILED
    for word in words:
        assert word in said
