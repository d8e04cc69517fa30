from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zeroloss.pipeline.passes import PassSums
from zeroloss.wire import EnergyRange

RANGES = (EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=3),)


@given(st.permutations(list(range(8))))
def test_the_order_of_the_passes_does_not_change_the_sum(order: list[int]) -> None:
    rng = np.random.default_rng(5)
    spectra = rng.integers(0, 2**32, (8, 3)).astype(np.uint32)
    sums = PassSums(2, RANGES)
    for index in order:
        sums.add(np.array([index % 2], np.uint32), {"core_loss": spectra[index : index + 1]})
    counts, passes, _ = sums.fetch(np.array([0, 1], np.uint32))
    np.testing.assert_array_equal(passes, [4, 4])
    expected = np.stack([spectra[parity::2].astype(np.float64).sum(0) for parity in (0, 1)])
    np.testing.assert_array_equal(counts["core_loss"], expected)


def test_a_pixel_may_come_twice_in_one_block() -> None:
    sums = PassSums(4, RANGES)
    sums.add(np.array([2, 2], np.uint32), {"core_loss": np.ones((2, 3), np.uint16)})
    counts, passes, came = sums.fetch(np.array([2], np.uint32))
    np.testing.assert_array_equal(counts["core_loss"], [[2, 2, 2]])
    assert (passes.tolist(), came["core_loss"].tolist()) == ([2], [2])


def test_a_spectrum_without_a_valid_channel_is_left_out_of_its_range_only() -> None:
    ranges = (*RANGES, EnergyRange(name="low_loss", offset_ev=-1, scale_ev=1, size=2))
    sums = PassSums(2, ranges)
    core = np.array([[1.0, -2.0, np.nan]])
    low = np.array([[np.nan, np.nan]])
    pixel = np.array([1], np.uint32)
    sums.add(pixel, {"core_loss": core, "low_loss": low})
    counts, passes, _ = sums.fetch(pixel)
    np.testing.assert_array_equal(counts["core_loss"], core)
    np.testing.assert_array_equal(counts["low_loss"], low)
    sums.add(pixel, {"core_loss": core, "low_loss": np.array([[3.0, 4.0]])})
    sums.add(pixel, {"core_loss": core, "low_loss": low})
    counts, passes, came = sums.fetch(np.array([1, 0], np.uint32))
    np.testing.assert_array_equal(counts["core_loss"], [[3.0, -6.0, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(counts["low_loss"], [[3.0, 4.0], [np.nan] * 2])
    assert passes.tolist() == [3, 0]
    assert {name: of.tolist() for name, of in came.items()} == {
        "core_loss": [3, 0],
        "low_loss": [1, 0],
    }


def test_the_stated_memory_is_what_the_sums_take() -> None:
    sums = PassSums(10, RANGES)
    assert PassSums.nbytes(10, RANGES) == (
        sum(a.nbytes for a in (*sums._sums.values(), *sums._came.values(), sums._passes))
    )


def test_the_total_of_some_pixels_counts_every_pass_and_tells_empty_ones() -> None:
    sums = PassSums(3000, RANGES)
    rng = np.random.default_rng(7)
    spectra = rng.integers(0, 100, (2, 2000, 3)).astype(np.float32)
    spectra[1, 5, 2] = np.nan
    for counts in spectra:
        sums.add(np.arange(2000, dtype=np.uint32), {"core_loss": counts})
    totals, came, count, filled = sums.total(np.arange(5, 3000, dtype=np.uint32), {"core_loss"})
    expected = spectra[:, 5:].sum(axis=(0, 1), dtype=np.float64)
    np.testing.assert_array_equal(totals["core_loss"], expected)
    assert np.isnan(expected).tolist() == [False, False, True]
    assert (count, came) == (2 * 1995, {"core_loss": 2 * 1995})
    assert np.flatnonzero(filled).tolist() == list(range(1995))
