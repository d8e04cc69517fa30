"""Sums of the passes over each pixel, so that every pass sharpens the same map."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from threading import Lock

import numpy as np
import numpy.typing as npt

from zeroloss.wire import EnergyRange

TOTALLED_AT_ONCE = 1024
"""Pixels that are added up between two spectra that may come."""


class PassSums:
    """Counts summed over the passes, float64 [pixels, channels] a range.

    Integer counts below 2^53 add exactly, so the order in which passes come does not matter. A
    channel that is NaN in one pass stays NaN; a spectrum that is all NaN is left out of its range.
    """

    def __init__(self, pixels: int, ranges: tuple[EnergyRange, ...]) -> None:
        self._lock = Lock()
        self._passes = np.zeros(pixels, np.int64)
        self._sums = {item.name: np.zeros((pixels, item.size), np.float64) for item in ranges}
        self._came = {item.name: np.zeros(pixels, np.uint32) for item in ranges}

    @staticmethod
    def nbytes(pixels: int, ranges: tuple[EnergyRange, ...]) -> int:
        """Bytes that the sums of such a run take."""
        return pixels * (8 + sum(4 + 8 * item.size for item in ranges))

    def add(
        self, pixels: npt.NDArray[np.uint32], counts: Mapping[str, npt.NDArray[np.generic]]
    ) -> None:
        """Add spectra [n, channels] to their pixels [n]; a pixel may come twice in one block."""
        with self._lock:
            for name, array in counts.items():
                there = np.isfinite(array).any(axis=1)
                np.add.at(self._sums[name], pixels[there], array[there])
                np.add.at(self._came[name], pixels[there], 1)
            np.add.at(self._passes, pixels, 1)

    def fetch(
        self, pixels: npt.NDArray[np.uint32]
    ) -> tuple[
        dict[str, npt.NDArray[np.generic]],
        npt.NDArray[np.int64],
        dict[str, npt.NDArray[np.uint32]],
    ]:
        """The sums [n, channels] of these pixels, NaN where none came, and their passes [n].

        And of how many spectra each [n] of a range is the sum.
        """
        with self._lock:
            came = {name: array[pixels] for name, array in self._came.items()}
            sums: dict[str, npt.NDArray[np.generic]] = {}
            for name, array in self._sums.items():
                sums[name] = found = array[pixels]
                found[came[name] == 0] = np.nan
            return sums, self._passes[pixels], came

    def total(
        self, pixels: npt.NDArray[np.uint32], names: Collection[str]
    ) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, int], int, npt.NDArray[np.bool_]]:
        """The counts of these pixels [n] summed, float64 [channels] a range of that name.

        And of how many spectra each is the sum, how many there are in all, and which of the pixels
        [n] hold any.
        """
        totals = {name: np.zeros(self._sums[name].shape[1]) for name in names}
        came = dict.fromkeys(names, 0)
        filled = np.zeros(len(pixels), dtype=np.bool_)
        spectra = 0
        for first in range(0, len(pixels), TOTALLED_AT_ONCE):
            part = pixels[first : first + TOTALLED_AT_ONCE]
            with self._lock:
                passes = self._passes[part]
                for name, total in totals.items():
                    total += self._sums[name][part].sum(axis=0)
                    came[name] += int(self._came[name][part].sum())
            spectra += int(passes.sum())
            filled[first : first + TOTALLED_AT_ONCE] = passes > 0
        return totals, came, spectra, filled
