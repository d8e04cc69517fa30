"""An axis with an error is mended, within what an axis can be off by."""

from __future__ import annotations

import pytest
import torch

from zeroloss_export.measured_range import measured_ends
from zeroloss_export.networks.axis_check import (
    ERROR_EV,
    MOST_SHIFT_EV,
    MOST_STRETCH,
    error_to_mend,
    mended_axis,
)

CHANNELS = 101


def counts(first: int = 0, last: int = CHANNELS - 1) -> torch.Tensor:
    held = torch.full((1, CHANNELS), torch.nan)
    held[0, first : last + 1] = 1.0
    return held


@pytest.mark.parametrize(("first", "last"), [(0, 100), (10, 60)])
def test_the_error_is_that_of_the_first_and_the_last_measured_channel(
    first: int, last: int
) -> None:
    told = torch.tensor([300.0]), torch.tensor([2.0])
    offset, scale = mended_axis(
        measured_ends(counts(first, last)), *told, torch.tensor([[4.0, 8.0]])
    )
    for channel, error in ((first, 4.0), (last, 8.0)):
        assert float(offset + channel * scale) == pytest.approx(300 + 2 * channel - error)


def told(first_ev: float, last_ev: float) -> torch.Tensor:
    answers = torch.tensor([[first_ev / ERROR_EV, last_ev / ERROR_EV, 5.0]])
    return error_to_mend(answers, torch.tensor([200.0]))[0]


@pytest.mark.parametrize(
    ("first", "last", "mended"), [(2.9, -2.9, False), (3.1, 0.3, True), (-0.3, -3.1, True)]
)
def test_small_errors_may_be_chemical_shifts_and_are_left(
    first: float, last: float, mended: bool
) -> None:
    expected = [first, last] if mended else [0.0, 0.0]
    assert told(first, last).tolist() == pytest.approx(expected)


def test_errors_beyond_those_of_usual_axes_are_cut() -> None:
    assert told(900.0, 900.0).tolist() == [MOST_SHIFT_EV, MOST_SHIFT_EV]
    half = MOST_STRETCH * 200 / 2
    assert told(-90.0, 92.0).tolist() == pytest.approx([1 - half, 1 + half])


@pytest.mark.parametrize("channel", [0, 7, 100])
def test_one_channel_or_none_leaves_a_finite_axis(channel: int) -> None:
    told = torch.tensor([300.0]), torch.tensor([2.0])
    error = torch.tensor([[4.0, 4.0]])
    offset, scale = mended_axis(measured_ends(counts(channel, channel)), *told, error)
    assert (float(offset), float(scale)) == (296.0, 2.0)
    offset, scale = mended_axis(measured_ends(counts(1, 0)), *told, error)
    assert (float(offset), float(scale)) == (296.0, 2.0)
