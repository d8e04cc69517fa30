from __future__ import annotations

import numpy as np

from zeroloss_export.training.zlp.modes import shape_modes
from zeroloss_export.training.zlp.noise import NoiseModel

ENERGY = np.linspace(0.3, 3.0, 60)
MEAN = 1e5 * ENERGY**-3.0
PLACE = np.arcsinh(4.0 * ENERGY)
NOISE = NoiseModel(1.0, 3.0, 0.05, 0.05)


def _noisy(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return mean + np.sqrt(NOISE.variance(mean)) * rng.standard_normal(mean.shape)


def test_pure_noise_has_no_shape() -> None:
    rng = np.random.default_rng(1)
    pixels = _noisy(np.tile(MEAN, (200, 1)), rng)
    assert len(shape_modes(PLACE, pixels, pixels.mean(0), NOISE)) == 0


def test_a_tail_that_jitters_is_found_with_its_size() -> None:
    rng = np.random.default_rng(2)
    slope = 0.05 * rng.standard_normal((300, 1))
    pixels = _noisy(MEAN * np.exp(slope * (PLACE - PLACE[0])), rng)
    modes = shape_modes(PLACE, pixels, pixels.mean(0), NOISE)
    assert len(modes) >= 1
    spread = np.sqrt((modes**2).sum(0)) / pixels.mean(0)
    expected = 0.05 * (PLACE - PLACE[0])
    np.testing.assert_allclose(spread[30:], expected[30:], rtol=0.2)
    # Modes are eigenvectors: one shape varies, so that the others are small.
    sizes = np.sort(np.abs(modes / MEAN).max(1))
    assert sizes[:-1].max(initial=0.0) < 0.3 * sizes[-1]


def test_too_little_gives_none() -> None:
    pixels = np.tile(MEAN, (5, 1))
    assert shape_modes(PLACE, pixels[:1], MEAN, NOISE).shape == (0, 60)
    pixels[:, ::2] = np.nan
    pixels[2] = np.nan
    assert shape_modes(PLACE, pixels, MEAN, NOISE).shape == (0, 60)
