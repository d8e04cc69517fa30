"""Measured spectrum images, streamed over ZeroMQ into a daemon with the embedded network.

The data are kept beside the checkout and are no part of it.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from support.daemons import ANY, DaemonProcess
from support.polling import poll_until
from zeroloss.cli import main

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = pytest.mark.data


def need(*names: str) -> Path:
    """The path of a data file, or a skip that says what is missing."""
    path = DATA.joinpath(*names)
    if not path.exists():
        pytest.skip(f"the measured data {'/'.join(names)} are not beside this checkout")
    return path


def replayed_map(path: Path, folder: Path) -> Path:
    """Stream a file into a daemon process as fast as it goes; returns the finished map file."""
    recordings = folder / "recordings"
    daemon = DaemonProcess(
        *("--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"),
        *("--recordings", str(recordings), "--provider", "cpu", "--use", "elements"),
    )
    try:
        ends = daemon.endpoints
        way = ["--source", ends["source"], "--requests", ends["requests"]]
        assert main(["replay", str(path), "--speed", "max", *way]) == 0
        poll_until(lambda: list(recordings.glob("*/closed.json")), "the map to be finished")
    finally:
        daemon.stop()
    (maps,) = recordings.glob("*/maps.hspy")
    return maps


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        # From 428 to 721 eV: La has no edge there (M4,5 at 832 eV, N4,5 at 99 eV).
        ("LSMO_linescan.hdf5", {"O", "Mn"}),
        ("T3_A3_region3_SI_HL2_cal.dm3", {"B", "N"}),
        ("T3_C3_region2_SI_HL_cal.dm3", {"O", "Ca", "Fe"}),
    ],
)
def test_the_right_elements_are_found_and_no_other(
    name: str, elements: set[str], tmp_path: Path
) -> None:
    pytest.importorskip("rsciio", reason="reading spectrum files needs RosettaSciIO")
    hyperspy = pytest.importorskip("hyperspy.api", reason="opening the map needs HyperSpy")
    maps = replayed_map(need("spectrum_images", name), tmp_path)
    signals = hyperspy.load(str(maps))
    probability = next(
        signal for signal in signals if "probability" in signal.metadata.General.title
    )
    assert set(probability.metadata.Sample.elements) == elements
    assert probability.axes_manager.signal_shape


def test_identify_reads_the_whole_set(tmp_path: Path) -> None:
    spectra = need("core_loss_dev", "spectra.npz")
    out = tmp_path / "p.csv"
    assert main(["identify", str(spectra), "--csv", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (spectra.parent / "index.csv").open(newline="") as file:
        truth = {row["id"]: row["elements"].split() for row in csv.DictReader(file)}
    assert len(rows) == len(truth)
    assert {row["id"] for row in rows} == set(truth)
    labels = list(rows[0])[1:]
    assert (len(labels), labels[:2], labels[-1]) == (80, ["Be", "B"], "Bi")
    assert all(0 <= float(row[label]) <= 1 for row in rows for label in labels)
    ranks = [
        sorted(
            (float(value) for key, value in row.items() if key not in ("id", "C")), reverse=True
        ).index(float(row[element]))
        for row in rows
        for element in truth[row["id"]]
        if element != "C"
    ]
    # The true elements of a spectrum are, nearly always, among its three most probable ones.
    assert sum(rank < 3 for rank in ranks) >= 0.85 * len(ranks)
