from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.physics.constants import BOHR_SQUARED_BARN, RYDBERG_EV
from zeroloss_export.physics.cross_section import (
    AngleGrid,
    cross_section,
    disc_overlap,
    half_mass_velocity_squared_ev,
    wave_number_au,
)
from zeroloss_export.physics.edges import subshell
from zeroloss_export.physics.table import GosTable


def integrated(
    table: GosTable, labels: tuple[str, ...], core_hole: bool = False, window_ev: float = 100.0
) -> float:
    """Cross section over a window from the first onset at 300 kV, parallel, 2.55 mrad (barn)."""
    total = 0.0
    for label in labels:
        above = np.geomspace(table.energy_ev[0], window_ev, 200)
        spectrum = cross_section(
            subshell(label).onset_ev + table.energy_ev,
            table.gos[table.entry(label, core_hole)],
            table.momentum_au,
            300.0,
            0.0,
            2.55,
        )
        total += np.trapezoid(np.interp(above, table.energy_ev, spectrum), above)
    return float(total)


def test_kinematics_match_the_textbook() -> None:
    wavelength_pm = 2 * np.pi / wave_number_au(200e3) * 52.9177
    assert wavelength_pm == pytest.approx(2.508, abs=0.001)
    assert half_mass_velocity_squared_ev(100e3) == pytest.approx(76.79e3, rel=1e-3)


def test_parallel_beam_collects_all_or_nothing() -> None:
    angle = np.array([0.0, 4.9, 5.1, 20.0])
    np.testing.assert_array_equal(disc_overlap(angle, 0.0, 5.0), [1, 1, 0, 0])
    np.testing.assert_allclose(disc_overlap(angle, 1e-4, 5.0), [1, 1, 0, 0])


def test_large_collection_takes_everything_and_small_its_area() -> None:
    angle = np.linspace(0, 30, 31)
    np.testing.assert_array_equal(disc_overlap(angle, 10.0, 1e4), 1.0)
    assert disc_overlap(0.0, 10.0, 2.0) == pytest.approx(0.04)
    assert disc_overlap(12.0, 10.0, 2.0) == 0


@pytest.mark.parametrize(("alpha", "beta"), [(10.0, 2.5), (10.0, 10.0), (5.0, 40.0), (27.0, 33.0)])
def test_overlap_integrates_to_the_collection_solid_angle(alpha: float, beta: float) -> None:
    angle = np.linspace(0, alpha + beta, 20001)
    solid = np.trapezoid(2 * np.pi * angle * disc_overlap(angle, alpha, beta), angle)
    assert solid == pytest.approx(np.pi * beta**2, rel=1e-6)


def test_overlap_agrees_with_random_directions() -> None:
    generator = np.random.default_rng(3)
    radius = 10 * np.sqrt(generator.random(200_000))
    azimuth = 2 * np.pi * generator.random(200_000)
    x, y = radius * np.cos(azimuth), radius * np.sin(azimuth)
    for angle in (3.0, 8.0, 15.0):
        inside = np.hypot(x + angle, y) < 7.0
        assert disc_overlap(angle, 10.0, 7.0) == pytest.approx(inside.mean(), abs=4e-3)


def test_bin_weights_hold_the_collected_solid_angle() -> None:
    grid = AngleGrid(0.06)
    solid = np.diff(grid.edges**2)
    weights = grid.weights(np.array([[0.0], [0.01]]), np.array([0.005, 0.03]))
    assert weights.shape == (2, 2, 400)
    np.testing.assert_allclose(weights @ solid, [[0.005**2, 0.03**2]] * 2, rtol=4e-3)


def test_constant_strength_gives_the_dipole_logarithm() -> None:
    """Small-angle limit 4 pi a0^2 R^2 / (E T) f ln(1 + (beta / theta_E)^2) of Egerton (2011)."""
    energy_loss_ev = np.array([200.0, 700.0])
    momentum = np.geomspace(0.02, 26, 20)
    gos = np.full((20, 2), 0.01)
    t_ev = half_mass_velocity_squared_ev(200e3)
    gamma = 1 + 200e3 / 510998.95
    theta_e = energy_loss_ev / (2 * gamma * t_ev)
    expected = (
        4 * np.pi * BOHR_SQUARED_BARN * RYDBERG_EV**2 / (energy_loss_ev * t_ev) * 0.01
    ) * np.log1p((5e-3 / theta_e) ** 2)
    result = cross_section(energy_loss_ev, gos, momentum, 200.0, 0.0, 5.0)
    np.testing.assert_allclose(result, expected, rtol=3e-3)


def test_geometry_limits(shipped: GosTable) -> None:
    loss = subshell("O_K").onset_ev + shipped.energy_ev
    gos = shipped.gos[shipped.entry("O_K")]

    def spectrum(alpha: object, beta: object) -> np.ndarray:
        return cross_section(loss, gos, shipped.momentum_au, 200.0, alpha, beta)

    np.testing.assert_allclose(spectrum(1e-3, 10.0), spectrum(0.0, 10.0), rtol=2e-3)
    np.testing.assert_allclose(spectrum(5.0, 150.0), spectrum(0.0, 150.0), rtol=2e-2)
    betas = np.array([1.0, 3.0, 10.0, 30.0, 100.0])
    assert (np.diff(spectrum(10.0, betas), axis=0) > 0).all()
    together = spectrum(np.array([2.0, 10.0]), np.array([5.0, 20.0]))
    np.testing.assert_allclose(together[1], spectrum(10.0, 20.0), rtol=3e-3)


def test_boron_and_nitrogen_in_boron_nitride(shipped: GosTable) -> None:
    """sigma(N) / sigma(B) of the K edges over 100 eV; a core hole changes it by a few percent."""
    frozen = integrated(shipped, ("N_K",)) / integrated(shipped, ("B_K",))
    relaxed = integrated(shipped, ("N_K",), True) / integrated(shipped, ("B_K",), True)
    assert frozen == pytest.approx(0.19, abs=0.02)
    assert 1.0 < relaxed / frozen < 1.2


def test_ionisation_grows_with_the_beam_energy_as_bethe_says(shipped: GosTable) -> None:
    """T sigma gains the dipole strength over E per ln(T); losses whose ridge is collected."""
    kept = shipped.energy_ev < 1000
    loss = subshell("C_K").onset_ev + shipped.energy_ev[kept]
    gos = shipped.gos[shipped.entry("C_K")][:, kept]
    t_ev = np.array([half_mass_velocity_squared_ev(beam * 1e3) for beam in (100.0, 300.0)])
    total = [
        np.trapezoid(cross_section(loss, gos, shipped.momentum_au, beam, 0.0, 150.0), loss)
        for beam in (100.0, 300.0)
    ]
    slope = np.diff(np.array(total) * t_ev)[0] / np.diff(np.log(t_ev))[0]
    expected = 4 * np.pi * BOHR_SQUARED_BARN * RYDBERG_EV**2 * np.trapezoid(gos[0] / loss, loss)
    assert slope == pytest.approx(expected, rel=0.05)


def test_bad_geometry_is_refused(shipped: GosTable) -> None:
    gos, q = shipped.gos[0], shipped.momentum_au
    loss = 112.0 + shipped.energy_ev
    with pytest.raises(ValueError, match="10 to 1000 keV"):
        cross_section(loss, gos, q, 2e5, 1.0, 5.0)
    with pytest.raises(ValueError, match="beta > 0"):
        cross_section(loss, gos, q, 200.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="half the beam energy"):
        cross_section(loss - 200, gos, q, 200.0, 1.0, 5.0)
