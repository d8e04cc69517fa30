"""Gates on raw counts: shut for what is no spectrum, open for what is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zeroloss_export.networks.unlike import SpectrumGates
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import SpectrumSimulator

WINDOW = (64.0, 3104.0)


def shut(counts: Tensor, offset_ev: float = 200.0, scale_ev: float = 0.5) -> bool:
    gates = SpectrumGates(WINDOW)
    return bool(gates(counts[None].float(), torch.tensor([offset_ev]), torch.tensor([scale_ev])))


def power_law(channels: int = 800, level: float = 1e4) -> Tensor:
    energy = 200 + 0.5 * torch.arange(channels)
    return torch.poisson(level * (energy / 200) ** -3, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("units", [1e-12, 1.0, 1e9])
def test_a_spectrum_passes_in_any_units(units: float) -> None:
    assert not shut(power_law() * units)


@pytest.mark.parametrize("level", [0.0, 1e-3, 65535.0, 1e9])
def test_constants_are_none(level: float) -> None:
    assert shut(torch.full((800,), level))


def test_white_noise_is_none_however_long_and_high() -> None:
    draw = torch.Generator().manual_seed(2)
    for channels in (64, 700, 4096):
        for level in (0.1, 10.0, 1e5):
            assert shut(torch.poisson(torch.full((channels,), level), draw))


def test_blurred_noise_is_noise() -> None:
    noise = torch.rand(1000, generator=torch.Generator().manual_seed(3))
    assert shut((noise[:-2] + 2 * noise[1:-1] + noise[2:]) * 100)


def test_one_spike_does_not_hide_a_spectrum() -> None:
    counts = power_law()
    counts[400] = 1e7
    assert not shut(counts)


def test_a_spectrum_clipped_nearly_everywhere_is_none() -> None:
    counts = power_law()
    assert shut(counts.clamp(max=float(counts.quantile(0.1))))
    assert not shut(counts.clamp(max=float(counts.quantile(0.8))))


def test_too_little_of_a_spectrum_is_none() -> None:
    counts = power_law()
    few = torch.full_like(counts, torch.nan)
    few[:40] = counts[:40]
    assert shut(few)
    few[:60] = counts[:60]
    assert not shut(few)
    assert shut(counts, offset_ev=-400.0)
    assert shut(torch.full((800,), torch.nan))
    assert shut(torch.tensor([5.0, 4.0]))


def test_simulated_spectra_with_edges_pass(table: CrossSectionTable) -> None:
    recipe = Recipe(counts_per_ev=(1e4, 1e6), jump_ratio=(0.3, 3.0))
    spectra = SpectrumSimulator(table, recipe, 17).batch(256)
    result = SpectrumGates(WINDOW)(spectra.counts, spectra.offset_ev, spectra.scale_ev)
    assert float(result[spectra.present.sum(1) > 0].float().mean()) < 0.02
