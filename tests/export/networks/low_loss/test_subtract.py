from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.zero_loss_tables import FIRST_EV, MATCH_EV, SCALE_EV, make_table, peak_shape
from zeroloss_export.networks.low_loss.subtract import (
    Interpolated,
    Subtraction,
    percentiles,
    window_mean,
)

POINTS = 700


def aligned_spectra(*heights: float) -> torch.Tensor:
    energy = FIRST_EV + SCALE_EV * torch.arange(POINTS)
    loss = 50.0 * torch.exp(-0.5 * ((energy - 6) / 2) ** 2)
    return torch.stack([height * peak_shape(energy) + loss for height in heights])


def test_the_median_curve_of_the_true_shape_leaves_the_loss() -> None:
    energy = FIRST_EV + SCALE_EV * torch.arange(POINTS)
    aligned = aligned_spectra(1e5, 1e6)
    left = Subtraction(make_table())(aligned, torch.tensor([2e6, 2e7])).left[:, 1]
    loss = 50.0 * torch.exp(-0.5 * ((energy - 6) / 2) ** 2)
    above = energy > MATCH_EV[1] + SCALE_EV / 2
    # The window holds a little of the loss itself.
    assert float((left - loss)[:, above].abs().max()) < 4.0
    assert (left[:, ~above] == 0).all()


def test_percentiles_commute_with_matching() -> None:
    table = make_table()
    energy = table.energy_ev.float()
    # Of 101 replicas the percentiles are replicas, channel by channel.
    slopes = 0.4 * torch.randn(101, 1, 1, generator=torch.Generator().manual_seed(1))
    log = peak_shape(energy).log() + slopes * (energy / 0.6).clamp(min=1.0).log()
    log = log - log[:, :, table.match].exp().mean(2, keepdim=True).log()
    log = log.repeat(1, 5, 1)
    ranked = log.sort(0).values
    table = replace(table, replicas=log, curves=ranked[[16, 50, 84]].contiguous())
    aligned = aligned_spectra(1e5)
    band = Subtraction(table)(aligned, torch.tensor([1e6])).left[0]
    each = aligned - window_mean(aligned[:, table.match]) * log[:, 0].exp()
    expected = each.sort(0).values[[16, 50, 84]]
    above = energy > MATCH_EV[1] + SCALE_EV
    torch.testing.assert_close(
        band[:, above], expected[:, above], rtol=1e-6, atol=1e-6 * float(aligned.max())
    )


@pytest.mark.parametrize("count", [6, 10, 24, 32, 100])
def test_one_more_draw_falls_below_each_percentile_in_its_share_of_cases(count: int) -> None:
    # The mean of ranked even draws is their rank, and the share below a place is the place itself.
    ranks = torch.arange(1, count + 1) / (count + 1)
    torch.testing.assert_close(ranks @ percentiles(count), torch.tensor([0.16, 0.5, 0.84]))


@pytest.mark.parametrize("count", [24, 32, 100])
def test_one_more_normal_draw_lies_inside_in_68_per_cent_of_cases(count: int) -> None:
    draws = torch.randn(20_000, count + 1, generator=torch.Generator().manual_seed(count))
    low, _, high = (draws[:, 1:].sort(1).values @ percentiles(count)).T
    inside = (draws[:, 0] > low) & (draws[:, 0] < high)
    # The usual way makes it 0.64 with 32 and 0.626 with 24 of them.
    assert float(inside.float().mean()) == pytest.approx(0.68, abs=0.015)


@pytest.mark.parametrize("count", [1, 2, 3, 6, 24, 32, 101])
def test_percentiles_are_placed_as_those_of_the_table(count: int) -> None:
    values = torch.randn(7, count, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = np.percentile(values.numpy(), [16.0, 50.0, 84.0], axis=1, method="weibull").T
    found = values.sort(1).values @ percentiles(count).double()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_left_where_there_is_a_reason_not_to_answer() -> None:
    aligned = aligned_spectra(1e5, 1e5)
    strength, code = torch.tensor([2e6, 2e6]), torch.tensor([0.0, 3.0])
    found = Subtraction(make_table())(aligned, strength, code=code)
    for values in found:
        assert torch.isnan(values[1]).all()
        assert torch.isfinite(values[0]).all()


def test_counts_are_interpolated_in_their_logarithm_and_held_at_the_ends() -> None:
    nodes = torch.tensor([1.0, 2.0, 4.0])
    values = torch.tensor([[[0.0], [1.0], [5.0]], [[0.0], [-1.0], [-2.0]]])
    found = Interpolated(nodes, values)(torch.tensor([0.0, 1.5, 2.0, 3.0, 9.0]))[..., 0]
    assert found[:, 0].tolist() == [0.0, 0.5, 1.0, 3.0, 5.0]
    assert found[:, 1].tolist() == [0.0, -0.5, -1.0, -1.5, -2.0]


def test_a_channel_that_was_not_measured_stays_so() -> None:
    aligned = aligned_spectra(1e5)
    whole = Subtraction(make_table())(aligned, torch.tensor([2e6]))
    aligned = aligned.clone()
    aligned[0, [20, 300]] = torch.nan
    found = Subtraction(make_table())(aligned, torch.tensor([2e6]))
    left = found.left
    assert torch.isnan(left[0]).nonzero()[:, 1].unique().tolist() == [20, 300]
    # Beyond the matching window a curve says how much zero loss there is.
    assert torch.isnan(found.zero_loss[0]).nonzero()[:, 1].unique().tolist() == [20]
    rest = ~torch.isnan(left)
    torch.testing.assert_close(left[rest], whole.left[rest])


def test_the_noise_of_what_is_left_is_not_cut() -> None:
    aligned = aligned_spectra(1e5)
    aligned = aligned + 200 * torch.randn(POINTS, generator=torch.Generator().manual_seed(1))
    left = Subtraction(make_table())(aligned, torch.tensor([2e6])).left
    assert float((left[0, 1, 400:] < 0).float().mean()) > 0.2


def test_a_negative_window_is_no_zero_loss() -> None:
    assert float(window_mean(torch.tensor([[-1.0, torch.nan, 0.5]]))) == pytest.approx(0.0)
    assert float(window_mean(torch.tensor([[1.0, torch.nan, 2.0]]))) == pytest.approx(1.5)
