"""A colour ramp of even lightness steps, from dark violet over blue and green to pale yellow.

Drawn in OKLCH and converted with the OKLab matrices of B. Ottosson, "A perceptual color space for
image processing" (2020); readable with every common colour vision, since lightness alone orders it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STEPS = 64
UNSEEN = (34, 34, 36)
PENDING = (84, 84, 90)
LOST = (214, 40, 57)
REJECTED = (230, 126, 34)
MASKED = (110, 98, 84)

_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _ramp() -> npt.NDArray[np.uint8]:
    t = np.linspace(0.0, 1.0, STEPS)
    lightness = 0.24 + 0.70 * t
    chroma = 0.05 + 0.11 * np.sin(np.pi * (0.15 + 0.75 * t))
    hue = np.radians(300.0 - 195.0 * t)
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear = np.clip((lab @ _LMS.T) ** 3 @ _RGB.T, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: npt.NDArray[np.uint8] = np.round(255 * srgb).astype(np.uint8)
    return colours


RAMP = _ramp()
"""uint8 [64, 3]: colours of values from 0 to 1."""


def colours_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Colours uint8 [..., 3] of values [...]; beyond 0 and 1 the ends of the ramp."""
    index = np.clip(np.nan_to_num(values) * STEPS, 0, STEPS - 1).astype(np.intp)
    colours: npt.NDArray[np.uint8] = RAMP[index]
    return colours
