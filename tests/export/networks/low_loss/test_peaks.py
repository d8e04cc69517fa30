from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.zero_loss_tables import make_table, spectra
from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.networks.low_loss.peaks import LossPeaks, PeakSearch
from zeroloss_export.networks.low_loss.subtract import Subtraction

TABLE = make_table(points=1700)


def search(height: float, *peaks: tuple[float, float, float]) -> LossPeaks:
    rng = torch.Generator().manual_seed(3)
    position = 0.4 * torch.rand(40, generator=rng) - 0.2
    counts, offset, scale, energy = spectra(position, height, channels=1600)
    for centre, width, share in peaks:
        counts = counts + height * share * torch.exp(-2.7726 * ((energy - centre) / width) ** 2)
    counts = torch.poisson(counts, generator=rng)
    peak = PeakFinder()(counts, offset, scale)
    aligned = align(counts, peak.place, scale, TABLE.first_ev, TABLE.scale_ev, 1700)
    return PeakSearch(TABLE)(aligned, Subtraction(TABLE)(aligned, peak.counts).left)


@pytest.mark.parametrize("height", [1e4, 1e6])
def test_peaks_come_by_height_with_their_energies_and_widths(height: float) -> None:
    found = search(height, (4.0, 0.8, 0.008), (15.0, 6.0, 0.02), (25.0, 1.5, 0.012))
    expected = torch.tensor([15.0, 25.0, 4.0])
    away = (found.energy_ev - expected).abs()
    assert float(away.max()) < 0.15
    assert float((away < 2.5 * found.energy_error + 0.01).float().mean()) > 0.9
    assert float(
        (found.height.mean(0) / height - torch.tensor([0.02, 0.012, 0.008])).abs().max()
    ) < (1.5e-3)
    widths = found.width_ev.mean(0)
    assert widths.tolist() == pytest.approx([6.0, 1.5, 0.8], rel=0.1)
    assert float(found.energy_error.max()) < 0.1


def test_the_errors_are_those_of_many_spectra() -> None:
    found = search(1e5, (15.0, 6.0, 0.02))
    ratio = found.energy_ev[:, 0].std() / found.energy_error[:, 0].mean()
    assert 0.5 < float(ratio) < 1.6


def test_nan_where_there_are_fewer() -> None:
    found = search(1e5, (15.0, 6.0, 0.02))
    assert torch.isfinite(found.energy_ev[:, 0]).all()
    assert torch.isnan(found.energy_ev[:, 1:]).all()
    assert torch.isnan(found.width_error[:, 1:]).all()


def test_noise_alone_has_no_peaks() -> None:
    assert torch.isnan(search(1e5).energy_ev).float().mean() > 0.99


def test_a_table_that_asks_for_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no peaks"):
        PeakSearch(replace(TABLE, peaks=0))
