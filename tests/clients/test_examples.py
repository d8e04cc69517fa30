"""The example scripts run as they stand, against a real publisher."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from support.live import MappedRun, make_run_start, publisher, wait_until


@pytest.fixture
def finished():
    """Endpoints of a daemon with a finished map, and the run."""
    source = MappedRun(make_run_start((5, 20)))
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, 100, 0.3)
        source.close()
        wait_until(lambda: publishing.seq >= 4)
        yield [publishing.maps_endpoint, publishing.requests_endpoint], source


def run_example(name, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"zeroloss_clients.examples.{name}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


def test_print_elements(finished):
    assert "100 spectra: O Fe" in run_example("print_elements", *finished[0])


def test_save_maps(finished, tmp_path):
    endpoints, source = finished
    out = run_example("save_maps", str(tmp_path / "maps.npz"), *endpoints)
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
