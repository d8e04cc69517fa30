"""The specimen that the demo ships is the one this command makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zeroloss_clients.microscope import Specimen
from zeroloss_export.demo_specimen import MEMBERS, VISIBLE, energies, main
from zeroloss_export.physics.edges import subshell


def test_the_shipped_specimen_is_reproduced(tmp_path: Path) -> None:
    path = tmp_path / "specimen.npz"
    assert main(["--out", str(path)]) == 0
    made, shipped = Specimen.load(path), Specimen.shipped()
    np.testing.assert_allclose(made.abundance, shipped.abundance, atol=1e-6)
    ours, theirs = made.ranges["core_loss"], shipped.ranges["core_loss"]
    assert ours.axis == theirs.axis
    # A new table of oscillator strengths may move them a little; then write the file anew.
    np.testing.assert_allclose(ours.spectra, theirs.spectra, rtol=0.03)


def test_each_material_shows_its_edges_and_no_other() -> None:
    spectra = Specimen.shipped().ranges["core_loss"].spectra
    energy = energies()
    onsets = {"O": "O_K", "Ti": "Ti_L3", "Mn": "Mn_L3", "Fe": "Fe_L3", "La": "La_M5"}
    assert set(onsets) == set(VISIBLE)
    for member, counts in zip(MEMBERS, spectra, strict=True):
        for element, label in onsets.items():
            onset = subshell(label).onset_ev
            before = counts[(energy > onset - 12) & (energy < onset - 6)].mean()
            after = counts[(energy > onset + 1) & (energy < onset + 7)].mean()
            assert (after > 1.03 * before) == (element in member.atoms), (member.name, element)


def test_no_element_is_claimed_that_cannot_be_seen() -> None:
    for member in MEMBERS:
        hidden = set(member.atoms) - set(VISIBLE)
        assert hidden <= {"Sr"}
    low, high = energies()[[0, -1]]
    assert not low < subshell("Sr_M5").onset_ev < high
    assert not low < subshell("Sr_L3").onset_ev < high
