"""Counts as whole numbers of 16 bits: their square root, which makes the noise the same everywhere.

The noise of N counts is sqrt(N), that of sqrt(N) is one half whatever N. A step of 1/16 of a root
is an eighth of that, so that rounding adds 0.13 % to the variance of counting at any level; floats
of 16 bits have too coarse steps above 4 million counts and finer ones than anybody needs below.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

NOT_MEASURED: Final = 65535
FINEST: Final = 16.0
"""Steps per unit of sqrt(counts) that are enough for counts with counting noise."""


def encode(
    counts: NDArray[np.float32], finest: float = FINEST
) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Codes [n, channel] and steps per root [n] of counts >= 0 [n, channel]; NaN: not measured.

    Spectra too intense for ``finest`` get coarser steps. The counts are (code / steps)^2.
    """
    missing = np.isnan(counts)
    code = np.sqrt(counts, dtype=np.float32)
    code[missing] = 0.0
    largest = np.maximum(code.max(1), np.float32(1e-30))
    steps = np.minimum(finest, (NOT_MEASURED - 1) / largest).astype(np.float32)
    code *= steps[:, None]
    np.minimum(np.rint(code, out=code), NOT_MEASURED - 1, out=code)
    code[missing] = NOT_MEASURED
    return code.astype(np.uint16), steps


def decode(code: NDArray[np.uint16], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Counts [n, channel] of what ``encode`` returned."""
    counts = (code / steps[:, None].astype(np.float64)) ** 2
    return np.where(code == NOT_MEASURED, np.nan, counts).astype(np.float32)
