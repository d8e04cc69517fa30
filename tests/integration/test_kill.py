"""A daemon that is killed in the middle of a run, restarted, and finishes the same map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from support.daemons import ANY, DaemonProcess, get_health, hspy_layers
from support.polling import poll_until
from support.streams import counts_at, make_start
from zeroloss.wire import RunStart, ScanPlan
from zeroloss_clients.microscope.readout import Readout
from zeroloss_clients.microscope.sender import SendReport, StreamSender

PLAN = ScanPlan(shape=(20, 32))
SPECTRA = 640
BLOCK = 16


def flags(folder: Path, models: Path) -> list[str]:
    return [
        *("--recordings", str(folder / "recordings")),
        *("--models", str(models)),
        *("--use", "tiny"),
        *("--provider", "cpu"),
        *("--repair-s", "20"),
    ]


def reread(begin: int, end: int) -> Iterator[tuple[int, Readout]]:
    for first in range(begin, end, BLOCK):
        positions = range(first, min(end, first + BLOCK))
        yield first, Readout({"core_loss": counts_at(positions)})


def processed(address: str) -> int:
    runs = get_health(address)["runs"]
    return int(runs[0]["ledger"]["processed"]) if runs else 0


def wait_for_a_quarter(daemon: DaemonProcess) -> None:
    address = daemon.endpoints["http"]
    poll_until(lambda: processed(address) >= SPECTRA // 4, "a quarter of the map")


def stream(
    daemon: DaemonProcess, start: RunStart, restart: list[str] | None = None
) -> tuple[DaemonProcess, SendReport]:
    """Send the run; with `restart`, kill the daemon half-way and start it again."""
    sender = StreamSender(
        start,
        daemon.endpoints["source"],
        requests=daemon.endpoints["requests"],
        reread=reread,
    )
    with sender:
        for first, readout in reread(0, SPECTRA):
            if restart is not None and first == SPECTRA // 2:
                wait_for_a_quarter(daemon)
                same_ports = daemon.same_ports()
                daemon.kill()
                daemon = DaemonProcess(*restart, *same_ports)
            sender.send(first, readout.counts)
        return daemon, sender.finish()


def final_maps(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    (run,) = (folder / "recordings").glob("*/")
    poll_until(lambda: (run / "closed.json").exists(), "the run to be closed")
    return hspy_layers(run / "maps.hspy"), json.loads((run / "closed.json").read_text())


def test_the_map_after_a_kill_equals_the_undisturbed_one(tmp_path: Path, models: Path) -> None:
    start = make_start(PLAN, expected=SPECTRA)
    results = []
    for name, disturbed in (("calm", False), ("killed", True)):
        folder = tmp_path / name
        options = flags(folder, models)
        daemon = DaemonProcess(
            *options, "--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"
        )
        try:
            daemon, report = stream(daemon, start, options if disturbed else None)
            assert report.complete, report
            results.append(final_maps(folder))
        finally:
            daemon.stop()
    (calm, calm_note), (killed, killed_note) = results
    assert calm.keys() == killed.keys()
    for name, layer in calm.items():
        np.testing.assert_array_equal(killed[name], layer, err_msg=name)
    for note in (calm_note, killed_note):
        ledger = note["ledger"]
        assert isinstance(ledger, dict)
        assert ledger["announced"] == ledger["processed"] == SPECTRA
        assert ledger["missed"] == ledger["pending"] == 0
    assert calm_note["detected"] == killed_note["detected"]
