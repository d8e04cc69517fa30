from __future__ import annotations

import pytest
import torch

from zeroloss_export.networks.low_loss.peak import PeakFinder, peak_errors
from zeroloss_export.networks.low_loss.table import Noise

SCALE, OFFSET, CHANNELS = 0.025, -4.0, 800


def gaussian_peaks(width: float, counts: float, position: torch.Tensor) -> torch.Tensor:
    """Zero-loss peaks [position, channel] of that full width in eV and sum."""
    energy = OFFSET + SCALE * torch.arange(CHANNELS)
    shape = torch.exp(-2.7725887 * ((energy - position[:, None]) / width) ** 2)
    return counts * shape / shape.sum(1, keepdim=True)


def axes(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((n,), OFFSET), torch.full((n,), SCALE)


@pytest.mark.parametrize("width", [0.075, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("counts", [1e4, 1e5, 1e7])
def test_position_width_and_counts_to_a_fraction_of_a_channel(width: float, counts: float) -> None:
    rng = torch.Generator().manual_seed(1)
    position = torch.rand(200, generator=rng) - 0.5
    noisy = torch.poisson(gaussian_peaks(width, counts, position), generator=rng)
    offset, scale = axes(200)
    peak = PeakFinder()(noisy, offset, scale)
    errors = peak_errors(peak, Noise(), scale)
    limit = 4 * (width / 2.355 / counts**0.5) + 0.01 * SCALE
    assert float((peak.position_ev - position).square().mean().sqrt()) < limit
    assert float(peak.width_ev.mean()) == pytest.approx(width, rel=0.03)
    # A Gaussian has 98.1 % of its counts within one full width on both sides.
    assert float(peak.counts.mean()) == pytest.approx(0.9815 * counts, rel=5e-3)
    assert not peak.edge.any()
    if width >= 0.25:
        ratio = (peak.position_ev - position).std() / errors.position_ev.mean()
        assert 0.7 < float(ratio) < 1.3


def test_errors_of_width_and_counts_are_those_of_poisson_noise() -> None:
    rng = torch.Generator().manual_seed(2)
    position = torch.zeros(400)
    noisy = torch.poisson(gaussian_peaks(0.5, 1e6, position), generator=rng)
    peak = PeakFinder()(noisy, *axes(400))
    errors = peak_errors(peak, Noise(), axes(400)[1])
    assert 0.7 < float(peak.width_ev.std() / errors.width_ev.mean()) < 1.4
    assert 0.7 < float(peak.counts.std() / errors.counts.mean()) < 1.4


def test_the_maximum_of_an_asymmetric_peak_is_not_its_centroid() -> None:
    energy = OFFSET + SCALE * torch.arange(CHANNELS)[None]
    width = torch.where(energy < 0.11, 0.2, 0.3)
    counts = 1e6 * torch.exp(-0.6931472 * ((energy - 0.11) / width) ** 2)
    peak = PeakFinder()(counts, *axes(1))
    # The centroid lies at 0.19 eV.
    assert abs(float(peak.position_ev) - 0.11) < 0.03
    assert float(peak.width_ev) == pytest.approx(0.5, rel=0.01)


def test_only_the_search_window_counts() -> None:
    counts = gaussian_peaks(0.5, 1e5, torch.tensor([1.0])) + gaussian_peaks(
        0.5, 1e6, torch.tensor([8.0])
    )
    peak = PeakFinder((-3.0, 5.0))(counts, *axes(1))
    assert float(peak.position_ev) == pytest.approx(1.0, abs=0.01)


def test_a_dispersion_twice_as_fine_changes_nothing() -> None:
    position = torch.tensor([0.123])
    coarse = gaussian_peaks(0.5, 1e6, position)
    energy = OFFSET + SCALE / 2 * torch.arange(2 * CHANNELS)
    fine = torch.exp(-2.7725887 * ((energy - 0.123) / 0.5) ** 2)[None]
    fine = 1e6 * fine / fine.sum()
    a = PeakFinder()(coarse, *axes(1))
    b = PeakFinder()(fine, torch.tensor([OFFSET]), torch.tensor([SCALE / 2]))
    for name in ("position_ev", "width_ev", "counts"):
        assert float(getattr(a, name)) == pytest.approx(float(getattr(b, name)), rel=2e-3)


def test_a_peak_cut_by_the_end_of_the_range_is_at_the_edge() -> None:
    counts = gaussian_peaks(0.5, 1e6, torch.tensor([OFFSET + 0.05, OFFSET + 0.3]))
    peak = PeakFinder()(counts, *axes(2))
    assert peak.edge.tolist() == [True, False]


@pytest.mark.parametrize("value", [0.0, torch.nan, -5.0, 1e30])
def test_spectra_without_a_peak_give_finite_numbers(value: float) -> None:
    peak = PeakFinder()(torch.full((2, 50), value), *axes(2))
    for name, item in peak._asdict().items():
        assert torch.isfinite(item).all() or name == "core"


def test_counts_are_those_within_one_width_on_both_sides_whatever_the_channels() -> None:
    positions = torch.linspace(0.0, SCALE, 9)
    counts = gaussian_peaks(0.4, 1e6, positions)
    # Within one FWHM of a Gaussian lies erf(2 sqrt(ln 2)) of it.
    assert PeakFinder()(counts, *axes(9)).counts.tolist() == pytest.approx(
        [0.98147e6] * 9, rel=1e-3
    )
    lacking = counts.clone()
    lacking[:, 172] = torch.nan
    missing = PeakFinder()(counts, *axes(9)).counts - PeakFinder()(lacking, *axes(9)).counts
    assert missing.tolist() == pytest.approx(counts[:, 172].tolist(), rel=0.05)
