"""Files of spectrum images: what is understood, what is noted, and what is refused."""

from __future__ import annotations

import importlib
import sys
import warnings

import numpy as np
import pytest

from support.spectrum_files import ENERGY, X, Y, axis, one, refused, write_hspy, write_msa
from zeroloss.recording.spectrum_files import read_spectrum_file

pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")


def test_spectrum_image_with_its_metadata(tmp_path):
    data = np.arange(2 * 3 * 8, dtype=np.uint16).reshape(2, 3, 8)
    path = one(
        tmp_path / "si.hspy",
        data,
        [Y, X, ENERGY],
        Acquisition_instrument__TEM__beam_energy=200.0,
        Acquisition_instrument__TEM__convergence_angle=20.0,
        Acquisition_instrument__TEM__Detector__EELS__collection_angle=30.0,
        Acquisition_instrument__TEM__Detector__EELS__dwell_time=0.01,
    )
    file = read_spectrum_file(path)
    assert (file.shape, file.pixels, file.modality) == ((2, 3), 6, "eels")
    assert file.step == (1.0, 2.0)
    assert file.step_unit == "nm"
    (energy,) = file.ranges
    assert (energy.name, energy.offset_ev, energy.scale_ev, energy.size, energy.dtype) == (
        "core_loss",
        400.0,
        0.5,
        8,
        "uint16",
    )
    assert (file.beam_kev, file.convergence_mrad, file.collection_mrad) == (200.0, 20.0, 30.0)
    assert file.dwell_s == 0.01
    assert file.notes == ()
    np.testing.assert_array_equal(file.counts["core_loss"], data.reshape(6, 8))


def test_a_convergence_of_0_in_a_file_is_not_known(tmp_path):
    angle = {"Acquisition_instrument__TEM__convergence_angle": 0.0}
    path = one(tmp_path / "si.hspy", np.ones((2, 3, 8), np.uint16), [Y, X, ENERGY], **angle)
    assert read_spectrum_file(path).convergence_mrad is None


def test_energy_axis_in_front_is_moved_last(tmp_path):
    data = np.arange(8 * 2 * 3, dtype=np.float32).reshape(8, 2, 3)
    file = read_spectrum_file(one(tmp_path / "a.hspy", data, [ENERGY, Y, X]))
    assert file.shape == (2, 3)
    np.testing.assert_array_equal(file.counts["core_loss"][4], data[:, 1, 1])


def test_line_scan_and_single_spectrum(tmp_path):
    line = read_spectrum_file(one(tmp_path / "l.hspy", np.ones((5, 8), np.uint8), [X, ENERGY]))
    assert line.shape == (1, 5)
    point = read_spectrum_file(one(tmp_path / "p.hspy", np.ones(8, np.uint8), [ENERGY]))
    assert point.shape == (1, 1)
    assert point.step is None


def test_nan_and_negative_counts_are_kept(tmp_path):
    data = np.array([[1, np.nan, -3, np.inf, 5]], dtype=np.float32)
    file = read_spectrum_file(one(tmp_path / "n.hspy", data, [X, ENERGY]))
    np.testing.assert_array_equal(file.counts["core_loss"], data)


@pytest.mark.parametrize(
    ("dtype", "stored", "noted"),
    [
        ("int16", "int32", False),
        ("int8", "int32", False),
        (">u2", "uint16", False),
        ("float16", "float32", False),
        ("int64", "uint32", False),
        ("uint64", "uint32", False),
        ("float64", "float64", False),
    ],
)
def test_number_formats(tmp_path, dtype, stored, noted):
    data = np.arange(8).astype(dtype)
    file = read_spectrum_file(one(tmp_path / "d.hspy", data, [ENERGY]))
    assert file.ranges[0].dtype == stored == file.counts["core_loss"].dtype.name
    assert bool(file.notes) == noted
    np.testing.assert_array_equal(file.counts["core_loss"][0], data.astype("float64"))


def test_counts_too_large_for_the_wire_are_noted(tmp_path):
    data = np.arange(8, dtype=np.int64) << 33
    file = read_spectrum_file(one(tmp_path / "d.hspy", data, [ENERGY]))
    assert file.ranges[0].dtype == "float64"
    assert file.notes == ("counts of type int64 are kept as float64",)


def test_kev_is_converted_where_the_unit_says_so(tmp_path):
    path = one(
        tmp_path / "x.hspy",
        np.ones(200, np.uint8),
        [axis("Energy", "keV", -0.5, 0.01)],
        Signal__signal_type="EDS_TEM",
    )
    file = read_spectrum_file(path)
    assert file.modality == "edx"
    (energy,) = file.ranges
    assert energy.name == "edx"
    assert energy.offset_ev == pytest.approx(-500.0)
    assert energy.scale_ev == pytest.approx(10.0)
    assert file.notes == ("the energy axis in keV was converted to eV",)


def test_mev_of_a_monochromator_is_converted(tmp_path):
    path = one(tmp_path / "m.hspy", np.ones(50, np.uint8), [axis("Energy loss", "meV", -100, 5)])
    assert read_spectrum_file(path).ranges[0].scale_ev == pytest.approx(0.005)


def test_survey_image_in_the_same_file_is_left_out(tmp_path):
    path = write_hspy(
        tmp_path / "both.hspy",
        {
            "survey": (np.ones((4, 4), np.uint8), [Y, X], {"Signal.signal_type": ""}),
            "spectra": (np.ones((3, 8), np.uint8), [X, ENERGY], {"Signal.signal_type": "EELS"}),
            "sum": (np.ones(8, np.uint8), [ENERGY], {"Signal.signal_type": "EELS"}),
        },
    )
    file = read_spectrum_file(path)
    assert (file.title, file.shape) == ("spectra", (1, 3))
    assert file.notes == ("took the signal 'spectra' and left out 'sum'",)


def test_two_ranges_of_the_same_pixels(tmp_path):
    high = one(tmp_path / "hl.hspy", np.ones((5, 8), np.uint16), [X, ENERGY])
    low = one(
        tmp_path / "ll.hspy", np.ones((5, 6), np.uint8), [X, axis("Energy loss", "eV", -2, 0.5)]
    )
    file = read_spectrum_file(high, low)
    assert [item.name for item in file.ranges] == ["core_loss", "low_loss"]
    assert {name: array.shape for name, array in file.counts.items()} == {
        "core_loss": (5, 8),
        "low_loss": (5, 6),
    }
    named = read_spectrum_file(high, low, names=["edges", "zlp"])
    assert list(named.counts) == ["edges", "zlp"]
    assert "same name" in refused(high, high)
    assert "1 names" in refused(high, low, names=["a"])
    assert "no name" in refused(high, names=["@pixels"])
    assert "no file" in refused()
    assert "at most 8" in refused(*[high] * 9)
    other = one(tmp_path / "o.hspy", np.ones((4, 8), np.uint8), [X, ENERGY])
    assert "1 x 5 pixels and o.hspy 1 x 4" in refused(high, other)


def test_msa(tmp_path):
    file = read_spectrum_file(write_msa(tmp_path / "a.msa", np.arange(16.0)))
    (energy,) = file.ranges
    assert (energy.offset_ev, energy.scale_ev, energy.size) == (100.0, 0.5, 16)
    assert file.title == "made here"
    np.testing.assert_array_equal(file.counts["core_loss"][0], np.arange(16.0))


@pytest.mark.parametrize(
    ("suffix", "module"), [("emd", "emd"), ("rpl", "ripple"), ("nxs", "nexus")]
)
def test_other_formats(tmp_path, suffix, module):
    """Written by RosettaSciIO itself, whose readers we use."""
    writer = importlib.import_module(f"rsciio.{module}")
    data = np.arange(2 * 3 * 16, dtype=np.uint16).reshape(2, 3, 16)
    axes = [
        item | {"size": size, "navigate": item is not ENERGY, "_type": "UniformDataAxis"}
        for item, size in zip((Y, X, ENERGY), data.shape, strict=True)
    ]
    path = tmp_path / f"scan.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer.file_writer(
            str(path),
            {
                "data": data,
                "axes": [item | {"is_binned": False} for item in axes],
                "metadata": {"General": {"title": "scan"}, "Signal": {"signal_type": "EELS"}},
                "original_metadata": {},
                "learning_results": {},
                "tmp_parameters": {},
                "attributes": {"_lazy": False, "ragged": False},
            },
        )
    file = read_spectrum_file(path)
    (energy,) = file.ranges
    assert (file.shape, file.modality) == ((2, 3), "eels")
    assert (energy.offset_ev, energy.scale_ev, energy.size) == (400.0, 0.5, 16)
    np.testing.assert_array_equal(file.counts["core_loss"], data.reshape(6, 16))


@pytest.mark.parametrize(
    ("energy", "sentence"),
    [
        (axis("Energy loss", "", 400, 0.5), "not calibrated in eV or keV"),
        (axis("x", "nm", 0, 1), "no energy axis"),
        (axis("Energy loss", "eV", 500, -0.5), "falls"),
        (axis("Energy loss", "eV", 0.2, 0.001), "look like keV"),
        (axis("Energy loss", "keV", 0.0, 1.0), "calibrate it first"),
        (axis("Energy loss", "eV", float("nan"), 1.0), "finite"),
        (axis("Energy loss", "eV", 100, 0.0), "dispersion of 0"),
        (axis("Energy loss", "eV", 100, 500.0), "dispersion of 500"),
    ],
)
def test_calibrations_that_are_refused(tmp_path, energy, sentence):
    path = one(tmp_path / "bad.hspy", np.ones((2, 300), np.uint8), [Y, energy])
    text = refused(path)
    assert text.startswith("bad.hspy: ")
    assert sentence in text


def test_listed_energies_that_are_uneven(tmp_path):
    energies = 100.0 * 1.01 ** np.arange(50)
    listed = {"name": "Energy loss", "units": "eV", "axis": energies, "_type": "DataAxis"}
    assert "not linear" in refused(one(tmp_path / "u.hspy", np.ones(50, np.uint8), [listed]))


@pytest.mark.parametrize(
    ("data", "axes", "sentence"),
    [
        (np.ones(8, np.complex64), [ENERGY], "complex"),
        (np.ones((4, 4), np.uint8), [Y, X], "no energy axis (found scan: y [µm], x [nm])"),
        (np.ones((2, 2, 2, 8), np.uint8), [X, X, X, ENERGY], "3 axes beside the energy"),
        (np.ones((2, 8), np.uint8), [ENERGY, ENERGY], "several energy axes"),
        (np.ones(1, np.uint8), [ENERGY], "at least 2 channels"),
        (np.ones(70_000, np.uint8), [ENERGY], "70000 channels"),
    ],
)
def test_data_that_are_no_spectra(tmp_path, data, axes, sentence):
    assert sentence in refused(one(tmp_path / "bad.hspy", data, axes))


def test_files_that_are_no_files(tmp_path):
    assert refused(tmp_path / "gone.dm3") == "gone.dm3: no such file"
    (tmp_path / "empty.dm4").touch()
    assert refused(tmp_path / "empty.dm4") == "empty.dm4: the file is empty"
    (tmp_path / "a.docx").write_text("words")
    assert "unknown kind of file '.docx'" in refused(tmp_path / "a.docx")
    (tmp_path / "bare").write_text("words")
    assert "no extension" in refused(tmp_path / "bare")
    (tmp_path / "noise.dm3").write_bytes(bytes(range(256)) * 16)
    assert "cannot be read as DigitalMicrograph" in refused(tmp_path / "noise.dm3")
    whole = one(tmp_path / "whole.hspy", np.ones((64, 512)), [X, ENERGY]).read_bytes()
    (tmp_path / "cut.hspy").write_bytes(whole[: len(whole) // 2])
    assert "is the file whole?" in refused(tmp_path / "cut.hspy")


def test_missing_reader_names_the_extra(tmp_path, monkeypatch):
    path = one(tmp_path / "a.hspy", np.ones(8, np.uint8), [ENERGY])
    monkeypatch.setitem(sys.modules, "rsciio", None)
    assert "pip install 'zeroloss[hyperspy]'" in refused(path)
