from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from zeroloss.recording.spectrum_files import read_spectrum_file
from zeroloss_export.simulate.dielectric import NITRIDE, SULFIDE, Beam, Material, draw_material
from zeroloss_export.simulate.low_loss import (
    VACUUM,
    Instrument,
    draw_instrument,
    random_scan,
    simulate,
    specimen_scan,
    vacuum_scan,
)
from zeroloss_export.simulate.low_loss_faults import FAULTS, spoil
from zeroloss_export.simulate.low_loss_file import write_scan
from zeroloss_export.simulate.zero_loss_peak import ZeroLossPeak, draw_peak


def test_tails_level_off_as_measured_ones_do() -> None:
    exponent = ZeroLossPeak(fwhm_ev=0.45).local_exponent([1.0, 3.5, 10.0])
    np.testing.assert_allclose(exponent, [3.7, 2.5, 1.0], atol=0.25)


@pytest.mark.parametrize("source", ["cold field emission", "Schottky", "monochromated"])
def test_drawn_peaks_have_the_width_they_say(source: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        peak = draw_peak(rng, source)  # type: ignore[arg-type]
        energy = peak.fwhm_ev * np.linspace(-3, 3, 6001)
        shape = peak.density(energy)
        above = energy[shape > 0.5]
        assert above[-1] - above[0] == pytest.approx(peak.fwhm_ev, rel=0.01)
        assert energy[shape.argmax()] == pytest.approx(0, abs=1e-9)
        assert shape.max() == pytest.approx(1)
        assert (np.diff(shape[energy > 0]) < 0).all()


def test_another_beam_energy_changes_the_peak_smoothly() -> None:
    peak = ZeroLossPeak()
    assert peak.at_beam(200.0).fwhm_ev == peak.fwhm_ev
    widths = [peak.at_beam(kev).fwhm_ev for kev in (60.0, 100.0, 200.0, 300.0)]
    assert widths == sorted(widths, reverse=True)
    with pytest.raises(ValueError, match="above 0"):
        peak.at_beam(0.0)


@pytest.mark.parametrize("change", [{"fwhm_ev": 0.0}, {"asymmetry": 1.0}, {"halo_exponent": 5.0}])
def test_no_peak_of_impossible_shape(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no zero-loss peak"):
        ZeroLossPeak(**change)


@pytest.mark.parametrize("material", [SULFIDE, NITRIDE, draw_material(np.random.default_rng(4))])
def test_the_dielectric_function_belongs_to_the_losses(material: Material) -> None:
    energy = np.linspace(0.01, 60.0, 3000)
    eps = material.dielectric_function(energy)
    loss = material.loss_function(energy)
    np.testing.assert_allclose((-1 / eps).imag, loss, atol=1e-9)
    assert eps[0].real == pytest.approx(material.refractive_index**2, rel=1e-3)
    assert (loss[energy < material.gap_ev] == 0).all()
    # Kramers and Kronig's relation by a plain sum whose poles lie between the points.
    grid = 0.05 * (np.arange(80000) + 0.5)
    at = 8.0
    integral = (material.loss_function(grid) * grid / (grid**2 - at**2)).sum() * 0.05
    expected = np.interp(at, energy, (1 / eps).real)
    assert 1 - 2 / np.pi * integral == pytest.approx(expected, abs=2e-3)


def test_the_onset_is_a_power_law() -> None:
    above = np.array([0.1, 0.3, 1.0])
    loss = SULFIDE.loss_function(SULFIDE.gap_ev + above)
    np.testing.assert_allclose(loss / loss[0], (above / 0.1) ** SULFIDE.exponent, rtol=0.02)


def test_mean_free_paths_are_of_the_usual_size() -> None:
    assert 80 < Beam(200.0, 20.0).mean_free_path_nm(SULFIDE) < 180
    assert Beam(60.0, 20.0).mean_free_path_nm(SULFIDE) < 90


def test_thickness_is_the_log_ratio_where_the_range_holds_all_losses() -> None:
    wide = Instrument(offset_ev=-20.0, scale_ev=0.1, channels=8192, point_spread=0.7)
    thickness = np.array([[0.0, 0.1, 0.5, 1.5]])
    scan = simulate(1, wide, thickness, np.zeros((1, 4), np.int64), (SULFIDE,))
    zero = scan.zero_loss.astype(np.float64).sum(-1)
    ratio = np.log1p(scan.inelastic.astype(np.float64).sum(-1) / zero)
    np.testing.assert_allclose(ratio, thickness, atol=1e-4, rtol=0.02)
    path = wide.beam.mean_free_path_nm(SULFIDE)
    np.testing.assert_allclose(scan.thickness_nm, thickness * path)


def test_noise_is_that_of_the_truth() -> None:
    scan = vacuum_scan(2, (20, 20), Instrument(drift_ev=0.0))
    deviation = (scan.counts - scan.zero_loss - scan.inelastic) / np.sqrt(scan.variance)
    flat = deviation[..., 8:-8]
    assert flat.std() == pytest.approx(1.0, abs=0.02)
    assert flat.mean() == pytest.approx(0.0, abs=0.01)
    # Electrons spread over channels, readout noise does not: beside it, nothing is left.
    core, end = slice(70, 90), slice(-100, -1)
    near = [(flat[..., cut] * np.roll(flat, -1, -1)[..., cut]).mean() for cut in (core, end)]
    assert 0.4 < near[0] < 0.7
    assert near[1] < 0.1
    sharp = vacuum_scan(2, (20, 20), Instrument(point_spread=0.0))
    deviation = (sharp.counts - sharp.zero_loss) / np.sqrt(sharp.variance)
    assert (deviation[..., 1:] * deviation[..., :-1]).mean() == pytest.approx(0, abs=0.01)


def test_peaks_drift_and_lie_where_the_truth_says() -> None:
    scan = vacuum_scan(5, (10, 10), Instrument(drift_ev=0.05, misalignment_ev=1.3))
    energy = scan.instrument.energy_ev
    found = energy[scan.zero_loss.argmax(-1)]
    # An asymmetric peak that the point spread blurs moves its maximum a little.
    assert np.abs(found - scan.shift_ev).max() < 2 * scan.instrument.scale_ev
    assert np.ptp(scan.shift_ev) > 0.1
    assert abs(scan.shift_ev[0, 0] - 1.3) < 0.3


def test_the_same_seed_gives_the_same_scan() -> None:
    one, two, three = (specimen_scan(seed, (6, 6)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one.counts, two.counts)
    assert not np.array_equal(one.counts, three.counts)
    assert random_scan(3).counts.tobytes() == random_scan(3).counts.tobytes()


def test_a_flake_in_vacuum_with_a_wedge_and_two_gaps() -> None:
    scan = specimen_scan(1, (24, 24), thickness=(0.2, 0.6))
    assert scan.counts.shape == (24, 24, scan.instrument.channels)
    assert scan.counts.dtype == np.float32
    outside = scan.material == VACUUM
    assert outside[0, 0]
    assert outside.any()
    assert np.isnan(scan.gap_ev[outside]).all()
    assert (scan.inelastic[outside] == 0).all()
    assert (scan.thickness[outside] == 0).all()
    assert set(scan.gap_ev[~outside]) == {SULFIDE.gap_ev, NITRIDE.gap_ev}
    row = scan.thickness[12][~outside[12]]
    assert (np.diff(row) > 0).all()
    assert 0.2 < row[0] < row[-1] < 0.6
    below = scan.instrument.energy_ev < SULFIDE.gap_ev - 1.5
    lost = scan.inelastic[8, 12]
    assert lost[below].max() < 1e-3 * lost.max()


def test_random_scans_hide_their_gap_under_the_tail() -> None:
    for seed in range(8):
        scan = random_scan(seed, (1, 2))
        instrument = scan.instrument
        assert instrument.peak.fwhm_ev > 5.9 * instrument.scale_ev
        assert instrument.energy_ev[0] < -2 * instrument.peak.fwhm_ev
        assert 2 * instrument.peak.fwhm_ev < scan.gap_ev[0, 0] < instrument.energy_ev[-1]
    source = draw_instrument(np.random.default_rng(1), "monochromated")
    assert source.peak.fwhm_ev <= 0.2


def test_another_beam_energy_shortens_the_mean_free_path() -> None:
    slow = Instrument().at_beam(60.0)
    assert slow.beam.beam_kev == 60.0
    assert slow.peak != Instrument().peak
    assert slow.beam.mean_free_path_nm(SULFIDE) < Instrument().beam.mean_free_path_nm(SULFIDE)


def test_impossible_scans_are_refused() -> None:
    two = np.zeros((2, 2), np.int64)
    with pytest.raises(ValueError, match="one shape"):
        simulate(1, Instrument(), np.zeros((2, 3)), two, (SULFIDE,))
    with pytest.raises(ValueError, match="0 or more in every pixel"):
        simulate(1, Instrument(), np.full((2, 2), -0.1), two, (SULFIDE,))
    with pytest.raises(ValueError, match="expected materials"):
        simulate(1, Instrument(), np.zeros((2, 2)), two + 1, (SULFIDE,))
    with pytest.raises(ValueError, match="above 0"):
        Instrument(scale_ev=0.0)
    with pytest.raises(ValueError, match="0 or more"):
        Instrument(readout=-1.0)


def test_bad_spectra_are_bad() -> None:
    scan = vacuum_scan(4, (2, 3), Instrument(drift_ev=0.0))
    spoiled = {fault: spoil(scan, fault) for fault in FAULTS}
    assert all(counts.shape == scan.counts.shape for counts in spoiled.values())
    assert all(counts.dtype == np.float32 for counts in spoiled.values())
    core = scan.counts.argmax(-1)[0, 0]
    assert np.isnan(spoiled["saturated"][0, 0, core])
    assert np.isfinite(spoiled["saturated"][0, 0, -100:]).all()
    flat = spoiled["clipped"][0, 0]
    assert (flat == flat.max()).sum() > 3
    assert (spoiled["shifted out"].argmax(-1) == 0).mean() > 0.9
    assert spoiled["negative"][..., -500:].mean() < -10 * scan.instrument.readout
    assert spoiled["no peak"].max() < 10 * scan.instrument.readout


def test_files_are_read_back(tmp_path: Path) -> None:
    pytest.importorskip("rsciio", reason="reading microscope files needs the extra hyperspy")
    instrument = dataclasses.replace(Instrument(channels=512), dwell_s=0.02)
    scan = specimen_scan(3, (4, 5), instrument)
    write_scan(tmp_path / "flake.hspy", scan)
    file = read_spectrum_file(tmp_path / "flake.hspy")
    assert (file.shape, file.step, file.step_unit) == ((4, 5), (2.0, 2.0), "nm")
    (energy,) = file.ranges
    assert (energy.name, energy.offset_ev, energy.scale_ev) == ("low_loss", -4.0, 0.05)
    assert (file.beam_kev, file.convergence_mrad, file.collection_mrad) == (200.0, 10.0, 20.0)
    assert file.dwell_s == 0.02
    np.testing.assert_array_equal(file.counts["low_loss"], scan.counts.reshape(20, 512))
    with pytest.raises(ValueError, match=r"\.hspy"):
        write_scan(tmp_path / "flake.h5", scan)
    with pytest.raises(ValueError, match="the scan's own"):
        write_scan(tmp_path / "other.hspy", scan, scan.counts[:2])
