from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from support.low_loss_spectra import INSTRUMENT, rows_of
from zeroloss_export.simulate.low_loss import noise_variance, specimen_scan, vacuum_scan
from zeroloss_export.training.zlp.noise import NoiseModel, estimate_noise

WIDTH = INSTRUMENT.peak.fwhm_ev / INSTRUMENT.scale_ev


@pytest.mark.parametrize(
    ("gain", "spread", "readout", "electrons"),
    [(4.0, 0.7, 15.0, 2e6), (1.0, 0.3, 3.0, 2e5), (8.0, 1.2, 40.0, 1e7), (4.0, 0.7, 15.0, 2e4)],
)
def test_gain_readout_and_spread_are_found(
    gain: float, spread: float, readout: float, electrons: float
) -> None:
    instrument = replace(
        INSTRUMENT, gain=gain, point_spread=spread, readout=readout, electrons=electrons
    )
    noise = estimate_noise(rows_of(specimen_scan(1, (8, 8), instrument)), WIDTH)
    bare = replace(instrument, readout=0.0)
    # What a channel's variance rises by with its counts: the point spread takes some of the gain.
    slope = float(noise_variance(bare, np.ones(1))[0])
    faint = electrons < 1e5
    assert noise.gain == pytest.approx(slope, rel=0.25 if faint else 0.1)
    assert noise.readout == pytest.approx(readout, rel=0.1)
    assert noise.counting_spread == pytest.approx(spread, abs=0.2 if faint else 0.12)
    assert noise.readout_spread < 0.45


def test_a_counting_detector_has_gain_one_and_no_readout() -> None:
    instrument = replace(INSTRUMENT, gain=1.0, point_spread=0.0, readout=0.0, electrons=3e3)
    noise = estimate_noise(rows_of(specimen_scan(1, (10, 10), instrument)), WIDTH)
    assert noise.gain == pytest.approx(1.0, rel=0.08)
    assert noise.readout < 0.15
    assert noise.correlation[0] < 0.05


def test_the_variance_of_a_mean_of_neighbours_counts_their_correlation() -> None:
    rng = np.random.default_rng(1)
    white = rng.standard_normal((4000, 40))
    smooth = gaussian_filter1d(white, 0.9, axis=1)
    model = NoiseModel(float(smooth[:, 20].var()), 0.0, 0.9, 0.05)
    sizes = np.array([1, 3, 8])
    expected = model.of_mean(np.ones(3), sizes)
    measured = [smooth[:, 16 : 16 + size].mean(1).var() for size in sizes]
    np.testing.assert_allclose(expected, measured, rtol=0.1)
    assert expected[1] > 1.5 * expected[0] / 3, "correlated noise falls slower than 1 / n"


def test_channels_that_were_not_measured_change_nothing() -> None:
    counts = rows_of(specimen_scan(1, (6, 6), INSTRUMENT))
    whole = estimate_noise(counts, WIDTH)
    counts[:, 150] = np.nan
    counts[3, 300:340] = np.nan
    holed = estimate_noise(counts, WIDTH)
    assert holed.gain == pytest.approx(whole.gain, rel=0.05)
    assert holed.readout == pytest.approx(whole.readout, rel=0.05)


def test_too_little_to_go_by_is_told() -> None:
    counts = rows_of(vacuum_scan(1, (1, 2), INSTRUMENT))
    with pytest.raises(ValueError, match="50 channels are too few"):
        estimate_noise(counts[:, :50], WIDTH)
    with pytest.raises(ValueError, match="no noise at all"):
        estimate_noise(np.full((2, 512), 7.0), WIDTH)
    counts[:, 200:] = np.nan
    with pytest.raises(ValueError, match="too few measured channels"):
        estimate_noise(counts[:1], WIDTH)
