"""Lists of energies out of which channels were cut: even steps with holes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeroloss.scan import AxisError, EnergyAxis
from zeroloss.scan.axis import UNEVEN

Floats = npt.NDArray[np.float64]


def on_even_axis(energy_ev: npt.ArrayLike, counts: Floats) -> tuple[EnergyAxis, Floats, int]:
    """The counts on an even axis, NaN (not measured) in the channels that the list leaves out.

    Energies and counts are [n]; the third value is the number of channels filled in. Atlas spectra
    have such a hole where two exposures were spliced. Every step must be a whole number of
    channels within 5 %, and at least half of the channels must be there; else the `AxisError` of
    `EnergyAxis.from_energies`.
    """
    energy = np.asarray(energy_ev, dtype=np.float64)
    try:
        return EnergyAxis.from_energies(energy), counts, 0
    except AxisError:
        axis = _with_holes(energy)
        if axis is None:
            raise
    index = np.rint((energy - axis.offset_ev) / axis.scale_ev).astype(np.int64)
    filled = np.full(axis.size, np.nan)
    filled[index] = counts
    return axis, filled, axis.size - len(energy)


def _with_holes(energy: Floats) -> EnergyAxis | None:
    if energy.ndim != 1 or len(energy) < 3 or not np.isfinite(energy).all():
        return None
    steps = np.diff(energy)
    if (steps <= 0).any():
        return None
    index = np.r_[0.0, np.cumsum(np.rint(steps / np.median(steps)))]
    if (np.diff(index) < 1).any() or index[-1] + 1 > 2 * len(energy):
        return None
    scale, offset = np.polyfit(index, energy, 1)
    grid = offset + scale * np.arange(int(index[-1]) + 1)
    if np.abs(energy - grid[index.astype(np.int64)]).max() > UNEVEN * scale:
        return None
    return EnergyAxis.from_energies(grid)
