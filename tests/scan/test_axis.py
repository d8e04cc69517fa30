"""The energy axis: what it is, and which calibrations are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zeroloss.scan import AxisError, EnergyAxis
from zeroloss.scan.axis import MAX_SCALE_EV, MIN_SCALE_EV
from zeroloss.wire import EnergyRange

offsets = st.floats(-500, 5000)
scales = st.floats(0.02, MAX_SCALE_EV)
sizes = st.integers(2, 4096)


@given(offsets, scales, sizes)
def test_energies_give_the_axis_back(offset_ev, scale_ev, size):
    axis = EnergyAxis(offset_ev, scale_ev, size)
    energies = axis.energies()
    assert len(energies) == size
    assert energies[-1] == pytest.approx(axis.end_ev, abs=1e-6)
    again = EnergyAxis.from_energies(energies)
    assert again.size == size
    assert again.offset_ev == offset_ev
    assert again.scale_ev == pytest.approx(scale_ev, rel=1e-6)


@given(offsets, scales, sizes, st.floats(-6000, 6000), st.floats(0, 6000))
def test_overlap_is_that_of_the_channel_edges(offset_ev, scale_ev, size, low_ev, width_ev):
    axis = EnergyAxis(offset_ev, scale_ev, size)
    high_ev = low_ev + width_ev
    overlap = axis.overlap_ev(low_ev, high_ev)
    assert 0 <= overlap <= min(width_ev, scale_ev * size) + 1e-6
    begin, end = offset_ev - scale_ev / 2, offset_ev + scale_ev * (size - 0.5)
    if high_ev <= begin or low_ev >= end:
        assert overlap == 0
    if low_ev >= begin and high_ev <= end:
        assert overlap == pytest.approx(width_ev, abs=1e-6)
    assert axis.overlap_ev(begin, end) == pytest.approx(scale_ev * size, rel=1e-9)


def test_axis_of_a_range():
    energy_range = EnergyRange(name="core_loss", offset_ev=428.5, scale_ev=0.5, size=586)
    axis = EnergyAxis.of_range(energy_range)
    assert (axis.offset_ev, axis.scale_ev, axis.size, axis.end_ev) == (428.5, 0.5, 586, 721.0)


@pytest.mark.parametrize(
    ("offset_ev", "scale_ev", "size", "sentence"),
    [
        (0.0, 1.0, 1, "at least 2 channels"),
        (np.nan, 1.0, 10, "finite"),
        (0.0, np.inf, 10, "finite"),
        (500.0, -0.5, 10, "falls"),
        (0.0, 0.0, 10, "calibrated, and in eV"),
        (0.0, MIN_SCALE_EV / 2, 10, "calibrated, and in eV"),
        (0.0, MAX_SCALE_EV * 2, 10, "calibrated, and in eV"),
    ],
)
def test_refused_calibrations(offset_ev, scale_ev, size, sentence):
    with pytest.raises(AxisError, match=sentence):
        EnergyAxis(offset_ev, scale_ev, size)


@pytest.mark.parametrize(
    ("energies", "sentence"),
    [
        ([], "expected a list"),
        ([1.0], "expected a list"),
        ([[1.0, 2.0]], "expected a list"),
        ([1.0, np.nan, 3.0], "not finite"),
        ([1.0, 3.0, 2.0], "neither rise nor fall"),
        ([1.0, 1.0, 2.0], "neither rise nor fall"),
        ([3.0, 2.0, 1.0], "falls"),
        (100 * 1.01 ** np.arange(100), "not linear"),
        ([0.0, 1.0, 2.0, 3.2, 4.0], "not linear"),
        (0.3 + 0.0005 * np.arange(1024), "look like keV"),
    ],
)
def test_refused_lists(energies, sentence):
    with pytest.raises(AxisError, match=sentence):
        EnergyAxis.from_energies(energies)


def test_a_vibrational_range_of_a_few_ev_is_no_calibration_in_kev():
    axis = EnergyAxis.from_energies(-0.05 + 0.001 * np.arange(1024))
    assert axis.scale_ev == pytest.approx(0.001)


@given(offsets, scales, st.integers(10, 500), st.randoms())
def test_rounded_energies_are_taken(offset_ev, scale_ev, size, random):
    assume(2e-4 < scale_ev < 95)  # rounding must not carry the dispersion out of bounds
    energies = EnergyAxis(offset_ev, scale_ev, size).energies()
    jitter = np.array([random.uniform(-0.02, 0.02) for _ in range(size)]) * scale_ev
    axis = EnergyAxis.from_energies(energies + jitter)
    assert np.abs(axis.energies() - energies).max() < 0.05 * scale_ev
