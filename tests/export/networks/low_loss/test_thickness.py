from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from support.zero_loss_tables import peak_shape, spectra
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.networks.low_loss.table import Noise
from zeroloss_export.networks.low_loss.thickness import (
    counting_variance,
    counts_below,
    counts_beyond,
    log_ratio,
)
from zeroloss_export.networks.low_loss.untrained import mirrored_tail, power_law_tail
from zeroloss_export.simulate.dielectric import NITRIDE
from zeroloss_export.simulate.low_loss import Instrument, simulate

NOTED_ON_ANOTHER_SUM = "EELS_medium_thin_0.50.dm3"
"""Its own tag says that the number belongs to a zero loss of 3.4 times fewer counts."""


def measure(counts: torch.Tensor, offset: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    peak = PeakFinder()(counts, offset, scale)
    zero_loss, there = mirrored_tail(counts, peak)
    assert there.all()
    return log_ratio(counts.sum(1) + counts_beyond(counts, peak, scale), zero_loss.sum(1))


@pytest.mark.parametrize("true", [0.1, 0.3, 0.6])
def test_poisson_scattering_gives_its_thickness(true: float) -> None:
    instrument = Instrument(scale_ev=0.1, channels=1500, electrons=1e7)
    scan = simulate(1, instrument, np.full((2, 2), true), np.zeros((2, 2), np.int64), (NITRIDE,))
    counts = torch.tensor(scan.counts).flatten(0, 1)
    axis = torch.full((4,), instrument.offset_ev), torch.full((4,), instrument.scale_ev)
    assert float(measure(counts, *axis).mean()) == pytest.approx(true, rel=0.06, abs=0.01)


def test_a_power_law_beyond_the_range_is_integrated_to_500_ev() -> None:
    for exponent in (1.0, 2.0, 3.5):
        counts, offset, scale, energy = spectra(torch.zeros(1), 1e5, channels=2000)
        tail = 1e5 * energy.clamp(min=1.0) ** -exponent
        counts = torch.where(energy > 5, tail, counts)
        peak = PeakFinder()(counts, offset, scale)
        end = float(energy[0, -1]) + 0.0125
        fine = np.geomspace(end, 500.0, 100_001)
        expected = 1e5 * np.trapezoid(fine**-exponent, fine) / 0.025
        assert float(counts_beyond(counts, peak, scale)) == pytest.approx(expected, rel=0.02)


def test_an_end_that_rises_or_is_negative_is_not_integrated_wildly() -> None:
    counts, offset, scale, _ = spectra(torch.zeros(2), 1e5, channels=2000)
    counts[0, 1000:] = torch.linspace(10, 100, 1000)
    counts[1, 1000:] = -3.0
    beyond = counts_beyond(counts, PeakFinder()(counts, offset, scale), scale)
    # A rising end goes on with the exponent 1.
    assert float(beyond[0]) < 100 * 47 / 0.025 * np.log(500 / 47) * 1.1
    assert float(beyond[1]) == 0.0


def test_counting_noise_is_that_of_many_drawn_spectra() -> None:
    rng = torch.Generator().manual_seed(5)
    zero = torch.poisson(torch.full((20000,), 4000.0), generator=rng)
    rest = torch.poisson(torch.full((20000,), 1500.0), generator=rng)
    drawn = log_ratio(zero + rest, zero).std()
    told = counting_variance(torch.tensor([5500.0]), torch.tensor([4000.0]), Noise()).sqrt()
    assert float(drawn / told) == pytest.approx(1.0, abs=0.03)


def test_counts_below_a_channel_end_softly() -> None:
    counts = torch.ones(1, 10)
    assert float(counts_below(counts, torch.tensor([4.25]))) == pytest.approx(4.75)


def test_the_mirrored_tail_continues_the_peak() -> None:
    counts, offset, scale, energy = spectra(torch.zeros(1), 1e5)
    peak = PeakFinder()(counts, offset, scale)
    zero_loss, there = mirrored_tail(counts, peak)
    assert bool(there)
    inside = (energy > 0.5) & (energy < 2.8)
    ratio = zero_loss[inside] / counts[inside]
    # Of a symmetric peak the mirrored left tail is the right one.
    assert float((ratio - 1).abs().max()) < 0.02
    assert (zero_loss[energy > 3.2] == 0).all()


def test_the_power_law_tail_is_that_of_the_flank() -> None:
    energy = -3.0 + 0.025 * torch.arange(1200)[None]
    x = (energy / 0.2).abs()
    counts = 1e6 * torch.where(x < 2, 1 / (1 + x**3), (1 / 9) * (x / 2).clamp(min=1e-3) ** -3)
    axis = torch.tensor([-3.0]), torch.tensor([0.025])
    zero_loss, there = power_law_tail(counts, PeakFinder()(counts, *axis))
    assert bool(there)
    far = energy > 1
    assert float((zero_loss[far] / counts[far] - 1).abs().max()) < 0.05


def test_a_peak_without_a_left_foot_has_no_tail() -> None:
    energy = -0.15 + 0.025 * torch.arange(800)[None]
    counts = 1e5 * peak_shape(energy)
    peak = PeakFinder()(counts, torch.tensor([-0.15]), torch.tensor([0.025]))
    assert not bool(mirrored_tail(counts, peak)[1])


@pytest.mark.data
def test_the_numbers_noted_at_the_microscope(measured: Path) -> None:
    reader = pytest.importorskip(
        "rsciio.digitalmicrograph", reason="reading .dm3 needs the extra hyperspy"
    )
    deviations = {}
    for path in sorted((measured / "low_loss" / "thickness_series").glob("*.dm3")):
        noted = re.search(r"(\d\.\d+)\.dm3$", path.name)
        if noted is None:
            continue
        signal = reader.file_reader(str(path))[0]
        axis = signal["axes"][-1]
        counts = torch.tensor(np.asarray(signal["data"], np.float32).reshape(1, -1))
        found = measure(counts, torch.tensor([axis["offset"]]), torch.tensor([axis["scale"]]))
        number = float(noted[1])
        deviations[path.name] = abs(float(found) - number) - max(0.03, 0.05 * number)
    assert len(deviations) == 11
    assert {name for name, excess in deviations.items() if excess > 0} == {NOTED_ON_ANOTHER_SUM}
