from __future__ import annotations

import pytest
import torch

from zeroloss_export.networks.grid import FEATURES, EnergyGrid, bin_edges

BINS = len(bin_edges()) - 1


def _power_law(offset: float, scale: float, channels: int) -> torch.Tensor:
    low = offset + scale * (torch.arange(channels).double() - 0.5)
    # The exact integral of 1e4 (E / 100)^-3 over every channel.
    counts = 1e10 / 2 * (low**-2 - (low + scale) ** -2)
    return counts.float()[None]


def _inputs(
    offset: float, scale: float, channels: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        _power_law(offset, scale, channels),
        torch.tensor([offset]),
        torch.tensor([scale]),
    )


def test_bins_join_without_gap() -> None:
    edges = bin_edges()
    assert len(edges) == 1313
    assert edges[0] == 64
    assert edges[-1] == 3104
    assert set(edges.diff().tolist()) == {1.0, 1.5, 2.5, 4.0}


def test_counts_are_preserved() -> None:
    counts, offset, scale = _inputs(150.25, 0.37, 1500)
    density, valid = EnergyGrid().rebin(counts, offset, scale)
    width = bin_edges().diff().float()
    inside = valid[0] > 0
    first, last = torch.nonzero(inside)[0, 0], torch.nonzero(inside)[-1, 0]
    low, high = bin_edges()[first + 1], bin_edges()[last]
    axis = offset + scale * torch.arange(1500)
    chosen = (axis >= low) & (axis < high)
    binned = (density[0] * width)[first + 1 : last].sum()
    # Densities are in units of their mean, so only ratios of counts are kept.
    other = (density[0] * width)[first + 1 : first + 60].sum()
    low_part = chosen & (axis < bin_edges()[first + 60])
    expected = counts[0][low_part].sum() / counts[0][chosen].sum()
    assert float(other / binned) == pytest.approx(float(expected), rel=5e-3)


@pytest.mark.parametrize(("scale", "channels"), [(0.05, 20000), (0.5, 2000), (2.0, 500)])
def test_features_do_not_depend_on_the_dispersion(scale: float, channels: int) -> None:
    grid = EnergyGrid()
    reference = grid(*_inputs(200.5, 1.0, 1000))
    features = grid(*_inputs(200 + scale / 2, scale, channels))
    assert features.shape == (1, FEATURES, BINS)
    torch.testing.assert_close(features[:, 3], reference[:, 3])
    inner = slice(160, 500)
    if scale <= 1:
        difference = (features - reference)[:, 1, inner].abs()
        assert float(difference.mean()) < 0.05


@pytest.mark.parametrize("units", [1e-9, 1e-3, 1e9])
def test_features_do_not_depend_on_the_units(units: float) -> None:
    grid = EnergyGrid()
    counts, offset, scale = _inputs(100.0, 1.0, 700)
    torch.testing.assert_close(
        grid(counts * units, offset, scale), grid(counts, offset, scale), atol=2e-3, rtol=1e-3
    )


def test_nan_is_not_measured_and_not_zero() -> None:
    grid = EnergyGrid()
    counts, offset, scale = _inputs(100.5, 1.0, 700)
    holed = counts.clone()
    holed[:, 300:340] = torch.nan
    density, valid = grid.rebin(holed, offset, scale)
    whole, _ = grid.rebin(counts, offset, scale)
    edges = bin_edges()
    dead = (edges[:-1] >= 400) & (edges[1:] <= 440)
    assert (valid[0, dead] == 0).all()
    alive = valid[0] > 0
    ratio = density[0, alive] / whole[0, alive]
    assert float(ratio.std() / ratio.mean()) < 0.01


def test_bins_outside_the_axis_are_invalid() -> None:
    features = EnergyGrid()(*_inputs(500.0, 0.5, 400))
    edges = bin_edges()
    outside = (edges[1:] < 499) | (edges[:-1] > 701)
    assert (features[0, 3, outside] == 0).all()
    assert (features[0, :, outside] == 0).all()
    assert (features[0, 3] > 0).sum() > 100


@pytest.mark.parametrize("value", [0.0, torch.nan, 1e-30, 1e30])
def test_empty_and_extreme_spectra_stay_finite(value: float) -> None:
    counts = torch.full((2, 64), value)
    features = EnergyGrid()(counts, torch.tensor([100.0, 5000.0]), torch.tensor([1.0, 0.1]))
    assert torch.isfinite(features).all()


def test_a_spectrum_is_the_same_in_any_company() -> None:
    grid = EnergyGrid()
    counts, offset, scale = _inputs(100.0, 1.0, 700)
    alone = grid(counts, offset, scale)
    together = grid(
        torch.cat([torch.rand(1, 700), counts]),
        torch.tensor([300.0, 100.0]),
        torch.tensor([2.0, 1.0]),
    )
    torch.testing.assert_close(together[1:], alone)
