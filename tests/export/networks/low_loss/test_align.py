from __future__ import annotations

import pytest
import torch

from zeroloss_export.networks.low_loss.align import align


def test_the_maximum_comes_to_zero_and_counts_are_per_trained_channel() -> None:
    scale = torch.tensor([0.05, 0.025])
    place = torch.tensor([50.4, 100.8])
    channel = torch.arange(300)
    energy = (channel - place[:, None]) * scale[:, None]
    counts = torch.exp(-0.5 * (energy / 0.5) ** 2) * scale[:, None] * 1e6
    aligned = align(counts, place, scale, -2.0, 0.1, 61)
    expected = 1e5 * torch.exp(-0.5 * ((-2.0 + 0.1 * torch.arange(61)) / 0.5) ** 2)
    torch.testing.assert_close(aligned[0], expected, rtol=0, atol=200)
    torch.testing.assert_close(aligned[1], expected, rtol=0, atol=60)


def test_nan_beyond_the_range_and_beside_what_was_not_measured() -> None:
    counts = torch.arange(20.0)[None].clone()
    counts[0, 12] = torch.nan
    aligned = align(counts, torch.tensor([10.0]), torch.tensor([1.0]), -12.0, 1.0, 24)
    missing = torch.isnan(aligned[0])
    assert missing.tolist() == [k < 2 or k > 21 or k == 14 for k in range(24)]
    assert float(aligned[0, 12]) == pytest.approx(10.0)
    half = align(counts, torch.tensor([10.5]), torch.tensor([1.0]), 0.0, 1.0, 4)
    assert torch.isnan(half[0]).tolist() == [False, True, True, False]
    assert float(half[0, 0]) == pytest.approx(10.5)


def test_the_last_channel_is_inside() -> None:
    counts = torch.arange(5.0)[None]
    aligned = align(counts, torch.tensor([2.0]), torch.tensor([1.0]), -2.0, 1.0, 6)
    assert aligned[0, :5].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert torch.isnan(aligned[0, 5])
