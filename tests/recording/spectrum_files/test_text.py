"""Text files of spectra: columns, rows, and the axis in the file name."""

from __future__ import annotations

import numpy as np
import pytest

from support.spectrum_files import ENERGY, NAMED, one, refused
from zeroloss.recording.spectrum_files import read_spectrum_file

pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")


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
