"""The systematic error of a zero-loss peak: how its shape differs from pixel to pixel."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.polynomial import legendre

from .noise import Floats, NoiseModel

_ORDER: Final = 4
_CLEAR: Final = 2.0
"""Times the variance that noise alone would give a shape: above it the shape is real."""


def shape_modes(place: Floats, pixels: Floats, mean: Floats, noise: NoiseModel) -> Floats:
    """Departures [k, channels] of pixels [n, channels] from their mean, one deviation each.

    ``place`` [channels] is the network's coordinate. The relative departure of each pixel is a
    polynomial of fourth order there, fitted with the weights of its noise; what the coefficients
    vary by over the pixels, beyond what noise makes them vary, is the covariance of the shape. Its
    eigenvectors are the modes: replicas take each with a random amplitude of unit variance.
    """
    count = len(pixels)
    good = np.isfinite(pixels).all(0) & (mean > 0)
    if count < 2 or good.sum() < 4 * _ORDER:
        return np.zeros((0, len(place)))
    scaled = np.interp(place, (place.min(), place.max()), (-1.0, 1.0))
    shapes = legendre.legvander(scaled, _ORDER)
    sigma = np.sqrt(noise.variance(mean) * (1.0 + 2.0 * sum(noise.correlation)))
    weighted = (shapes * (mean / sigma)[:, None])[good]
    fitted = np.linalg.lstsq(weighted, ((pixels - mean) / sigma)[:, good].T, rcond=None)[0]
    by_noise = np.linalg.pinv(weighted.T @ weighted)
    # In units of the noise of the coefficients each of them varies by one through noise alone.
    root = np.linalg.cholesky(by_noise + 1e-30 * np.eye(_ORDER + 1))
    inner = np.linalg.solve(root, fitted)
    covariance = inner @ inner.T / (count - 1)
    values, vectors = np.linalg.eigh(covariance)
    real = values > _CLEAR
    amplitudes = root @ (vectors[:, real] * np.sqrt(values[real] - 1.0))
    modes: Floats = (shapes @ amplitudes).T * mean
    return modes
