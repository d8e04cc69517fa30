"""Which pixel of the map a spectrum belongs to, from its position in the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroloss.wire import ScanPlan


@dataclass(frozen=True, slots=True)
class ScanGeometry:
    """The order in which a scan plan visits the pixels of its map.

    Positions count the spectra of a run from 0 over all passes; pixels are flat indices
    row x columns + column of the whole map, also for a sub-scan.
    """

    plan: ScanPlan

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.plan.shape

    @property
    def pixels(self) -> int:
        """Number of pixels of the map."""
        return self.plan.shape[0] * self.plan.shape[1]

    @property
    def region(self) -> tuple[int, int, int, int]:
        """Row, column, rows and columns of the scanned part."""
        return self.plan.region or (0, 0, *self.plan.shape)

    @property
    def per_pass(self) -> int | None:
        """Spectra of one pass; None for a pattern `list`, which has no passes of its own."""
        if self.plan.pattern == "list":
            return None
        return self.region[2] * self.region[3]

    @property
    def expected(self) -> int | None:
        """Spectra of the whole run as far as the plan tells; None if endless or a list."""
        if self.per_pass is None or self.plan.passes is None:
            return None
        return self.per_pass * self.plan.passes

    def pixel_of(self, positions: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        """Flat pixel indices of these positions; not for the pattern `list`."""
        per_pass = self.per_pass
        if per_pass is None:
            raise ValueError("the pattern 'list' carries its pixels in each block")
        y0, x0, _, width = self.region
        inside = np.asarray(positions, dtype=np.int64) % per_pass
        row, column = np.divmod(inside, width)
        if self.plan.pattern == "serpentine":
            column = np.where(row % 2 == 1, width - 1 - column, column)
        return ((y0 + row) * self.plan.shape[1] + x0 + column).astype(np.uint32)

    def positions_of(self, pixels: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Positions within one pass of those of these pixels that are scanned; not for a `list`."""
        if self.per_pass is None:
            raise ValueError("the pattern 'list' carries its pixels in each block")
        y0, x0, height, width = self.region
        row, column = np.divmod(pixels.astype(np.int64), self.plan.shape[1])
        row, column = row - y0, column - x0
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row, column = row[inside], column[inside]
        if self.plan.pattern == "serpentine":
            column = np.where(row % 2 == 1, width - 1 - column, column)
        return row * width + column

    def pass_of(self, positions: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The pass (0, 1, ...) of each position; 0 for the pattern `list`."""
        positions = np.asarray(positions, dtype=np.int64)
        per_pass = self.per_pass
        return np.zeros_like(positions) if per_pass is None else positions // per_pass
