"""Real daemons for tests: in this process on random ports, or as a process that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import zmq

from support.polling import DEADLINE_S, poll_until
from support.streams import make_blocks, make_end
from zeroloss.config import Config
from zeroloss.service import Daemon, Finished
from zeroloss.sources import NativeSource
from zeroloss.wire import Message, RunStart, decode, encode

ANY = "tcp://127.0.0.1:0"


def make_config(folder: Path, models: Path, /, **sections: dict[str, Any]) -> Config:
    """Random ports, recordings in `folder`, the packages in `models`, short waits."""
    values: dict[str, dict[str, Any]] = {
        "stream": {"source": ANY},
        "outputs": {"maps": ANY, "requests": ANY, "http": "127.0.0.1:0"},
        "models": {"models": (models,), "use": ("tiny",), "provider": "cpu"},
        "recording": {"recordings": folder / "recordings"},
        "runs": {"repair_s": 0.2},
    }
    for section, changes in sections.items():
        values.setdefault(section, {}).update(changes)
    return Config.model_validate(values)


@dataclass
class RunningDaemon:
    """A daemon of this process, and a PUSH socket into it."""

    daemon: Daemon
    endpoint: str
    push: zmq.Socket[bytes]
    finished: list[Finished]

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.push.send_multipart(encode(message))

    def send_run(self, start: RunStart, spectra: int) -> None:
        self.send(start, *make_blocks(start, spectra), make_end(start, spectra))

    def wait_finished(self, runs: int = 1) -> Finished:
        poll_until(lambda: len(self.finished) >= runs, "the run to finish")
        return self.finished[runs - 1]

    def health(self) -> dict[str, Any]:
        return get_health(f"{self.daemon.http.host}:{self.daemon.http.port}")


@contextmanager
def running_daemon(config: Config) -> Iterator[RunningDaemon]:
    """Start a daemon on `config`, give it, and close it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    source = NativeSource(config.stream.source, kind=config.stream.kind, bind=True)
    finished: list[Finished] = []
    daemon = Daemon(config, source, on_finished=finished.append)
    pool = ThreadPoolExecutor(1)
    push = context.socket(zmq.PUSH)
    push.linger = 0
    push.connect(source.endpoint)
    try:
        daemon.start()
        serving = pool.submit(daemon.serve)
        yield RunningDaemon(daemon, source.endpoint, push, finished)
        daemon.stop()
        serving.result()
    finally:
        daemon.close()
        pool.shutdown()
        source.close()
        push.close()
        context.term()


class DaemonProcess:
    """`zeroloss serve` as a process of its own."""

    def __init__(self, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zeroloss.cli", "serve", "--announce", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, error = self.process.communicate()
            raise AssertionError(f"the daemon did not start: {error}")
        self.endpoints: dict[str, str] = json.loads(line)

    def same_ports(self) -> list[str]:
        """Flags that put another daemon at the same addresses."""
        return [flag for name, address in self.endpoints.items() for flag in (f"--{name}", address)]

    def kill(self) -> None:
        """SIGKILL, or what comes closest to it."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> str:
        """Ask it to stop; returns what it said on stderr."""
        self.process.terminate()
        _, error = self.process.communicate(timeout=DEADLINE_S)
        return error


def get_health(address: str) -> dict[str, Any]:
    """The JSON of /health, whatever its HTTP status."""
    try:
        with urlopen(f"http://{address}/health", timeout=5) as reply:
            text = reply.read()
    except HTTPError as error:
        with error:
            text = error.read()
    health: dict[str, Any] = json.loads(text)
    return health


def collect(socket: zmq.Socket[bytes], kinds: set[str], count: int) -> list[Message]:
    """The next `count` messages of these kinds from a subscriber socket."""
    out: list[Message] = []
    end = monotonic() + DEADLINE_S
    while len(out) < count:
        assert monotonic() < end, f"waited for {kinds}, got {[item.KIND for item in out]}"
        if socket.poll(100):
            message = decode(socket.recv_multipart())
            if message.KIND in kinds:
                out.append(message)
    return out


def hspy_layers(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every data array of a map file, by the name of its experiment."""
    import h5py

    with h5py.File(path, "r") as file:
        return {name: group["data"][()] for name, group in file["Experiments"].items()}
