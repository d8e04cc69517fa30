"""Simulated specimens: the truth adds up, and the counts are what follows from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from zeroloss.recording.spectrum_files import read_spectrum_file
from zeroloss_export.cli import main
from zeroloss_export.physics.edges import edge_groups, subshell
from zeroloss_export.simulate.specimens import (
    SPECIMENS,
    Conditions,
    SpecimenScan,
    simulate,
)
from zeroloss_export.simulate.specimens.core_loss import CoreLosses
from zeroloss_export.simulate.specimens.materials import CARBON, SRTIO3
from zeroloss_export.simulate.specimens.scan import NM2_PER_BARN

SHAPE = (6, 9)
MOVING = Conditions(drift=True, contamination=True)


@pytest.fixture(scope="module", params=SPECIMENS)
def scan(request: pytest.FixtureRequest) -> SpecimenScan:
    return simulate(request.param, SHAPE, 3)


@pytest.fixture(scope="module")
def losses() -> CoreLosses:
    given = Conditions()
    return CoreLosses(given.beam_kev, given.convergence_mrad, given.collection_mrad)


def test_the_truth_adds_up(scan: SpecimenScan) -> None:
    assert scan.shape == scan.thickness.shape == scan.thickness_nm.shape == SHAPE
    assert scan.areal_density.shape == (len(scan.elements), *SHAPE)
    assert (scan.areal_density >= 0).all()
    np.testing.assert_allclose(scan.atomic_fraction().sum(0), 100.0)
    atoms = [m.units_per_nm3 * sum(m.atoms.values()) for m in SPECIMENS[scan.name].materials]
    per_nm = scan.areal_density.sum(0) / scan.thickness_nm
    assert (per_nm >= min(atoms) - 1e-9).all()
    assert (per_nm <= max(atoms) + 1e-9).all()
    assert set(scan.visible) <= set(scan.elements)
    assert len(scan.visible) >= 2


def test_the_low_loss_tells_the_thickness_and_the_electrons(scan: SpecimenScan) -> None:
    given = scan.conditions
    total = scan.low_mean.sum(-1)
    np.testing.assert_allclose(total, given.dose / given.exposure_ratio, rtol=5e-3)
    # Half of the resolution takes in all that lost nothing.
    zero_loss = scan.low_mean[..., np.abs(scan.low.energy_ev) < 1.6].sum(-1)
    np.testing.assert_allclose(np.log(total / zero_loss), scan.thickness, atol=5e-3)


def test_counts_are_poisson(scan: SpecimenScan) -> None:
    for counts, mean in ((scan.core_counts, scan.core_mean), (scan.low_counts, scan.low_mean)):
        large = mean > 20
        pull = (counts[large] - mean[large].astype(np.float64)) / np.sqrt(mean[large])
        assert abs(pull.mean()) < 5 / np.sqrt(pull.size)
        assert abs(pull.var() - 1) < 5 * np.sqrt(2.2 / pull.size)


def test_the_same_arguments_give_the_same_scan() -> None:
    first, second = (simulate("core_shell", (3, 4), 5, MOVING) for _ in range(2))
    np.testing.assert_array_equal(first.core_counts, second.core_counts)
    np.testing.assert_array_equal(first.low_counts, second.low_counts)
    np.testing.assert_array_equal(first.areal_density, second.areal_density)
    other = simulate("core_shell", (3, 4), 6, MOVING)
    assert (other.core_counts != first.core_counts).any()


def test_core_losses_integrate_to_the_truth_times_the_cross_section(losses: CoreLosses) -> None:
    """Boron nitride above its near-edge structure, scattered by the low loss of the same pixel."""
    scan = simulate("wedge", (1, 2), 2, replace(Conditions(), dose=1e12))
    energy, given = scan.core.energy_ev, scan.conditions
    window = (energy > 480) & (energy < 800)
    material = SPECIMENS["wedge"].materials[0]
    smooth = material.units_per_nm3 * losses.background(material, energy)
    per_atom = {}
    for group in edge_groups():
        if group.element in scan.elements:
            edge = sum(losses.cross_section(item, energy) for item in group.subshells)
            per_atom[group.element] = edge
    # The pixel's own low loss, folded with single losses on the same channels.
    low, first = scan.low_mean[0].astype(np.float64), round(-scan.low.offset_ev / 0.5)
    low /= low.sum(-1, keepdims=True)
    for pixel in range(2):
        single = smooth * scan.thickness_nm[0, pixel]
        for element, edge in per_atom.items():
            density = scan.areal_density[scan.elements.index(element), 0, pixel]
            single = single + density * edge
        folded = np.convolve(single, low[pixel])[first : first + len(energy)]
        expected = folded * given.dose * scan.core.scale_ev * NM2_PER_BARN
        ratio = scan.core_mean[0, pixel, window].sum() / expected[window].sum()
        # What is lost before the range scatters into it as well; so little is left of that here.
        assert 1.0 <= ratio < 1.1


def test_a_thin_layer_shows_single_losses_only(losses: CoreLosses) -> None:
    axis = np.arange(300.0, 1200.0, 0.5)
    whole = losses.material(SRTIO3, axis, 1)
    smooth = losses.background(SRTIO3, axis)
    for group in edge_groups():
        if group.element in SRTIO3.atoms:
            edge = sum(losses.cross_section(item, axis) for item in group.subshells)
            smooth = smooth + SRTIO3.atoms[group.element] * edge
    for label, other in (("Ti_L3", 600.0), ("O_K", 900.0)):
        onset = subshell(label).onset_ev
        near = (axis > onset) & (axis < onset + 40)
        far = (axis > other) & (axis < other + 200)
        assert np.abs(whole[near] / smooth[near] - 1).max() > 0.03
        np.testing.assert_allclose(whole[far].sum(), smooth[far].sum(), rtol=5e-3)


def test_near_edge_structure_belongs_to_the_seed(losses: CoreLosses) -> None:
    axis = np.arange(250.0, 400.0, 0.5)
    first, again, other = (losses.material(CARBON, axis, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(other / first - 1).max() > 0.02


def test_drift_moves_the_specimen_and_the_axis() -> None:
    still, moved = (simulate("superlattice", (8, 40), 4, Conditions(drift=d)) for d in (0, 1))
    assert (still.shift_ev == 0).all()
    titanium = still.elements.index("Ti")
    change = np.abs(moved.areal_density[titanium] - still.areal_density[titanium]).mean(1)
    assert change[-1] > 5 * change[0]
    energy = moved.low.energy_ev
    inside = np.abs(energy) < 4
    peak = moved.low_mean[..., inside].astype(np.float64)
    peak = (peak * energy[inside]).sum(-1) / peak.sum(-1)
    slope, _ = np.polyfit(moved.shift_ev.ravel(), peak.ravel(), 1)
    assert np.ptp(moved.shift_ev) > 0.3
    assert slope == pytest.approx(1.0, abs=0.05)


def test_contamination_grows_and_is_part_of_the_truth() -> None:
    clean, dirty = (simulate("wedge", (6, 6), 4, Conditions(contamination=c)) for c in (0, 1))
    assert clean.elements == ("B", "N")
    assert dirty.visible == ("B", "C", "N")
    carbon = dirty.areal_density[dirty.elements.index("C")]
    assert carbon[-1, -1] > carbon[2, 0] > 0
    assert (dirty.thickness > clean.thickness).all()
    film = simulate("core_shell", (6, 6), 4, Conditions(contamination=True))
    assert film.elements.count("C") == 1


def test_gain_multiplies_the_noise() -> None:
    scan = simulate("wedge", (4, 4), 1, Conditions(gain=8.0, gain_noise=0.0))
    mean = scan.core_mean.astype(np.float64)
    pull = (scan.core_counts - mean) / np.sqrt(8.0 * mean)
    assert pull.var() == pytest.approx(1.0, abs=0.05)
    assert set(np.unique(scan.core_counts % 8)) == {0}


def test_what_cannot_be_simulated_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="one of the specimens superlattice, core_shell"):
        simulate("ice")
    with pytest.raises(ValueError, match="at least one row"):
        simulate("wedge", (0, 4))
    with pytest.raises(ValueError, match="a dose above 0, got -1"):
        Conditions(dose=-1)
    with pytest.raises(ValueError, match="expected a gain_noise of 0"):
        Conditions(gain_noise=0.7)
    for much in (Conditions(dose=1e15), Conditions(gain=1e6), Conditions(exposure_ratio=1e-4)):
        with pytest.raises(ValueError, match="at most 4294967295 counts in a channel, got"):
            simulate("wedge", (2, 2), conditions=much)


def test_the_command_writes_what_zeroloss_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "wedge.hspy"
    arguments = ["specimen", "wedge", "--out", str(out), "--shape", "3", "5", "--seed", "7"]
    assert main([*arguments, "--dose", "1e8", "--drift", "--contamination"]) == 0
    assert "edges of B C N" in capsys.readouterr().out
    scan = simulate("wedge", (3, 5), 7, replace(MOVING, dose=1e8))
    file = read_spectrum_file(out, tmp_path / "wedge-low-loss.hspy")
    assert (file.shape, file.modality, file.notes) == ((3, 5), "eels", ())
    assert {item.name: item.offset_ev for item in file.ranges} == {
        "core_loss": scan.core.offset_ev,
        "low_loss": scan.low.offset_ev,
    }
    assert (file.beam_kev, file.convergence_mrad, file.collection_mrad) == (200.0, 22.0, 36.0)
    np.testing.assert_array_equal(file.counts["core_loss"], scan.core_counts.reshape(15, -1))
    np.testing.assert_array_equal(file.counts["low_loss"], scan.low_counts.reshape(15, -1))
    with h5py.File(out) as written:
        truth = {
            name: written[f"Experiments/true {name}"]
            for name in ("areal density", "atomic fraction", "thickness", "shift")
        }
        np.testing.assert_allclose(truth["areal density"]["data"], scan.areal_density, rtol=1e-6)
        np.testing.assert_allclose(truth["atomic fraction"]["data"], scan.atomic_fraction())
        np.testing.assert_allclose(truth["thickness"]["data"], scan.thickness, rtol=1e-6)
        np.testing.assert_allclose(truth["shift"]["data"], scan.shift_ev, rtol=1e-5)
        elements = truth["areal density"]["metadata/Sample/_list_elements"][()]
        assert [item.decode() for item in elements] == list(scan.elements)


@pytest.mark.filterwarnings("default")  # of the libraries that HyperSpy brings
def test_hyperspy_reads_the_truth(tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api", reason="needs hyperspy")
    assert main(["specimen", "wedge", "--out", str(tmp_path / "a.hspy"), "--shape", "2", "3"]) == 0
    signals = {item.metadata.General.title: item for item in hs.load(tmp_path / "a.hspy")}
    truth = signals["Wedge of boron nitride (simulated): true areal density"]
    assert list(truth.metadata.Sample.elements) == ["B", "N"]
    assert truth.axes_manager.signal_shape == (3, 2)
    assert truth.axes_manager.navigation_shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("wedge", "--out", "a.npz"), "a file name that ends in .hspy"),
        (("wedge", "--out", "a.hspy", "--shape", "0", "2"), "at least one row and one column"),
        (("wedge", "--out", "a.hspy", "--dose", "-2"), "a dose above 0"),
    ],
)
def test_the_command_says_what_was_expected(
    arguments: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["specimen", *arguments]) == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
