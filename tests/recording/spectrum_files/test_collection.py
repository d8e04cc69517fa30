"""Collections of single spectra in one .npz."""

from __future__ import annotations

import numpy as np
import pytest

from zeroloss.recording.spectrum_files import SpectrumFileError, read_spectrum_collection


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
