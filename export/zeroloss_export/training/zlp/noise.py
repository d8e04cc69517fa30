"""The noise of measured low-loss spectra: gain, readout and correlation between channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.signal import savgol_coeffs

Floats = NDArray[np.float64]

LAGS: Final = 6
"""Neighbouring channels whose noise may be correlated: the reach of a detector's point spread."""
_ORDER: Final = 4
_MIN_WINDOW: Final = 15
_BINS: Final = 24
_SPREADS: Final = np.linspace(0.05, 2.0, 79)
"""Point spreads (standard deviation, channels) that are tried."""
_CORE: Final = 1.5
"""Peak widths around the maximum that are left out: nothing smooth follows the peak's core."""
_TOO_FEW: Final = "too few measured channels beside the peak to estimate the noise"
_ROUNDS: Final = 3
_LEAST_GAIN: Final = 1e-6
"""Counts per electron where readout hides all counting noise."""


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Counting noise of ``gain`` x counts and ``readout``^2, both smoothed over channels.

    ``gain`` in counts per electron, ``readout`` in counts; the spreads are standard deviations in
    channels of the Gaussians that smooth either: electrons light up several channels, the readout
    mostly one.
    """

    gain: float
    readout: float
    counting_spread: float
    readout_spread: float

    def variance(self, counts: Floats) -> Floats:
        """Expected variance of channels that hold ``counts`` on average."""
        return self.gain * np.clip(counts, 0.0, None) + self.readout**2

    @property
    def correlation(self) -> tuple[float, ...]:
        """Correlation of counting noise with the next channels, up to ``LAGS`` away."""
        return tuple(float(value) for value in _correlation(self.counting_spread)[1:])

    def of_mean(self, counts: Floats, sizes: NDArray[np.int64]) -> Floats:
        """Variance of the mean of so many neighbouring channels that hold ``counts`` each."""
        counting = self.gain * np.clip(counts, 0.0, None) * _pooled(self.counting_spread, sizes)
        return counting + self.readout**2 * _pooled(self.readout_spread, sizes)


def estimate_noise(spectra: Floats, width_channels: float) -> NoiseModel:
    """Estimate the noise of spectra [n, channels] with a peak ``width_channels`` wide (FWHM).

    Nothing real is narrower than the resolution of the instrument, which the zero-loss peak shows:
    what a local polynomial over a peak width does not follow is noise. How much of the noise that
    polynomial swallows follows from its spread over channels, which is found together with gain and
    readout from the autocovariance of what is left, at every level of counts. NaN is not
    measured. Raises ValueError where there is too little to go by.
    """
    window = max(_MIN_WINDOW, int(width_channels) | 1)
    if spectra.shape[1] < 4 * window:
        raise ValueError(
            f"{spectra.shape[1]} channels are too few to tell noise from a peak of "
            f"{width_channels:.0f} channels: expected at least {4 * window}"
        )
    smoother = savgol_coeffs(window, _ORDER)
    level, lagged, number = _residual_by_level(spectra, width_channels, window, smoother)
    if not lagged[:, 0].max() > 1e-20 * level.max() ** 2:
        raise ValueError("the spectra show no noise at all: expected measured counts")
    response, expected = _response(smoother), lagged[:, 0]
    for _ in range(_ROUNDS):
        # A variance that was measured on n channels is uncertain by itself times sqrt(2 / n).
        weight = np.sqrt(number) / np.maximum(expected, 1e-3 * expected.max() + 1e-12)
        gain, base, counting, readout = _fit(level, lagged, response, weight)
        kept = [(response @ _correlation(spread))[0] for spread in (counting, readout)]
        expected = gain * level * kept[0] + base * kept[1]
    return NoiseModel(max(gain, _LEAST_GAIN), float(np.sqrt(base)), counting, readout)


def _pooled(spread: float, sizes: NDArray[np.int64]) -> Floats:
    shares = np.clip(1.0 - np.arange(1, LAGS + 1) / sizes[:, None], 0.0, None)
    pooled: Floats = (1.0 + 2.0 * shares @ _correlation(spread)[1:]) / sizes
    return pooled


def _correlation(spread: float) -> Floats:
    """Autocorrelation at lags 0 ... LAGS of white noise smoothed by a Gaussian."""
    return np.exp(-(np.arange(LAGS + 1) ** 2) / (4.0 * spread**2))


def _response(smoother: Floats) -> Floats:
    """Row l: what a unit of autocovariance at lag k adds to lag l of the residual [L+1, L+1]."""
    rest = -smoother
    rest[len(rest) // 2] += 1.0
    auto = np.correlate(rest, rest, "full")
    zero = len(rest) - 1
    table = np.empty((LAGS + 1, LAGS + 1))
    for lag in range(LAGS + 1):
        for source in range(LAGS + 1):
            mirrored = auto[zero + lag + source] if source else 0.0
            table[lag, source] = auto[zero + lag - source] + mirrored
    return table


def _residual_by_level(
    spectra: Floats, width_channels: float, window: int, smoother: Floats
) -> tuple[Floats, Floats, Floats]:
    """Mean counts [bins], the residual's autocovariance [bins, LAGS + 1] there, and of how many."""
    valid = np.isfinite(spectra)
    filled = np.where(valid, spectra, 0.0)
    smooth = np.stack([np.convolve(row, smoother, "valid") for row in filled])
    residual = filled[:, window // 2 : window // 2 + smooth.shape[1]] - smooth
    missing = np.stack([np.convolve(~row, np.ones(window), "valid") for row in valid])
    distance = np.arange(smooth.shape[1]) + window // 2 - filled.argmax(1)[:, None]
    good = (missing < 0.5) & (np.abs(distance) > _CORE * width_channels + window // 2)
    if good.sum() < 4 * _BINS:
        raise ValueError(_TOO_FEW)
    # The variance is linear in the counts, so that a bin may mix levels; but bins chosen by the
    # counts of single channels would sort the noise as well.
    sums, numbers = np.where(good, smooth, 0.0).sum(0), good.sum(0)
    rough = uniform_filter1d(np.stack([sums, numbers]).astype(np.float64), 2 * window + 1)
    key = np.broadcast_to(rough[0] / np.maximum(rough[1], 1e-9), smooth.shape)
    # Even in the number of channels below the median, even in the logarithm of the counts above.
    half = np.quantile(key[good], np.linspace(0.0, 0.5, _BINS // 2 + 1))
    most = float(key[good].max())
    upper = np.geomspace(max(half[-1], 1e-3 * most), most, _BINS // 2 + 1)[1:]
    edges = np.append(half, upper)
    index = np.clip(np.searchsorted(edges, key, "right") - 1, 0, len(edges) - 2)
    level, lagged, number = [], [], []
    for item in range(len(edges) - 1):
        here = good & (index == item)
        if here.sum() < 3 * LAGS:
            continue
        level.append(smooth[here].mean())
        row = []
        for lag in range(LAGS + 1):
            pair = here[:, lag:] & good[:, : good.shape[1] - lag]
            product = residual[:, lag:] * residual[:, : residual.shape[1] - lag]
            row.append(product[pair].mean() if pair.any() else 0.0)
        lagged.append(row)
        number.append(here.sum())
    if not level:
        raise ValueError(_TOO_FEW)
    return np.clip(level, 0.0, None), np.asarray(lagged), np.asarray(number, np.float64)


def _fit(
    level: Floats, lagged: Floats, response: Floats, weight: Floats
) -> tuple[float, float, float, float]:
    """Gain, readout variance and both spreads that explain the residual's autocovariance best.

    Least squares over levels [n], with their ``weight`` [n], and lags at once, for each pair of
    spreads; that of the readout is not the wider one.
    """
    shapes = np.stack([response @ _correlation(float(spread)) for spread in _SPREADS])
    counting, readout = np.tril_indices(len(_SPREADS))
    overlap = shapes @ shapes.T
    parts = np.stack([level * weight, weight])
    power = parts @ parts.T
    towards = shapes @ (parts @ (lagged * weight[:, None])).T
    a, b, c = (
        power[0, 0] * overlap[counting, counting],
        power[0, 1] * overlap[counting, readout],
        power[1, 1] * overlap[readout, readout],
    )
    u, v = towards[counting, 0], towards[readout, 1]
    inverse = 1.0 / np.maximum(a * c - b * b, 1e-12 * a * c)
    gain, base = (c * u - b * v) * inverse, (a * v - b * u) * inverse
    # Neither is negative: the other one then explains all alone.
    gain, base = (
        np.where(base < 0, u / a, np.maximum(gain, 0.0)),
        np.where(gain < 0, v / c, np.maximum(base, 0.0)),
    )
    gain, base = np.maximum(gain, 0.0), np.maximum(base, 0.0)
    explained = 2.0 * (gain * u + base * v) - a * gain**2 - 2.0 * b * gain * base - c * base**2
    best = int(explained.argmax())
    return (
        float(gain[best]),
        float(base[best]),
        float(_SPREADS[counting[best]]),
        float(_SPREADS[readout[best]]),
    )
