from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.zero_loss_tables import WIDTH_EV, make_table, onset, spectra
from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.gap import Gap, GapFit, noise_bank
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.networks.low_loss.subtract import Subtraction
from zeroloss_export.networks.low_loss.table import Noise

TABLE = make_table()


def fit(counts: torch.Tensor, offset: torch.Tensor, scale: torch.Tensor) -> Gap:
    peak = PeakFinder()(counts, offset, scale)
    points = TABLE.curves.shape[2]
    aligned = align(counts, peak.place, scale, TABLE.first_ev, TABLE.scale_ev, points)
    left = Subtraction(TABLE)(aligned, peak.counts).left
    return GapFit(TABLE)(aligned, left[:, 0], peak.counts, peak.place)


def noisy(gap_ev: float, exponent: float, height: float, share: float) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    position = 0.4 * torch.rand(12, generator=rng) - 0.2
    counts, offset, scale, energy = spectra(position, height)
    # The instrument softens an onset by its resolution.
    shifts = torch.linspace(-WIDTH_EV, WIDTH_EV, 33)
    parts = torch.exp2(-((2 * shifts / WIDTH_EV) ** 2))
    for shift, part in zip(shifts, parts / parts.sum(), strict=True):
        counts = counts + part * onset(energy - shift, gap_ev, exponent, height * share)
    return [torch.poisson(counts, generator=rng), offset, scale]


@pytest.mark.parametrize("gap_ev", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("height", [1e5, 1e7])
def test_gap_and_exponent_are_found_within_their_errors(
    gap_ev: float, exponent: float, height: float
) -> None:
    found = fit(*noisy(gap_ev, exponent, height, 1.5e-3))
    assert found.found.all()
    assert found.inside.all()
    assert float((found.gap_ev[:, 1] - gap_ev).abs().max()) < 0.2
    off = (found.gap_ev[:, 1] - gap_ev).abs()
    within = off < found.gap_ev[:, 2] - found.gap_ev[:, 0] + 0.04
    assert float(within.float().mean()) > 0.9
    assert float((found.exponent[:, 1] - exponent).abs().max()) < 0.35


def test_vacuum_has_no_gap() -> None:
    assert not fit(*noisy(2.5, 1.0, 1e6, 0.0)).found.any()


def test_a_signal_from_the_lowest_energy_on_is_no_gap() -> None:
    found = fit(*noisy(0.2, 0.4, 1e6, 3e-2))
    assert not (found.found & found.inside).any()


def test_a_gap_above_the_range_is_not_inside() -> None:
    found = fit(*noisy(9.0, 1.0, 1e6, 1e-2))
    assert not (found.found & found.inside).any()


def test_channels_that_were_not_measured_weigh_nothing() -> None:
    counts, offset, scale = noisy(2.5, 1.0, 1e6, 1.5e-3)
    whole = fit(counts, offset, scale)
    counts[:, 300:303] = torch.nan
    holed = fit(counts, offset, scale)
    assert float((holed.gap_ev - whole.gap_ev).abs().max()) < 0.1


def test_a_larger_spread_of_replicas_is_a_larger_error() -> None:
    counts, offset, scale = noisy(1.8, 1.0, 1e7, 1.5e-3)
    peak = PeakFinder()(counts, offset, scale)
    errors = []
    for spread in (0.1, 0.6):
        table = make_table(spread=spread)
        points = table.curves.shape[2]
        aligned = align(counts, peak.place, scale, table.first_ev, table.scale_ev, points)
        left = Subtraction(table)(aligned, peak.counts).left
        found = GapFit(table)(aligned, left[:, 0], peak.counts, peak.place)
        errors.append(float((found.gap_ev[:, 2] - found.gap_ev[:, 0]).mean()))
    assert errors[1] > 1.5 * errors[0]


def test_the_noise_bank_is_correlated_as_the_detector_and_always_the_same() -> None:
    noise = Noise(1.0, 0.0, (0.6, 0.2))
    bank = noise_bank(noise, 400, 200)
    torch.testing.assert_close(bank, noise_bank(noise, 400, 200), rtol=0, atol=0)
    assert float(bank.var()) == pytest.approx(1.0, rel=0.02)
    neighbours = (bank[:, 1:] * bank[:, :-1]).mean()
    assert float(neighbours) == pytest.approx(0.6, abs=0.02)
    assert float(bank.mean(0).abs().max()) < 1e-12


def test_a_table_without_a_gap_range_is_refused() -> None:
    with pytest.raises(ValueError, match="no gap_range_ev"):
        GapFit(replace(TABLE, gap_range_ev=None))
    with pytest.raises(ValueError, match="too short"):
        GapFit(replace(TABLE, gap_range_ev=(1.0, 1.1)))
