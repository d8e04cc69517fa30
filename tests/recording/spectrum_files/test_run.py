"""A file of spectra as a run."""

from __future__ import annotations

import numpy as np
import pytest

from support.spectrum_files import ENERGY, X, Y, axis, one
from zeroloss.recording.spectrum_files import SpectrumFile, blocks, read_spectrum_file, run_start
from zeroloss.wire import decode, encode

pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")


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
