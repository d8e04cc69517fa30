"""The linear energy axis of a spectrum, and the calibrations that are refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroloss.wire import EnergyRange

MIN_SCALE_EV = 1e-4
MAX_SCALE_EV = 100.0
UNEVEN = 0.05
"""Largest allowed departure of a channel from the straight axis, in channels."""


class AxisError(ValueError):
    """An energy calibration that cannot be right: what was expected and what came."""


@dataclass(frozen=True, slots=True)
class EnergyAxis:
    """Channel i is centred at `offset_ev + i * scale_ev`; `size` channels, rising energy."""

    offset_ev: float
    scale_ev: float
    size: int

    def __post_init__(self) -> None:
        if self.size < 2:
            raise AxisError(f"an energy axis needs at least 2 channels, got {self.size}")
        if not (np.isfinite(self.offset_ev) and np.isfinite(self.scale_ev)):
            raise AxisError(
                f"offset {self.offset_ev} eV and dispersion {self.scale_ev} eV per channel: "
                "both must be finite"
            )
        if self.scale_ev < 0:
            raise AxisError(
                f"the energy axis falls ({self.scale_ev:g} eV per channel): expected rising "
                "energies; reverse the spectrum and its axis"
            )
        if not MIN_SCALE_EV <= self.scale_ev <= MAX_SCALE_EV:
            raise AxisError(
                f"a dispersion of {self.scale_ev:g} eV per channel: expected {MIN_SCALE_EV:g} to "
                f"{MAX_SCALE_EV:g}; is the axis calibrated, and in eV?"
            )

    @classmethod
    def of_range(cls, energy_range: EnergyRange) -> EnergyAxis:
        """The axis of a range as announced on the wire."""
        return cls(energy_range.offset_ev, energy_range.scale_ev, energy_range.size)

    @classmethod
    def from_energies(cls, energy_ev: npt.ArrayLike) -> EnergyAxis:
        """The axis through a list of channel energies [n] in eV.

        Raises `AxisError` for energies that are not finite, fall, are uneven by more than 5 % of a
        channel, or look like keV.
        """
        energy = np.asarray(energy_ev, dtype=np.float64)
        if energy.ndim != 1 or len(energy) < 2:
            raise AxisError(f"expected a list of channel energies, got shape {energy.shape}")
        if not np.isfinite(energy).all():
            raise AxisError("the energy axis holds values that are not finite")
        steps = np.diff(energy)
        if (steps <= 0).any() and not (steps < 0).all():
            raise AxisError(
                "the energies neither rise nor fall throughout: expected a rising axis in eV"
            )
        scale = float(energy[-1] - energy[0]) / (len(energy) - 1)
        axis = cls(float(energy[0]), scale, len(energy))
        # Core loss in keV; a range of a few eV recorded as such begins at or below the zero loss.
        if energy[0] > 0.05 and energy[-1] < 10.0 and scale < 0.01 and len(energy) >= 128:
            raise AxisError(
                f"energies from {energy[0]:g} to {energy[-1]:g} look like keV: expected eV; "
                "multiply the axis by 1000"
            )
        uneven = float(np.abs(energy - axis.energies()).max()) / scale
        if uneven > UNEVEN:
            raise AxisError(
                f"the energy axis is not linear: a channel is {uneven:.2f} channels off the line; "
                "resample the spectrum to even steps first"
            )
        return axis

    def energies(self) -> npt.NDArray[np.float64]:
        """Energies of the channel centres [size] in eV."""
        return self.offset_ev + self.scale_ev * np.arange(self.size, dtype=np.float64)

    @property
    def end_ev(self) -> float:
        """Energy of the centre of the last channel."""
        return self.offset_ev + self.scale_ev * (self.size - 1)

    def overlap_ev(self, low_ev: float, high_ev: float) -> float:
        """Width in eV of the part of [low, high] that the axis covers; 0 where it covers none."""
        begin = max(low_ev, self.offset_ev - 0.5 * self.scale_ev)
        end = min(high_ev, self.end_ev + 0.5 * self.scale_ev)
        return max(0.0, end - begin)
