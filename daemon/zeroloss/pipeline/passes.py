"""Sums of the passes over each pixel, so that every pass sharpens the same map."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import numpy as np
import numpy.typing as npt

from zeroloss.wire import EnergyRange


class PassSums:
    """Counts summed over the passes, float64 [pixels, channels] a range.

    Integer counts below 2^53 add exactly, so the order in which passes come does not matter.
    """

    def __init__(self, pixels: int, ranges: tuple[EnergyRange, ...]) -> None:
        self._lock = Lock()
        self._passes = np.zeros(pixels, np.int64)
        self._sums = {item.name: np.zeros((pixels, item.size), np.float64) for item in ranges}

    @staticmethod
    def nbytes(pixels: int, ranges: tuple[EnergyRange, ...]) -> int:
        """Bytes that the sums of such a run take."""
        return 8 * pixels * (1 + sum(item.size for item in ranges))

    def add(
        self, pixels: npt.NDArray[np.uint32], counts: Mapping[str, npt.NDArray[np.generic]]
    ) -> None:
        """Add spectra [n, channels] to their pixels [n]; a pixel may come twice in one block."""
        with self._lock:
            for name, array in counts.items():
                np.add.at(self._sums[name], pixels, array)
            np.add.at(self._passes, pixels, 1)

    def fetch(
        self, pixels: npt.NDArray[np.uint32]
    ) -> tuple[dict[str, npt.NDArray[np.generic]], npt.NDArray[np.int64]]:
        """The sums [n, channels] of these pixels, and how many passes each holds [n]."""
        with self._lock:
            return {name: array[pixels] for name, array in self._sums.items()}, self._passes[pixels]
