"""What a source hands to the sender: the counts of consecutive spectra, and where they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

MAX_BLOCK = 256
MAX_BLOCK_S = 0.005


@dataclass(frozen=True, slots=True)
class Readout:
    """Counts [n, channels] per energy range; `pixels` uint32 [n] for the scan pattern `list`."""

    counts: Mapping[str, npt.NDArray[np.generic]]
    pixels: npt.NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.counts.values())))

    def part(self, begin: int, end: int) -> Readout:
        """Spectra [begin, end) of this readout."""
        return Readout(
            {name: array[begin:end] for name, array in self.counts.items()},
            None if self.pixels is None else self.pixels[begin:end],
        )


@dataclass(frozen=True, slots=True)
class Timed:
    """A readout, the position in the run of its first spectrum, and when it is due.

    `due_s` counts from the start of the run; the spectra are complete by then.
    """

    first: int
    readout: Readout
    due_s: float = 0.0


Reread: TypeAlias = Callable[[int, int], Iterable[tuple[int, Readout]]]
"""Gives the spectra at positions [begin, end) once more, exactly as first sent, with the position
of each piece; what the source does not have (any more) is left out."""


def block_size(dwell_s: float | None) -> int:
    """Spectra of one message: 256, or as many as 5 ms of dwell time bring, at least one."""
    if not dwell_s:
        return MAX_BLOCK
    return max(1, min(MAX_BLOCK, round(MAX_BLOCK_S / dwell_s)))
