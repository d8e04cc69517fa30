"""Spectra in memory, as read from one or several files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.wire import EnergyRange, Modality

Counts = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumFile:
    """A spectrum, line scan or spectrum image with one or several energy ranges per pixel.

    `shape` is (rows, columns): (1, 1) for one spectrum, (1, n) for a line scan. `counts` holds
    one array [rows x columns, channels] per range, in row-major order of the pixels, with NaN and
    negative counts as they stand in the file. `step` is (row step, column step) in `step_unit`,
    None where the file does not tell. `notes` says in sentences what was taken for granted.
    """

    path: Path
    title: str
    modality: Modality
    shape: tuple[int, int]
    ranges: tuple[EnergyRange, ...]
    counts: dict[str, Counts]
    step: tuple[float, float] | None = None
    step_unit: str = "nm"
    beam_kev: float | None = None
    convergence_mrad: float | None = None
    collection_mrad: float | None = None
    dwell_s: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> int:
        """Number of spectra per range."""
        return self.shape[0] * self.shape[1]
