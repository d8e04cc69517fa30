"""A daemon process whose model package is renewed between and during runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import h5py
import numpy as np
import pytest
import zmq

from support.daemons import ANY, DaemonProcess, get_health
from support.packages import put_package
from support.polling import poll_until
from support.streams import ELEMENTS, counts_at, make_blocks, make_end, make_start
from zeroloss.models import ModelSession, load_package
from zeroloss.recording import RecordedRun
from zeroloss.wire import Message, RunStart, ScanPlan, encode

PLAN = ScanPlan(shape=(4, 16))
SPECTRA = 64
BACKWARDS = ELEMENTS[::-1]


class Site:
    """A folder of packages, a daemon on it, and a socket into the daemon."""

    def __init__(self, folder: Path, push: zmq.Socket[bytes]) -> None:
        self.recordings = folder / "recordings"
        self.package = folder / "models" / "tiny"
        self.package.parent.mkdir(exist_ok=True)
        self.daemon = DaemonProcess(
            *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
            *("--recordings", str(self.recordings), "--models", str(self.package.parent)),
            *("--use", "tiny", "--provider", "cpu", "--repair-s", "0.2"),
        )
        self.push = push
        push.connect(self.daemon.endpoints["source"])

    @property
    def health(self) -> dict[str, Any]:
        return get_health(self.daemon.endpoints["http"])

    def put(self, **options: Any) -> str:
        """Write the package, and wait until the next run would have it."""
        sha256 = put_package(self.package, **options)
        poll_until(
            lambda: [item["sha256"] for item in self.health["models"]] == [sha256],
            "the new package",
        )
        return sha256

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.push.send_multipart(encode(message))

    def send_run(self) -> RunStart:
        start = make_start(PLAN, expected=SPECTRA)
        self.send(start, *make_blocks(start, SPECTRA), make_end(start, SPECTRA))
        return start

    def maps(self, start: RunStart) -> tuple[str, np.ndarray]:
        """Hash of the package and probabilities [spectrum, label] of a finished run."""
        (folder,) = self.recordings_of(start)
        poll_until(lambda: (folder / "closed.json").exists(), "the run to be closed")
        with h5py.File(folder / "maps.hspy") as file:
            layers = {
                group["metadata/Zeroloss"].attrs["layer"]: group
                for group in file["Experiments"].values()
            }
            group = layers["tiny/probability"]
            sha256 = group["metadata/Zeroloss/package"].attrs["sha256"]
            data = group["data"][()]
        return str(sha256), data.reshape(len(data), -1).T

    def recordings_of(self, start: RunStart) -> list[Path]:
        found: list[Path] = []

        def recorded() -> bool:
            found[:] = self.recordings.glob(f"*-{start.run[:4].hex()}")
            return bool(found)

        poll_until(recorded, "the recording")
        return found


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 0
        site = Site(folder, push)
        try:
            yield site
        finally:
            site.daemon.kill()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    put_package(tmp_path / "models" / "tiny", version="1", labels=ELEMENTS)
    with open_site(tmp_path) as site:
        yield site


def expected(package: Path) -> np.ndarray:
    counts = counts_at(range(SPECTRA)).astype(np.float32)
    return ModelSession(load_package(package)).run(counts, 100.0, 1.0)["probability"]


def test_a_run_keeps_its_model_and_the_next_one_has_the_new(site: Site, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(site.package, old)
    first = make_start(PLAN, expected=SPECTRA)
    blocks = list(make_blocks(first, SPECTRA))
    site.send(first, *blocks[:2])
    poll_until(lambda: len(site.health["runs"]) == 1, "the first run")
    new_hash = site.put(version="2", labels=BACKWARDS)
    old_hash = load_package(old).sha256
    # Both are at work: the run goes on with its own, and the next one is given the other.
    assert site.health["runs"][0]["models"] == {"tiny": old_hash}
    second = make_start(PLAN, expected=SPECTRA)
    site.send(second, *make_blocks(second, SPECTRA), make_end(second, SPECTRA))
    site.send(*blocks[2:], make_end(first, SPECTRA))
    for start, sha256, package in ((first, old_hash, old), (second, new_hash, site.package)):
        stamped, probability = site.maps(start)
        assert stamped == sha256
        np.testing.assert_array_equal(probability, expected(package))
    with urlopen(f"http://{site.daemon.endpoints['http']}/metrics", timeout=5) as reply:
        assert b'zeroloss_model_swaps_total{package="tiny"} 1.0' in reply.read()

    # The recording of the first run, played again, is a new run; the old maps stay what they were.
    (folder,) = site.recordings_of(first)
    before = (folder / "maps.hspy").read_bytes()
    again = make_start(PLAN, expected=SPECTRA)
    played = [replace(block, run=again.run) for _, block in RecordedRun(folder).blocks()]
    site.send(again, *played, make_end(again, SPECTRA))
    stamped, probability = site.maps(again)
    assert stamped == new_hash
    np.testing.assert_array_equal(probability, expected(site.package))
    assert (folder / "maps.hspy").read_bytes() == before


def test_a_broken_package_hides_nothing(site: Site) -> None:
    (old,) = (item["sha256"] for item in site.health["models"])
    (site.package / "model.onnx").write_bytes(b"half of a graph")
    poll_until(lambda: site.health["models_broken"], "the broken package")
    health = site.health
    assert health["status"] == "ok"
    assert [(item["sha256"], item["on_disk"]) for item in health["models"]] == [(old, False)]
    assert health["models_broken"][0]["folder"] == str(site.package)
    assert "the package is damaged" in health["models_broken"][0]["reason"]
    assert site.maps(site.send_run())[0] == old
    new = site.put(version="2", labels=BACKWARDS)
    assert site.health["models_broken"] == []
    assert site.maps(site.send_run())[0] == new
    assert site.daemon.stop().count("the package is damaged") == 1


def test_a_vanished_folder_takes_nothing_away(site: Site) -> None:
    (old,) = (item["sha256"] for item in site.health["models"])
    shutil.rmtree(site.package.parent)
    poll_until(lambda: not site.health["models"][0]["on_disk"], "the loss")
    assert site.maps(site.send_run())[0] == old
    new = site.put(version="2", labels=BACKWARDS)
    assert site.maps(site.send_run())[0] == new


def test_a_daemon_may_wait_for_its_first_package(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:
        assert (site.health["models"], site.health["models_awaited"]) == ([], ["tiny"])
        start = site.send_run()
        (folder,) = site.recordings_of(start)
        poll_until(lambda: (folder / "closed.json").exists(), "the run without a model")
        ledger = json.loads((folder / "closed.json").read_text())["ledger"]
        assert ledger["rejected"] == {"no model takes this energy range": SPECTRA}
        new = site.put(labels=ELEMENTS)
        assert site.maps(site.send_run())[0] == new
        assert site.health["models_awaited"] == []
