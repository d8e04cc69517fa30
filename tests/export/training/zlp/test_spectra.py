from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.low_loss_spectra import INSTRUMENT, rows_of, spectra_of
from zeroloss_export.simulate.low_loss import LowLossScan, vacuum_scan
from zeroloss_export.simulate.low_loss_file import write_scan
from zeroloss_export.training.zlp.spectra import (
    Prepared,
    prepare,
    read_low_loss,
    without_dead_channels,
)


def test_spectra_are_aligned_on_their_maximum(vacuum: LowLossScan) -> None:
    moved = replace(INSTRUMENT, misalignment_ev=1.3, drift_ev=0.05)
    prepared = prepare(spectra_of(vacuum_scan(1, (4, 6), moved)))
    assert prepared.used == prepared.pixels == 24
    assert len(prepared.clusters) == 1
    mean = prepared.clusters[0].counts
    assert abs(prepared.energy_ev[int(np.nanargmax(mean))]) <= 0.5 * INSTRUMENT.scale_ev
    assert prepared.width_ev == pytest.approx(INSTRUMENT.peak.fwhm_ev, rel=0.06)
    # The mean of aligned peaks has the shape of one, but for the point spread of the detector and
    # the vertex of the asymmetric core, some hundredths of an eV beside its maximum.
    tail = (prepared.energy_ev > 0.5) & (prepared.energy_ev < 3.0)
    true = INSTRUMENT.peak.density(prepared.energy_ev)
    ratio = mean[tail] / true[tail]
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.08)


def test_a_flake_is_clustered_by_its_zero_loss(prepared_flake: Prepared) -> None:
    logs = [group.log_counts for group in prepared_flake.clusters]
    assert len(logs) >= 2
    assert logs == sorted(logs)
    assert sum(group.pixels for group in prepared_flake.clusters) == prepared_flake.used
    low, high = prepared_flake.log_counts
    assert low < logs[0] < logs[-1] < high


def test_pixels_without_a_peak_are_left_out(vacuum: LowLossScan) -> None:
    counts = rows_of(vacuum)
    counts[0] = np.nan
    counts[1] = 3.0
    counts[2, :90] = np.nan
    counts[3] = 0.0
    # A spike that is no peak of this instrument.
    counts[3, 20:23] = (2e5, 4e5, 2e5)
    prepared = prepare(spectra_of(vacuum, counts))
    assert prepared.used == 20
    assert prepared.pixels == 24
    whole = prepare(spectra_of(vacuum, rows_of(vacuum)[4:]))
    assert len(prepared.energy_ev) == len(whole.energy_ev)
    np.testing.assert_allclose(prepared.clusters[0].counts, whole.clusters[0].counts)
    with pytest.raises(ValueError, match=r"none of the 2 spectra .* not normalised"):
        prepare(spectra_of(vacuum, counts[:2]))
    with pytest.raises(ValueError, match="not normalised"):
        prepare(spectra_of(vacuum, rows_of(vacuum) / vacuum.counts.max()))


def test_dead_and_stuck_channels_are_not_measured(vacuum: LowLossScan) -> None:
    counts = rows_of(vacuum)
    counts[:, 150] = 0.0
    counts[:, 200:203] = 0.0
    counts[:, 300] = 60000.0
    counts[0, 400] = 0.0
    alive = without_dead_channels(counts)
    assert set(np.flatnonzero(np.isnan(alive).all(0))) == {150, 200, 201, 202, 300}
    assert np.isnan(alive).sum() == 5 * len(counts)
    assert np.isfinite(prepare(spectra_of(vacuum, counts)).noise.gain)


def test_a_tail_without_counts_is_measured() -> None:
    counting = replace(INSTRUMENT, gain=1.0, readout=0.0, point_spread=0.0, electrons=2e3)
    counts = rows_of(vacuum_scan(3, (1, 3), counting))
    assert (counts == 0).all(0).sum() > 50
    np.testing.assert_array_equal(without_dead_channels(counts), counts)


@pytest.mark.parametrize("left_ev", [0.4, 0.7])
def test_a_short_left_side_is_enough(left_ev: float) -> None:
    scan = vacuum_scan(1, (3, 3), replace(INSTRUMENT, offset_ev=-left_ev))
    prepared = prepare(spectra_of(scan))
    assert prepared.used == 9
    assert -left_ev - 0.1 < prepared.energy_ev[0] < 0.0


def test_one_spectrum_stands_for_its_like(vacuum: LowLossScan) -> None:
    prepared = prepare(spectra_of(vacuum, rows_of(vacuum)[:1]))
    low, high = prepared.widths_ev
    assert low < prepared.width_ev < high
    assert prepared.log_counts[0] < prepared.clusters[0].log_counts < prepared.log_counts[1]


def test_files_of_other_offsets_are_each_looked_at_where_their_peak_is(tmp_path: Path) -> None:
    # 512 channels of 0.1 eV: the peak of the second is beyond the search on the axis of the first.
    coarse = replace(INSTRUMENT, scale_ev=0.1)
    paths, parts = [tmp_path / "near.hspy", tmp_path / "far.hspy"], []
    for seed, (path, offset_ev) in enumerate(zip(paths, (-2.0, -25.0), strict=True), start=1):
        scan = vacuum_scan(seed, (3, 3), replace(coarse, offset_ev=offset_ev))
        write_scan(path, scan)
        parts.append(prepare(read_low_loss([path])))
    read = read_low_loss(paths)
    assert np.unique(read.offset_ev).tolist() == [-25.0, -2.0]
    both = prepare(read, 1)
    assert (both.used, both.pixels) == (18, 18)
    # As far as both reach.
    assert both.energy_ev[0] == pytest.approx(parts[0].energy_ev[0], abs=0.11)
    assert both.energy_ev[-1] == pytest.approx(parts[1].energy_ev[-1], abs=0.11)
    assert both.width_ev == pytest.approx(parts[0].width_ev, rel=0.05)


def test_files_are_read_line_by_line_and_refused_in_one_sentence(tmp_path: Path) -> None:
    scan = vacuum_scan(1, (5, 4), INSTRUMENT)
    path = tmp_path / "vacuum.hspy"
    write_scan(path, scan)
    assert read_low_loss([path]).counts.shape == (20, 512)
    first = read_low_loss([path], lines=2)
    np.testing.assert_allclose(first.counts, rows_of(scan)[:8])
    both = read_low_loss([path, path], condition="beam_kev")
    assert both.counts.shape == (40, 512)
    assert set(both.condition) == {200.0}
    told = read_low_loss([path, path], condition="slit", values=[1.0, 2.0]).condition
    assert set(told) == {1.0, 2.0}
    other = tmp_path / "other.hspy"
    write_scan(other, vacuum_scan(1, (2, 2), replace(INSTRUMENT, channels=500)))
    core = tmp_path / "core.hspy"
    write_scan(core, vacuum_scan(1, (2, 2), replace(INSTRUMENT, offset_ev=100.0)))
    with pytest.raises(ValueError, match="0 lines of a scan"):
        read_low_loss([path], lines=0)
    with pytest.raises(ValueError, match="1 values of slit for 2 files"):
        read_low_loss([path, path], condition="slit", values=[1.0])
    with pytest.raises(ValueError, match="does not tell slit"):
        read_low_loss([path], condition="slit")
    with pytest.raises(ValueError, match="expected the same of all"):
        read_low_loss([path, other])
    with pytest.raises(ValueError, match="no energy range holds the zero loss"):
        read_low_loss([core])
