"""Files of spectra: what is understood, what is noted, and what is refused in one sentence."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from zeroloss.recording.spectrum_files import (
    SpectrumFile,
    SpectrumFileError,
    blocks,
    read_spectrum_collection,
    read_spectrum_file,
    run_start,
)
from zeroloss.wire import decode, encode

pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")

MEASURED = Path(__file__).resolve().parents[3] / "shared" / "data"


def axis(name, units, offset, scale, **more):
    return {"name": name, "units": units, "offset": offset, "scale": scale, **more}


ENERGY = axis("Energy loss", "eV", 400.0, 0.5)
X = axis("x", "nm", 0.0, 2.0)
Y = axis("y", "µm", 0.0, 0.001)


def write_hspy(path, signals):
    """A file as HyperSpy writes it; signals: title -> (data, axes, metadata)."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        for title, (data, axes, metadata) in signals.items():
            group = file.create_group(f"Experiments/{title}")
            group["data"] = data
            for index, described in enumerate(axes):
                node = group.create_group(f"axis-{index}")
                node.attrs["_type"] = "UniformDataAxis"
                node.attrs["size"] = data.shape[index]
                for key, value in described.items():
                    node.attrs[key] = value
            node = group.create_group("metadata")
            node.create_group("General").attrs["title"] = title
            for dotted, value in metadata.items():
                *parents, key = dotted.split(".")
                node.require_group("/".join(parents)).attrs[key] = value
            group.create_group("original_metadata")
    return path


def one(path, data, axes, **metadata):
    entries = {"Signal.signal_type": "EELS"} | {
        key.replace("__", "."): value for key, value in metadata.items()
    }
    return write_hspy(path, {"scan": (data, axes, entries)})


MSA = """#FORMAT      : EMSA/MAS Spectral Data File
#VERSION     : 1.0
#TITLE       : made here
#NPOINTS     : {n}
#NCOLUMNS    : 1
#XUNITS      : {unit}
#YUNITS      : counts
#DATATYPE    : Y
#XPERCHAN    : {scale}
#OFFSET      : {offset}
#SIGNALTYPE  : {kind}
#SPECTRUM    : Spectral Data Starts Here
"""


def write_msa(path, counts, unit="eV", offset=100.0, scale=0.5, kind="ELS"):
    head = MSA.format(n=len(counts), unit=unit, offset=offset, scale=scale, kind=kind)
    body = "\n".join(f"{value:.3f}," for value in counts)
    path.write_text(head + body + "\n#ENDOFDATA   : \n")
    return path


def refused(*paths, **options):
    with pytest.raises(SpectrumFileError) as caught:
        read_spectrum_file(*paths, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


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


def test_text_with_two_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("energy,counts\n" + "".join(f"{100 + 0.5 * i},{i}\n" for i in range(9)))
    file = read_spectrum_file(path)
    assert (file.ranges[0].offset_ev, file.ranges[0].scale_ev) == (100.0, 0.5)
    np.testing.assert_array_equal(file.counts["core_loss"][0], np.arange(9.0))
    assert file.notes == ()


def test_text_with_channels_cut_out(tmp_path):
    path = tmp_path / "a.txt"
    rows = [f"{100 + 0.5 * i}\t{i}" for i in range(40) if i not in (7, 8, 9)]
    path.write_text("\n".join(rows))
    counts = read_spectrum_file(path).counts["core_loss"][0]
    assert np.flatnonzero(np.isnan(counts)).tolist() == [7, 8, 9]
    np.testing.assert_array_equal(counts[10:], np.arange(10.0, 40.0))


NAMED = "(14)_m4d054eV_45d471eV.txt"


def test_text_with_a_row_of_counts_and_the_axis_in_its_name(tmp_path):
    path = tmp_path / NAMED
    path.write_text("\t".join(map(str, range(1981))) + "\t\n\n")
    file = read_spectrum_file(path)
    (energy,) = file.ranges
    assert (file.shape, file.modality, energy.name, energy.size) == (
        (1, 1),
        "eels",
        "low_loss",
        1981,
    )
    assert energy.offset_ev == pytest.approx(-4.054)
    assert energy.offset_ev + 1980 * energy.scale_ev == pytest.approx(45.471)
    np.testing.assert_array_equal(file.counts["low_loss"][0], np.arange(1981.0))
    assert file.notes == ("the energy axis, -4.054 to 45.471 eV, is that of the file name",)


def test_text_with_a_column_of_counts(tmp_path):
    path = tmp_path / "vacuum_m1eV_1eV.dat"
    path.write_text("counts\n" + "".join(f"{value}\n" for value in (3, -1, 2, 1, 0)))
    file = read_spectrum_file(path)
    assert (file.ranges[0].offset_ev, file.ranges[0].scale_ev) == (-1.0, 0.5)
    assert file.counts["low_loss"].tolist() == [[3, -1, 2, 1, 0]]


def test_text_with_a_row_per_pixel(tmp_path):
    counts = np.arange(12).reshape(3, 4)
    path = tmp_path / "line_100eV_103eV.csv"
    np.savetxt(path, counts, delimiter=",")
    file = read_spectrum_file(path)
    assert (file.shape, file.step) == ((1, 3), None)
    np.testing.assert_array_equal(file.counts["core_loss"], counts)


def test_an_axis_given_by_hand_comes_before_the_one_in_the_name(tmp_path):
    path = tmp_path / "line_100eV_103eV.txt"
    path.write_text("1 2 3 4\n")
    file = read_spectrum_file(path, axis=(-5.0, 2.5))
    assert (file.ranges[0].offset_ev, file.ranges[0].scale_ev) == (-5.0, 2.5)
    assert file.notes == ("the energy axis, -5 to 2.5 eV, was given by hand",)


def test_an_axis_given_by_hand_where_the_file_has_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("100 1\n101 2\n")
    assert "the axis stands in the file" in refused(path, axis=(0.0, 1.0))
    image = one(tmp_path / "a.hspy", np.ones(8, np.uint8), [ENERGY])
    assert "holds its own energy axis" in refused(image, axis=(0.0, 1.0))
    assert "one energy axis for 2 files" in refused(path, image, axis=(0.0, 1.0))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a_5eV_m5eV.txt", "falls"),
        ("a_5eV_5eV.txt", "dispersion of 0"),
        ("a5eV_10eV.txt", "end the file name with"),
        ("a_1eV_2eV_3eV_4eV.txt", "end the file name with"),
        ("a_1.5eV_2eV.txt", "end the file name with"),
    ],
)
def test_names_without_a_usable_axis(tmp_path, name, sentence):
    path = tmp_path / name
    path.write_text("1 2 3 4\n")
    assert sentence in refused(path)


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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1\t2\t3\t4\n", "no energy axis for 1 spectra of 4 counts: end the file name with"),
        ("just words\n", "no numbers"),
        ("1 2\n2 three\n", "line 2 holds something that is no number: '2 three'"),
        ("1 2 3\n1 2\n", "line 2 holds 2 numbers and the first 3"),
        ("1 " * 70_000, "line 1 holds more than 65536 numbers"),
        ("100 1\n101 2\n100 3\n", "neither rise nor fall"),
    ],
)
def test_text_that_is_no_spectrum(tmp_path, text, sentence):
    path = tmp_path / "a.txt"
    path.write_text(text)
    assert sentence in refused(path)


def test_missing_reader_names_the_extra(tmp_path, monkeypatch):
    path = one(tmp_path / "a.hspy", np.ones(8, np.uint8), [ENERGY])
    monkeypatch.setitem(sys.modules, "rsciio", None)
    assert "pip install 'zeroloss[hyperspy]'" in refused(path)


def spectrum_file(tmp_path, shape=(3, 4)) -> SpectrumFile:
    data = np.arange(shape[0] * shape[1] * 8, dtype=np.uint16).reshape(*shape, 8)
    return read_spectrum_file(one(tmp_path / "si.hspy", data, [Y, X, ENERGY]))


@pytest.mark.parametrize("pattern", ["raster", "serpentine", "list"])
@pytest.mark.parametrize("block", [1, 5, 64])
def test_blocks_hold_every_pixel_once_in_scan_order(tmp_path, pattern, block):
    file = spectrum_file(tmp_path)
    start = run_start(file, run=bytes(16), t_ns=1000, dwell_s=0.001, pattern=pattern)
    assert start.expected == 12
    assert decode(encode(start)) == start
    sent = list(blocks(file, start, block))
    assert [item.seq for item in sent] == list(range(1, len(sent) + 1))
    assert [item.first for item in sent] == list(range(0, 12, block))
    assert sent[-1].t_ns == 1000 + 12_000_000
    rows = np.concatenate([item.counts["core_loss"] for item in sent])
    order = np.arange(12).reshape(3, 4)
    if pattern == "serpentine":
        order[1] = order[1, ::-1]
    np.testing.assert_array_equal(rows, file.counts["core_loss"][order.ravel()])
    pixels = [item.pixels for item in sent]
    if pattern == "list":
        np.testing.assert_array_equal(np.concatenate(pixels), np.arange(12))
    else:
        assert pixels == [None] * len(sent)
    for item in sent:
        assert decode(encode(item)).schema == start.schema


def test_blocks_refuses_an_absurd_size(tmp_path):
    file = spectrum_file(tmp_path)
    with pytest.raises(ValueError, match="expected 1 to"):
        next(blocks(file, run_start(file, t_ns=0), 0))


def test_run_start_draws_a_run_and_carries_the_notes(tmp_path):
    path = one(tmp_path / "x.hspy", np.ones(20, np.uint8), [axis("Energy", "keV", 0.1, 0.02)])
    file = read_spectrum_file(path)
    first, second = run_start(file, t_ns=0), run_start(file, t_ns=0)
    assert first.run != second.run
    assert first.metadata == {
        "file": "x.hspy",
        "notes": "the energy axis in keV was converted to eV.",
    }


def collection(path, **changed):
    arrays = {
        "ids": np.array(["a", "b"]),
        "offsets": np.array([0, 4, 10]),
        "energy": np.r_[np.arange(4.0), 100 + 2 * np.arange(6.0)],
        "counts": np.arange(10.0),
    }
    arrays.update(changed)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_collection(tmp_path):
    first, second = read_spectrum_collection(collection(tmp_path / "c.npz"))
    assert (first.name, second.name) == ("a", "b")
    assert (second.axis.offset_ev, second.axis.scale_ev, second.axis.size) == (100.0, 2.0, 6)
    np.testing.assert_array_equal(second.counts, np.arange(4.0, 10.0))


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"counts": None}, "no array 'counts'"),
        ({"offsets": np.array([0, 4])}, "expected integers [3]"),
        ({"offsets": np.array([0, 4, 99])}, "do not divide"),
        ({"offsets": np.array([0, 7, 3])}, "do not divide"),
        ({"offsets": np.array([-5, 4, 10])}, "do not divide"),
        ({"counts": np.ones(10, complex)}, "expected real numbers"),
        ({"ids": np.array([1, 2])}, "expected text"),
        ({"energy": np.r_[np.arange(4.0), np.arange(6.0)[::-1]]}, "spectrum 'b': "),
        ({"ids": np.array(["a", {}], dtype=object)}, "not a readable .npz"),
    ],
)
def test_collections_that_are_refused(tmp_path, changed, sentence):
    with pytest.raises(SpectrumFileError, match=r"^c\.npz: ") as caught:
        read_spectrum_collection(collection(tmp_path / "c.npz", **changed))
    assert sentence in str(caught.value)


def test_damaged_archives_are_refused(tmp_path):
    path = collection(tmp_path / "c.npz")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(SpectrumFileError, match="not a readable"):
        read_spectrum_collection(path)
    with pytest.raises(SpectrumFileError, match=r"gone\.npz: "):
        read_spectrum_collection(tmp_path / "gone.npz")


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
