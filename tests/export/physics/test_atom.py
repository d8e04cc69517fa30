from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.physics.atom import Atom
from zeroloss_export.physics.configuration import ground_state, kappa
from zeroloss_export.physics.constants import HARTREE_EV, SPEED_OF_LIGHT_AU
from zeroloss_export.physics.edges import subshells
from zeroloss_export.physics.gos import GosSolver
from zeroloss_export.physics.table import GosTable


def coulomb_atom(atomic_number: int) -> Atom:
    """An atom whose field is replaced by that of the bare nucleus."""
    atom = Atom(atomic_number)
    atom.potential_r = np.full_like(atom.radius, -float(atomic_number))
    return atom


def sommerfeld(atomic_number: int, n: int, k: int) -> float:
    """Dirac energy of a point-nucleus hydrogen-like ion, without the rest energy, Hartree."""
    coupling = atomic_number / SPEED_OF_LIGHT_AU
    effective = n - abs(k) + np.sqrt(k * k - coupling**2)
    ratio = (coupling / effective) ** 2
    root = np.sqrt(1 + ratio)
    return float(-(SPEED_OF_LIGHT_AU**2) * ratio / (root * (1 + root)))


def bethe_hydrogen(energy: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """df/dE of H 1s per Hartree, [momentum, energy]; H. Bethe, Ann. Phys. 397 (1930) 325.

    ``energy`` of the ejected electron in Hartree, ``momentum`` in 1/bohr.
    """
    k = np.sqrt(2 * energy)
    q = momentum[:, None]
    transition = 1 + k * k  # Rydberg
    angle = np.arctan2(2 * k, q * q - k * k + 1)
    numerator = 2**7 * transition * (q * q + transition / 3) * np.exp(-2 * angle / k)
    denominator = (((q + k) ** 2 + 1) * ((q - k) ** 2 + 1)) ** 3 * (1 - np.exp(-2 * np.pi / k))
    return np.asarray(2 * numerator / denominator)


@pytest.mark.parametrize("atomic_number", [4, 47, 80])
def test_energies_in_a_bare_coulomb_field_are_exact(atomic_number: int) -> None:
    atom = coulomb_atom(atomic_number)
    for ell, twice_j in ((0, 1), (1, 1), (1, 3), (2, 5)):
        for state in atom.bound_states(ell, twice_j, 3):
            exact = sommerfeld(atomic_number, state.quantum[0], kappa(ell, twice_j))
            assert state.energy == pytest.approx(exact, rel=2e-6)
            norm = atom.integrate(state.large**2 + state.small**2)
            assert norm == pytest.approx(1, abs=1e-5)


def test_hydrogen_oscillator_strengths_are_those_of_bethe() -> None:
    atom = coulomb_atom(1)
    atom.orbitals = {(1, 0, 1): atom.bound_states(0, 1, 1)[0]}
    energy_ev = np.array([2.0, 10.0, 50.0, 150.0])
    momentum = np.array([0.02, 0.3, 1.0, 2.0, 3.5])
    (result,) = GosSolver(1, energy_ev, momentum).solve(atom, ((1, 0, 1),))
    exact = 2 * bethe_hydrogen(energy_ev / HARTREE_EV, momentum) / HARTREE_EV
    np.testing.assert_allclose(result.gos, exact, rtol=5e-3)
    strengths = {line.final: line.strength for line in result.lines}
    both_spins = strengths[2, 1, 1] + strengths[2, 1, 3]
    assert both_spins == pytest.approx(2 * 0.41620, rel=1e-3)  # Lyman alpha, two electrons


def test_ground_states_hold_all_electrons() -> None:
    for z in range(1, 84):
        assert sum(ground_state(z).values()) == pytest.approx(z)
    assert ground_state(29)[3, 2, 5] == 6
    assert ground_state(64)[5, 2, 3] == pytest.approx(0.4)


def test_density_of_a_solved_atom_screens_the_nucleus() -> None:
    atom = Atom(14)
    electrons = sum(
        count * atom.integrate(orbital.large**2 + orbital.small**2)
        for quantum, count in atom.occupation.items()
        for orbital in [atom.orbitals[quantum]]
    )
    assert electrons == pytest.approx(14, abs=1e-4)
    near, far = atom.potential_times_r(np.array([1e-7, 30.0]))
    assert near == pytest.approx(-14)
    assert far == pytest.approx(-1, abs=1e-3)


def test_core_hole_binds_the_rest_more_tightly() -> None:
    atom = Atom(8)
    ion = Atom(8, hole=(1, 0, 1), start=atom)
    for quantum, orbital in atom.orbitals.items():
        assert ion.orbitals[quantum].energy < orbital.energy
    assert ion.potential_times_r(np.array([30.0]))[0] == pytest.approx(-1, abs=1e-3)


def test_computed_binding_energies_are_close_to_the_edges(shipped: GosTable) -> None:
    ratio = np.array([shipped.binding_ev[shipped.entry(s.label)] / s.onset_ev for s in subshells()])
    assert np.median(np.abs(ratio - 1)) < 0.01
    deep = np.array([s.onset_ev > 1000 for s in subshells()])
    assert np.abs(ratio[deep] - 1).max() < 0.025
