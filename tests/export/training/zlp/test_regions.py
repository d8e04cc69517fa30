from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.low_loss_spectra import INSTRUMENT, spectra_of
from zeroloss_export.simulate.dielectric import NITRIDE
from zeroloss_export.simulate.low_loss import LowLossScan, simulate, vacuum_scan
from zeroloss_export.training.zlp.regions import (
    Regions,
    bridged,
    find_regions,
    local_exponent,
    smoothed,
    tail_exponent,
)
from zeroloss_export.training.zlp.spectra import Prepared, prepare

WIDTH = INSTRUMENT.peak.fwhm_ev


def _nitride(thickness: float) -> LowLossScan:
    shape = (4, 4)
    return simulate(5, INSTRUMENT, np.full(shape, thickness), np.zeros(shape, np.int64), (NITRIDE,))


def _regions(prepared: Prepared, *, vacuum: bool = False) -> Regions:
    group = prepared.clusters[0]
    return find_regions(
        prepared.energy_ev,
        group.counts,
        group.variance(prepared.noise),
        prepared.width_ev,
        vacuum=vacuum,
    )


def test_a_power_law_has_its_exponent() -> None:
    energy = 0.05 * np.arange(-40, 400)
    counts = 1e6 * np.clip(energy, 0.05, None) ** -3.0
    exponent = local_exponent(energy, counts, counts, 0.4)
    known = np.isfinite(exponent.value)
    np.testing.assert_allclose(exponent.value[known], 3.0, atol=0.02)
    assert tail_exponent(energy, counts, counts, 2.0) == pytest.approx(3.0, abs=1e-6)
    # Five channels at least, where the dispersion is coarse.
    assert tail_exponent(energy[::10], counts[::10], counts[::10], 2.0) == pytest.approx(3.0)
    with pytest.raises(ValueError, match=r"no counts .* 0.01 eV"):
        tail_exponent(energy, counts, counts, 0.01)


@pytest.mark.parametrize("thickness", [0.2, 0.8])
def test_boundaries_lie_where_the_zero_loss_stops_to_rule_and_is_gone(thickness: float) -> None:
    scan = _nitride(thickness)
    found = _regions(prepare(spectra_of(scan)))
    zero, loss = scan.zero_loss.mean((0, 1)), scan.inelastic.mean((0, 1))
    share = np.interp([*found.ruling_ev, found.gone_ev], INSTRUMENT.energy_ev, zero / (zero + loss))
    assert share[0] > 0.9, "below the boundary nearly all is zero loss"
    assert found.ruling_ev[0] <= found.ruling_ev[1] < found.gone_ev
    # The halo of the peak is flatter than any power law that its tail tells of.
    assert share[2] < 0.1
    # The gap of the nitride, 5.9 eV, is an upper bound, far above the core of the peak.
    assert 2.0 * WIDTH < found.ruling_ev[0] < NITRIDE.gap_ev + 1.0
    true = scan.instrument.peak.local_exponent(np.array([found.ruling_ev[0]]))
    assert found.exponent == pytest.approx(float(true[0]), rel=0.25)


def test_a_vacuum_is_zero_loss_until_it_is_lost_in_noise() -> None:
    ends = []
    for electrons in (2e4, 2e6):
        scan = vacuum_scan(1, (3, 3), replace(INSTRUMENT, electrons=electrons))
        found = _regions(prepare(spectra_of(scan)), vacuum=True)
        assert found.ruling_ev[0] == found.ruling_ev[1]
        ends.append(found.ruling_ev[0])
    assert ends[1] > 2.0 * ends[0]


def test_channels_that_were_not_measured_hardly_move_the_boundaries() -> None:
    scan = _nitride(0.5)
    whole = _regions(prepare(spectra_of(scan)))
    counts = scan.counts.copy()
    counts[..., 150] = np.nan
    holed = _regions(prepare(spectra_of(scan, counts)))
    assert holed.ruling_ev[0] == pytest.approx(whole.ruling_ev[0], rel=0.15)
    assert holed.gone_ev == pytest.approx(whole.gone_ev, rel=0.2)


def test_nothing_lies_beyond_the_range() -> None:
    scan = _nitride(0.5)
    prepared = prepare(replace(spectra_of(scan), counts=spectra_of(scan).counts[:, :150]))
    found = _regions(prepared)
    assert found.gone_ev <= prepared.energy_ev[-1]


def test_no_tail_is_told() -> None:
    energy = 0.05 * np.arange(-40, 400)
    rising = 100.0 + np.clip(energy, 0.0, None)
    with pytest.raises(ValueError, match="no falling tail"):
        find_regions(energy, rising, rising, 0.4)


def test_holes_are_bridged_and_left_out_of_means() -> None:
    counts = np.array([np.nan, 2.0, np.nan, 4.0, np.nan])
    np.testing.assert_array_equal(bridged(counts), [2.0, 2.0, 3.0, 4.0, 4.0])
    np.testing.assert_allclose(smoothed(counts, 3), [2.0, 2.0, 3.0, 4.0, 4.0])
