from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zeroloss_export.physics.atom import Atom
from zeroloss_export.physics.constants import BOHR_SQUARED_BARN, HARTREE_EV, SPEED_OF_LIGHT_AU
from zeroloss_export.physics.edges import edge_groups, subshells
from zeroloss_export.physics.generate import ENERGY_EV, element_table, generate
from zeroloss_export.physics.gos import GosSolver
from zeroloss_export.physics.table import GosTable

FLOAT16_STEP = 0.006  # of logarithms within +-12 of the median


@pytest.fixture(scope="module")
def boron() -> GosTable:
    return element_table("B")


def test_shipped_table_is_complete(shipped: GosTable) -> None:
    names = tuple(subshell.label for subshell in subshells())
    majors = tuple(subshell.label for subshell in subshells() if subshell.major)
    assert shipped.labels == names + majors
    assert shipped.core_hole.tolist() == [False] * 417 + [True] * 200
    assert np.isfinite(shipped.gos).all()
    assert (shipped.gos > 0).all()
    np.testing.assert_allclose(shipped.energy_ev, ENERGY_EV)


def test_live_atom_gives_the_shipped_rows(boron: GosTable, shipped: GosTable) -> None:
    assert boron.labels == ("B_K", "B_K")
    for core_hole in (False, True):
        live, stored = boron.entry("B_K", core_hole), shipped.entry("B_K", core_hole)
        assert shipped.binding_ev[stored] == pytest.approx(boron.binding_ev[live], abs=1e-3)
        visible = boron.gos[live] > 1e-6 * boron.gos[live].max()
        np.testing.assert_allclose(
            shipped.gos[stored][visible], boron.gos[live][visible], rtol=FLOAT16_STEP
        )
        assert [line.final for line in shipped.lines(stored)] == [
            line.final for line in boron.lines(live)
        ]


def test_dipole_limit_agrees_with_photoionisation(xraylib, shipped: GosTable) -> None:
    """L. Kissel's subshell cross sections, at the same energy above each one's own threshold."""
    to_barn = 2 * np.pi**2 * BOHR_SQUARED_BARN * HARTREE_EV / SPEED_OF_LIGHT_AU
    energy_ev = shipped.energy_ev
    deviation = []
    for subshell in subshells():
        z, shell = subshell.atomic_number, getattr(xraylib, f"{subshell.name}_SHELL")
        entry = shipped.entry(subshell.label)
        electrons = xraylib.ElectronConfig(z, shell)
        for energy, strength in zip(energy_ev, shipped.gos[entry, 0], strict=True):
            photon_ev = float(shipped.binding_ev[entry] + energy)
            if not 20 <= energy <= 1000 or photon_ev < subshell.onset_ev + 1:
                continue
            kissel = electrons * xraylib.CSb_Photo_Partial(z, shell, 1e-3 * photon_ev)
            deviation.append(kissel / (to_barn * strength) - 1)
    median, most = np.percentile(np.abs(deviation), [50, 95])
    assert median < 0.01
    assert most < 0.03
    assert abs(np.median(deviation)) < 0.003


def test_bethe_sum_of_a_tight_shell_is_its_electron_count() -> None:
    """At large momentum nothing is left below the edge and the continuum holds all strength."""
    atom = Atom(4)
    energy_ev = np.linspace(5.0, 4000.0, 100)
    (result,) = GosSolver(4, energy_ev, np.array([6.0, 8.0])).solve(atom, ((1, 0, 1),))
    total = np.trapezoid(result.gos, energy_ev, axis=1)
    np.testing.assert_allclose(total, 2.0, rtol=0.03)


def test_white_lines_follow_the_holes(shipped: GosTable) -> None:
    def ratio(label: str) -> float:
        return shipped.white_line_ratio(shipped.entry(label))

    assert ratio("Ti_L3") == pytest.approx(0.98, abs=0.05)
    assert ratio("Ti_L3") > ratio("Fe_L3") > 0.8 > 0.1 > ratio("Cu_L3")
    assert ratio("La_M5") > 2
    assert ratio("Lu_M5") < 0.05
    (line,) = [
        line
        for line in shipped.lines(shipped.entry("Fe_L3"))
        if line.final[:2] == (3, 2) and line.final[2] == 5
    ]
    assert -20 < line.offset_ev < 0


def test_core_hole_pulls_strength_towards_the_edge(shipped: GosTable) -> None:
    above = shipped.energy_ev > 10

    def maximum_ev(label: str, core_hole: bool) -> float:
        dipole = shipped.gos[shipped.entry(label, core_hole), 0]
        return float(shipped.energy_ev[above][np.argmax(dipole[above])])

    for label in ("Ag_M5", "Cd_M5", "Zr_M5"):
        assert 30 < maximum_ev(label, True) < maximum_ev(label, False) < 90


def test_save_and_load_keep_the_table(boron: GosTable, tmp_path: Path) -> None:
    boron.save(tmp_path / "boron.npz")
    loaded = GosTable.load(tmp_path / "boron.npz")
    assert loaded.labels == boron.labels
    np.testing.assert_array_equal(loaded.core_hole, boron.core_hole)
    visible = boron.gos > 1e-6 * boron.gos.max()
    np.testing.assert_allclose(loaded.gos[visible], boron.gos[visible], rtol=FLOAT16_STEP)
    loaded.save(tmp_path / "again.npz")
    np.testing.assert_allclose(GosTable.load(tmp_path / "again.npz").gos, loaded.gos, rtol=1e-5)


def test_mismatched_file_is_refused(boron: GosTable, tmp_path: Path) -> None:
    boron.save(tmp_path / "table.npz")
    with np.load(tmp_path / "table.npz") as file:
        arrays = dict(file)
    arrays["energy_ev"] = arrays["energy_ev"][:-1]
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(ValueError, match=r"expected log_gos .* \(2, 40, 55\), got \(2, 40, 56\)"):
        GosTable.load(tmp_path / "broken.npz")


def test_unknown_entry_is_refused(shipped: GosTable) -> None:
    assert ("Ti_L1", True) not in shipped
    with pytest.raises(KeyError, match="core-hole"):
        shipped.entry("Ti_L1", core_hole=True)


def test_generation_goes_on_from_finished_elements(
    boron: GosTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "gos.parts"
    parts.mkdir()
    boron.save(parts / "B.npz")
    table = generate(tmp_path / "gos.npz", jobs=1, elements=("Be", "B"))
    assert table.labels == ("Be_K", "B_K", "Be_K", "B_K")
    assert table.core_hole.tolist() == [False, False, True, True]
    assert capsys.readouterr().out.startswith("Be 1/1 elements")
    assert not parts.exists()
    final = [line.final for line in table.lines(table.entry("B_K"))]
    assert final == [line.final for line in boron.lines(boron.entry("B_K"))]


def test_groups_and_table_agree(shipped: GosTable) -> None:
    for group in edge_groups():
        for member in group.subshells:
            assert ((member.label, True) in shipped) == member.major
