"""A daemon of one's own on this machine, for as long as it is needed: demos, tests, scripts."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 15.0
LOG_LINES = 5


class LocalDaemonError(RuntimeError):
    """The daemon did not start, or ended on its own: what it said last."""


class LocalDaemon:
    """`zeroloss serve` as a child process on free loopback ports; recordings go to `folder`.

    Use it as a context manager: inside, it is ready; afterwards, it is stopped. `flags` are further
    flags of `zeroloss serve`. Endpoints: `source`, `maps`, `requests`; `http` is host:port.
    """

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self._log_path = folder / "daemon.log"
        command = [sys.executable, "-m", "zeroloss.cli", "serve", "--announce"]
        for name in ("source", "maps", "requests"):
            command += [f"--{name}", "tcp://127.0.0.1:0"]
        command += ["--http", "127.0.0.1:0", "--recordings", str(folder / "recordings"), *flags]
        # Ctrl-C is for us: a child in the same group would get it too, and stop before its turn.
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                **apart,
            )
        self._announced: list[bytes] = []
        self._reader = threading.Thread(target=self._read_announcement, daemon=True)
        self._reader.start()
        self.source = self.maps = self.requests = self.http = ""

    def _read_announcement(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            self._announced.append(stream.readline())
            # Read on, so that a talkative child never waits for us.
            for _ in stream:
                pass

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until the daemon answers /health with ok; `LocalDaemonError` if it does not."""
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while not self._announced or not self._healthy():
            self.check()
            if time.monotonic() > deadline:
                raise LocalDaemonError(
                    f"the daemon was not ready within {timeout_s:g} s{self._said()}"
                )
            pause.wait(0.05)

    def _healthy(self) -> bool:
        if not self.http:
            try:
                told = json.loads(self._announced[0])
                self.source, self.maps = str(told["source"]), str(told["maps"])
                self.requests, self.http = str(told["requests"]), str(told["http"])
            except (ValueError, KeyError, TypeError):
                self.check()
                return False
        try:
            with urllib.request.urlopen(f"http://{self.http}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def check(self) -> None:
        """`LocalDaemonError` when the daemon has ended on its own."""
        code = self._process.poll()
        if code is not None:
            raise LocalDaemonError(f"the daemon ended (exit code {code}){self._said()}")

    def _said(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-LOG_LINES:])

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ask it to stop; end it when it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._reader.join()

    def __enter__(self) -> LocalDaemon:
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
