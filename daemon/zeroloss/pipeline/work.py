"""Received spectra on their way to a model, and the invalid channels in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .run import Run

OBJECT_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Work:
    """New spectra of one run: positions int64 [n], pixels uint32 [n], counts [n, channels] a range.

    `counts` is empty for a run that sums its passes: the sums are fetched when they are needed.
    """

    run: Run
    positions: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.uint32]
    counts: Mapping[str, npt.NDArray[np.generic]]
    received_ns: int

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def nbytes(self) -> int:
        """Bytes that wait with this work, with what its objects take beside their data."""
        held = sum(array.nbytes for array in self.counts.values())
        return OBJECT_BYTES + held + self.positions.nbytes + self.pixels.nbytes

    def split(self, n: int) -> tuple[Work, Work]:
        """The first `n` spectra and the rest."""
        return self._part(slice(None, n)), self._part(slice(n, None))

    def _part(self, part: slice) -> Work:
        return Work(
            self.run,
            self.positions[part],
            self.pixels[part],
            {name: array[part] for name, array in self.counts.items()},
            self.received_ns,
        )


def mask_invalid(
    counts: npt.NDArray[np.generic], saturation: float | None, *, signed: bool = False
) -> tuple[npt.NDArray[np.float32], int]:
    """Counts [n, channels] as float32 with every invalid channel NaN, and how many there are.

    Invalid is what no detector counts: NaN, infinite, at and above `saturation`, and negative
    unless the counts are `signed`, as dark-subtracted ones are.
    """
    values = np.array(counts, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        invalid = ~np.isfinite(values)
        if not signed:
            invalid |= values < 0
        if saturation is not None:
            invalid |= values >= saturation
    masked = int(np.count_nonzero(invalid))
    if masked:
        values[invalid] = np.nan
    return values, masked
