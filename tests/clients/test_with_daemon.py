"""Sender and live maps against the real daemon: killed in the middle, and as a subscriber."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from support.daemons import ANY, DaemonProcess
from support.packages import make_package
from support.polling import poll_until
from support.streams import ELEMENTS, counts_at, make_start
from zeroloss.scan import Coverage
from zeroloss.wire import ScanPlan
from zeroloss_clients import LiveMaps
from zeroloss_clients.microscope import FaultPlan, Readout, StreamSender

SPECTRA = 480
PLAN = ScanPlan(shape=(16, 30))
ADDRESSES = ("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0")


def reread(begin, end):
    yield begin, Readout({"core_loss": counts_at(range(begin, end))})


def send(sender, begin, end):
    for first in range(begin, end, 16):
        sender.send(first, {"core_loss": counts_at(range(first, min(end, first + 16)))})


@pytest.fixture
def flags(tmp_path):
    models = make_package(tmp_path / "models", labels=ELEMENTS).parent
    return [
        *("--recordings", str(tmp_path / "recordings"), "--models", str(models)),
        *("--use", "tiny", "--provider", "cpu", "--repair-s", "20"),
    ]


def test_live_maps_outlive_the_daemon(flags, monkeypatch):
    monkeypatch.setattr("zeroloss_clients._follower.SILENT_AFTER_S", 1.0)
    daemon = DaemonProcess(*flags, *ADDRESSES)
    where = daemon.endpoints
    sender = StreamSender(
        make_start(PLAN, expected=SPECTRA),
        where["source"],
        requests=where["requests"],
        reread=reread,
    )
    with LiveMaps(where["maps"], where["requests"]) as maps, sender:
        try:
            send(sender, 0, SPECTRA // 2)
            run = maps.wait_for_run(20)
            poll_until(lambda: (run.coverage == Coverage.DONE).sum() > SPECTRA // 4)
            same_ports = daemon.same_ports()
            daemon.kill()
            poll_until(lambda: not maps.connected)
            daemon = DaemonProcess(*flags, *same_ports)
            send(sender, SPECTRA // 2, SPECTRA)
            report = sender.finish()
            assert report.complete, report
            assert maps.wait_for_close(30) is run
        finally:
            daemon.stop()
    assert (run.coverage == Coverage.DONE).all()
    assert np.isfinite(run.layer("tiny/probability")).all()
    assert run.ledger.processed == run.ledger.announced == SPECTRA
    assert set(run.detected) == set(ELEMENTS)


def test_a_publishing_source_that_loses_messages_is_mended(flags):
    sender = StreamSender(
        make_start(PLAN, expected=SPECTRA),
        ANY,
        requests=None,
        pattern="pub",
        bind=True,
    )
    endpoint = sender.endpoint
    sender.close()
    daemon = DaemonProcess(
        *flags, *ADDRESSES[2:], "--source", endpoint, "--kind", "sub", "--connect"
    )
    try:
        sender = StreamSender(
            make_start(PLAN, expected=SPECTRA),
            endpoint,
            requests=daemon.endpoints["requests"],
            reread=reread,
            pattern="pub",
            bind=True,
            faults=FaultPlan.parse(["drop=0.2", "reorder=0.1", "duplicate=0.1"], seed=9),
        )
        with LiveMaps(daemon.endpoints["maps"], daemon.endpoints["requests"]) as maps:
            pusher = threading.Thread(target=send, args=(sender, 0, SPECTRA))
            pusher.start()
            pusher.join(30)
            report = sender.finish()
            assert report.complete, report
            assert report.repaired > 0
            run = maps.wait_for_close(30)
            assert (run.coverage == Coverage.DONE).all()
            assert run.ledger.balanced
            assert run.ledger.missed == 0
    finally:
        daemon.stop()
