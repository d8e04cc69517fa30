"""Quantification live: a simulated specimen is replayed into a daemon that is told its elements.

Core and low loss of every pixel come over real sockets; specimen and energy axis drift during the
scan, and the truth is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from support.daemons import ANY, DaemonProcess
from support.polling import DEADLINE_S, poll_until
from zeroloss.cli import main
from zeroloss_clients import LiveMaps, LiveRun

pytest.importorskip("torch", reason="specimens are simulated with torch")

from zeroloss_export.simulate.specimens import (
    Conditions,
    SpecimenScan,
    simulate,
    write_specimen,
)

pytestmark = pytest.mark.timeout(300)

CHOSEN = "Mn,La,O,Ti"
RATIO = 100.0


@dataclass
class Mapped:
    """The specimen as simulated and as mapped, while the daemon still runs."""

    scan: SpecimenScan
    run: LiveRun
    folder: Path


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapped]:
    folder = tmp_path_factory.mktemp("quantify")
    given = Conditions(dose=1e9, exposure_ratio=RATIO, drift=True, contamination=True)
    scan = simulate("superlattice", (10, 16), 2, given)
    core, low = write_specimen(folder / "scan.hspy", scan)
    daemon = DaemonProcess(
        *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
        *("--recordings", str(folder / "recordings"), "--provider", "cpu", "--repair-s", "0.2"),
        *("--use", "quantify", "--use", "low_loss", "--set", f"quantify.elements={CHOSEN}"),
        *("--set", f"quantify.exposure_ratio={RATIO:g}"),
    )
    try:
        with LiveMaps(daemon.endpoints["maps"], daemon.endpoints["requests"]) as maps:
            way = [
                flag
                for name in ("source", "requests")
                for flag in (f"--{name}", daemon.endpoints[name])
            ]
            # Whether the daemon confirms in time is for its load to say; that it has all, below.
            assert main(["replay", str(core), str(low), "--speed", "max", *way]) in (0, 1)
            run = maps.wait_for_run(DEADLINE_S)
            poll_until(lambda: run.closed is not None, "the final maps", 120.0)
            assert run.ledger.processed == scan.areal_density[0].size
            yield Mapped(scan, run, folder)
    finally:
        daemon.kill()


def test_live_atomic_fractions_are_those_of_the_specimen(mapped: Mapped) -> None:
    scan, run = mapped.scan, mapped.run
    truth = scan.atomic_fraction()
    assert run.ledger.rejected == {}
    (info,) = [item for item in run.packages if item.name == "quantify"]
    labels = next(item.labels for item in info.outputs if item.name == "atomic_fraction")
    assert labels == scan.visible == ("O", "Ti", "Mn", "La")
    value = np.moveaxis(run.layer("quantify/atomic_fraction"), 2, 0)
    error = np.moveaxis(run.layer("quantify/atomic_fraction_error"), 2, 0)
    assert np.isfinite(value).all()
    np.testing.assert_allclose(value.sum(0), 100.0, rtol=1e-4)
    for index, element in enumerate(labels):
        off = value[index] - truth[index]
        assert abs(off.mean()) < 2.5, element
        assert np.abs(off).max() < 12.0, element
        if element != "O":
            # Oxygen is nearly the same everywhere.
            assert np.corrcoef(value[index].ravel(), truth[index].ravel())[0, 1] > 0.95
        assert (error[index] > 0).all()


def test_live_areal_densities_are_absolute(mapped: Mapped) -> None:
    scan, run = mapped.scan, mapped.run
    rows = [scan.elements.index(item) for item in scan.visible]
    value = np.moveaxis(run.layer("quantify/areal_density"), 2, 0)
    ratio = value.sum((1, 2)) / scan.areal_density[rows].sum((1, 2))
    np.testing.assert_allclose(ratio, 1.0, atol=0.25)


def test_the_map_of_a_file_is_the_live_map(mapped: Mapped) -> None:
    out = mapped.folder / "file.csv"
    arguments = [
        "quantify",
        str(mapped.folder / "scan.hspy"),
        "--elements",
        CHOSEN,
        "--csv",
        str(out),
    ]
    low = str(mapped.folder / "scan-low-loss.hspy")
    assert main([*arguments, "--low-loss", low, "--exposure-ratio", str(RATIO)]) == 0
    table = np.genfromtxt(out, delimiter=",", names=True, dtype=None, encoding="utf-8")
    live = mapped.run.layer("quantify/atomic_fraction")
    for index, element in enumerate(mapped.scan.visible):
        np.testing.assert_allclose(
            table[f"atomic_fraction_{element}"], live[..., index].ravel(), rtol=1e-5
        )


def test_the_spectrum_of_a_region_is_quantified_on_request(mapped: Mapped) -> None:
    found = mapped.run.spectrum(rows=(2, 8), what="quantify/atomic_fraction")
    values = found["quantify/atomic_fraction"].values
    truth = mapped.scan.areal_density[:, 2:8].sum((1, 2))
    truth = truth[[mapped.scan.elements.index(item) for item in mapped.scan.visible]]
    np.testing.assert_allclose(values.ravel(), 100 * truth / truth.sum(), atol=2.5)
