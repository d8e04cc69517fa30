from __future__ import annotations

import numpy as np
import pytest

from zeroloss.pipeline.work import mask_invalid


def test_signed_counts_keep_what_is_below_zero() -> None:
    counts = np.array([[-3.5, np.nan, np.inf, -np.inf, 7.0, 8.0]], np.float32)
    values, masked = mask_invalid(counts, 8.0, signed=True)
    assert masked == 4
    np.testing.assert_array_equal(values, [[-3.5, np.nan, np.nan, np.nan, 7.0, np.nan]])


def test_valid_counts_pass_unchanged() -> None:
    counts = np.array([[0, 1, 65535]], np.uint16)
    values, masked = mask_invalid(counts, None)
    assert masked == 0
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, counts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -0.5])
def test_what_no_detector_counts_becomes_nan_and_is_counted(bad: float) -> None:
    values, masked = mask_invalid(np.array([[1.0, bad, 3.0]]), None)
    assert masked == 1
    np.testing.assert_array_equal(values, np.array([[1, np.nan, 3]], np.float32))


def test_saturated_counts_are_masked_at_and_above_the_limit() -> None:
    values, masked = mask_invalid(np.array([[99, 100, 101]], np.uint32), 100.0)
    assert masked == 2
    assert np.isnan(values[0, 1:]).all()
    assert values[0, 0] == 99


def test_the_input_is_left_alone() -> None:
    counts = np.array([[-1.0, 2.0]], np.float32)
    mask_invalid(counts, None)
    assert counts[0, 0] == -1.0
