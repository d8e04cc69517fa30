"""Measured files of many programs, kept beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.spectrum_files import NAMED
from zeroloss.recording.spectrum_files import read_spectrum_collection, read_spectrum_file

pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")

MEASURED = Path(__file__).resolve().parents[4] / "shared" / "data"


needs_data = pytest.mark.skipif(
    not MEASURED.is_dir(), reason="the measured spectra are not kept beside this checkout"
)


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "shape", "offset_ev", "scale_ev", "channels"),
    [
        ("spectrum_images/LSMO_linescan.hdf5", (1, 40), 428.5, 0.5, 586),
        ("spectrum_images/CuZn_EELS_mapping_tutorial.hspy", (50, 40), 700, 8, 162),
        ("spectrum_images/EELS_SI.dm4", (2, 2), 300, 1, 2048),
        ("spectrum_images/T3_C3_region2_SI_HL_cal.dm3", (1, 100), 306.5, 0.5, 1024),
        ("low_loss/Al_monochromated.dm3", (1, 1), -3.609, 0.0201, 2048),
        ("low_loss/thickness_series/EELS_thin_0.30.dm3", (1, 1), -5.0, 0.05, 1024),
        ("low_loss/eelsdb/DspecEIn4Xv.msa", (1, 1), -61.5, 0.5, 1024),
        (f"low_loss/ws2_specimen_4/{NAMED}", (1, 1), -4.054, 0.025, 1981),
        ("edx/core_shell.hdf5", (64, 64), 160, 20, 992),
    ],
)
def test_measured_files(name, shape, offset_ev, scale_ev, channels):
    file = read_spectrum_file(MEASURED / name)
    (energy,) = file.ranges
    assert file.shape == shape
    assert energy.offset_ev == pytest.approx(offset_ev, abs=1e-3)
    assert energy.scale_ev == pytest.approx(scale_ev, rel=1e-2)
    assert energy.size == channels
    assert file.counts[energy.name].shape == (file.pixels, channels)


@needs_data
@pytest.mark.data
def test_every_measured_file_is_read_or_refused_in_one_sentence():
    folders = ("spectrum_images", "low_loss", "edx")
    files = [
        path for folder in folders for path in (MEASURED / folder).rglob("*") if path.is_file()
    ]
    assert files
    for path in sorted(files):
        if path.stat().st_size < 10_000_000:
            assert read_spectrum_file(path).pixels >= 1


@needs_data
@pytest.mark.data
def test_pair_of_measured_ranges():
    folder = MEASURED / "spectrum_images"
    file = read_spectrum_file(folder / "LSMO_linescan.hdf5", folder / "LSMO_linescan_low_loss.hdf5")
    assert [item.name for item in file.ranges] == ["core_loss", "low_loss"]
    assert (file.shape, file.beam_kev, file.dwell_s) == ((1, 40), 80.0, 0.1)


@needs_data
@pytest.mark.data
def test_measured_collection_passes_as_a_whole():
    spectra = read_spectrum_collection(MEASURED / "core_loss_dev" / "spectra.npz")
    assert len(spectra) == 77
    for item in spectra:
        assert len(item.counts) == item.axis.size
        # Where an exposure was cut off, a few channels are not measured.
        assert np.isnan(item.counts).mean() < 0.03
