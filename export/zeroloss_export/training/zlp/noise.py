"""The noise of measured low-loss spectra: gain, readout and correlation between channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
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
_ROUNDS: Final = 3


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
    polynomial swallows follows from its spread over channels, which is found from the
    autocovariance of what is left: for counting noise where the spectrum is strong, for the readout
    where it is weak. NaN is not measured. Raises ValueError where there is too little to go by.
    """
    window = max(_MIN_WINDOW, int(width_channels) | 1)
    if spectra.shape[1] < 4 * window:
        raise ValueError(
            f"{spectra.shape[1]} channels are too few to tell noise from a peak of "
            f"{width_channels:.0f} channels: expected at least {4 * window}"
        )
    smoother = savgol_coeffs(window, _ORDER)
    level, lagged = _residual_by_level(spectra, width_channels, window, smoother)
    response = _response(smoother)
    counting = readout = _find_spread(lagged, response)
    gain, base = 0.0, 0.0
    for _ in range(_ROUNDS):
        kept = [(response @ _correlation(spread))[0] for spread in (counting, readout)]
        gain, base = _fit_variance(level, lagged[:, 0], *kept)
        share = gain * level * kept[0] / (gain * level * kept[0] + base * kept[1] + 1e-12)
        # Neither can be told where the other prevails.
        strong, weak = share > 0.6, share < 0.4
        counting = _find_spread(lagged[strong], response) if strong.sum() > 1 else counting
        readout = _find_spread(lagged[weak], response) if weak.sum() > 1 else readout
    if gain == 0.0 and base == 0.0:
        raise ValueError("the spectra show no noise at all: expected measured counts")
    return NoiseModel(gain, float(np.sqrt(base)), counting, readout)


def _pooled(spread: float, sizes: NDArray[np.int64]) -> Floats:
    shares = np.clip(1.0 - np.arange(1, LAGS + 1) / sizes[:, None], 0.0, None)
    pooled: Floats = (1.0 + 2.0 * shares @ _correlation(spread)[1:]) / sizes
    return pooled


def _correlation(spread: float) -> Floats:
    """Autocorrelation at lags 0 ... LAGS of white noise smoothed by a Gaussian."""
    return np.exp(-(np.arange(LAGS + 1) ** 2) / (4.0 * spread**2))


def _find_spread(lagged: Floats, response: Floats) -> float:
    """The point spread whose residual would have the measured autocorrelation."""
    measured = (lagged / np.maximum(lagged[:, :1], 1e-12)).mean(0)
    misfit = []
    for spread in _SPREADS:
        expected = response @ _correlation(float(spread))
        misfit.append(float(((expected / expected[0] - measured) ** 2).sum()))
    return float(_SPREADS[int(np.argmin(misfit))])


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
) -> tuple[Floats, Floats]:
    """Mean counts [bins] and the residual's autocovariance [bins, LAGS + 1], by level of counts."""
    valid = np.isfinite(spectra)
    filled = np.where(valid, spectra, 0.0)
    smooth = np.stack([np.convolve(row, smoother, "valid") for row in filled])
    residual = filled[:, window // 2 : window // 2 + smooth.shape[1]] - smooth
    missing = np.stack([np.convolve(~row, np.ones(window), "valid") for row in valid])
    distance = np.arange(smooth.shape[1]) + window // 2 - filled.argmax(1)[:, None]
    good = (missing < 0.5) & (np.abs(distance) > _CORE * width_channels + window // 2)
    if good.sum() < 4 * _BINS:
        raise ValueError("too few measured channels beside the peak to estimate the noise")
    # Even in the number of channels below the median, even in the logarithm of the counts above.
    half = np.quantile(smooth[good], np.linspace(0.0, 0.5, _BINS // 2 + 1))
    most = float(smooth[good].max())
    upper = np.geomspace(max(half[-1], 1e-3 * most), most, _BINS // 2 + 1)[1:]
    edges = np.append(half, upper)
    index = np.clip(np.searchsorted(edges, smooth, "right") - 1, 0, len(edges) - 2)
    level, lagged = [], []
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
    return np.clip(np.asarray(level), 0.0, None), np.asarray(lagged)


def _fit_variance(
    level: Floats, variance: Floats, counting: float, readout: float
) -> tuple[float, float]:
    """Gain and readout variance, weighting every level by its own relative error."""
    weight = 1.0 / np.maximum(variance, 1e-3 * variance.max() + 1e-12)
    table = np.stack([counting * level, np.full_like(level, readout)], 1) * weight[:, None]
    (gain, base), _ = nnls(table, variance * weight)
    return float(gain), float(base)
