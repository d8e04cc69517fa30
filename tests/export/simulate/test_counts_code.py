from __future__ import annotations

import numpy as np

from zeroloss_export.simulate.counts_code import NOT_MEASURED, decode, encode


def test_rounding_is_far_below_counting_noise() -> None:
    counts = np.geomspace(1, 1e7, 2000, dtype=np.float32)[None].round()
    back = decode(*encode(counts))
    noise = np.sqrt(counts)
    assert (np.abs(back - counts) <= noise / 16 * 1.01).all()
    assert np.sqrt(np.mean(((back - counts) / noise) ** 2)) < 0.04


def test_few_counts_come_back_exactly() -> None:
    counts = np.arange(64, dtype=np.float32)[None]
    code, steps = encode(counts)
    np.testing.assert_array_equal(np.rint(decode(code, steps)), counts)


def test_what_is_not_measured_stays_so_and_zero_stays_zero() -> None:
    counts = np.array([[np.nan, 0.0, 5.0], [np.nan, np.nan, np.nan], [0.0, 0.0, 0.0]], np.float32)
    code, steps = encode(counts)
    assert code.dtype == np.uint16
    np.testing.assert_array_equal(code == NOT_MEASURED, np.isnan(counts))
    back = decode(code, steps)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(counts))
    assert back[0, 1] == 0
    assert (back[2] == 0).all()


def test_intense_spectra_and_other_units_use_all_steps() -> None:
    counts = np.array([[1e12, 1e8, 1e4], [1e-3, 1e-5, 1e-6]], np.float32)
    code, steps = encode(counts, finest=np.inf)
    assert (code.max(1) == NOT_MEASURED - 1).all()
    apart = np.abs(np.sqrt(decode(code, steps)) - np.sqrt(counts))
    assert (apart * steps[:, None] <= 0.51).all()
