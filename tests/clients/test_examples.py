"""The example scripts run as they stand, against a real publisher and a real daemon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zmq

import zeroloss_clients.examples
from support.daemons import ANY, DaemonProcess
from support.live import MappedRun, make_run_start, publisher
from support.packages import make_package
from support.polling import DEADLINE_S, poll_until
from support.streams import ELEMENTS, counts_at, make_blocks, make_end, make_start
from zeroloss.wire import ScanPlan, encode

SPECTRA = 96
EXAMPLES = sorted(
    path.stem
    for path in Path(zeroloss_clients.examples.__file__).parent.glob("*.py")
    if not path.stem.startswith("_")
)


@pytest.fixture
def finished():
    """Endpoints of a daemon with a finished map, and the run."""
    source = MappedRun(make_run_start((5, 20)))
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, 100, 0.3)
        source.close()
        poll_until(lambda: publishing.seq >= 4)
        yield endpoints(publishing.maps_endpoint, publishing.requests_endpoint), source


def endpoints(maps, requests):
    return ["--maps", maps, "--requests", requests]


def start_example(name, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", f"zeroloss_clients.examples.{name}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_example(process):
    """What it printed, once it has ended well."""
    try:
        out, error = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0, error
    assert error == ""
    return out


def run_example(name, *arguments):
    return end_example(start_example(name, *arguments))


def test_print_elements(finished):
    assert "100 spectra: O Fe" in run_example("print_elements", *finished[0])


def test_save_maps(finished, tmp_path):
    where, source = finished
    out = run_example("save_maps", str(tmp_path / "maps.npz"), *where)
    assert "O Fe" in out
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as saved:
        layer = source.store.layer("elements/probability")
        np.testing.assert_array_equal(saved["Fe"], layer[..., 3])
        assert set(saved) == {"coverage", "O", "Fe", "O_spread", "Fe_spread"}


def test_look_at_iron(finished):
    out = run_example("look_at_iron", *finished[0])
    assert "100 of 100 pixels mapped, Fe in 100.0 %" in out
    assert "mean uncertainty 0.125" in out


def test_look_at_a_spectrum(finished):
    out = run_example("look_at_a_spectrum", *finished[0])
    assert "O, 100 spectra, raw/core: [4950." in out


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_says_what_it_does_and_shows_an_example(name):
    out = run_example(name, "--help")
    module = f"zeroloss_clients.examples.{name}"
    assert f"examples:\n  python -m {module}" in out
    assert "--maps ENDPOINT" in out
    first = Path(zeroloss_clients.examples.__file__).with_name(f"{name}.py").read_text()
    assert first.splitlines()[0].strip('"') in out


@pytest.fixture
def daemon(tmp_path):
    models = make_package(tmp_path / "models", labels=ELEMENTS).parent
    daemon = DaemonProcess(
        *("--recordings", str(tmp_path / "recordings"), "--models", str(models)),
        *("--use", "tiny", "--provider", "cpu", "--repair-s", "0.2"),
        *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
    )
    yield daemon
    daemon.stop()


def test_every_example_follows_a_real_daemon_from_before_the_scan_on(daemon, tmp_path):
    where = endpoints(daemon.endpoints["maps"], daemon.endpoints["requests"])
    out = tmp_path / "scan.npz"
    flags = {"save_maps": [str(out)], "look_at_a_spectrum": ["--element", "O"]}
    started = {name: start_example(name, *flags.get(name, ()), *where) for name in EXAMPLES}
    start = make_start(ScanPlan(shape=(8, 12)), expected=SPECTRA, title="a scan")
    context = zmq.Context()
    try:
        with context.socket(zmq.PUSH) as push:
            push.connect(daemon.endpoints["source"])
            for message in (start, *make_blocks(start, SPECTRA), make_end(start, SPECTRA)):
                push.send_multipart(encode(message))
            said = {name: end_example(process) for name, process in started.items()}
    finally:
        context.term()
        for process in started.values():
            process.kill()
            process.communicate()
    found = [set(line.split(": ")[1].split()) for line in said["print_elements"].splitlines()]
    assert found[-1] == {"C", "N", "O"}
    assert f"of run {start.run.hex()}" in said["save_maps"]
    assert "a scan (8, 12)" in said["look_at_iron"]
    assert "of 96 pixels mapped, Fe in " in said["look_at_iron"]
    with np.load(out, allow_pickle=False) as saved:
        present = saved["O"].ravel() >= 0.5
        assert set(saved) >= found[-1]
    expected = counts_at(range(SPECTRA))[present].sum(0)
    assert (
        f"O, {present.sum()} spectra, raw/core_loss: [{expected[0]}. "
        in (said["look_at_a_spectrum"])
    )
