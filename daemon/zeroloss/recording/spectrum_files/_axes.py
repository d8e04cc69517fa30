"""Which axis of a signal is the energy, in which unit, and is it one that can be used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeroloss.scan import AxisError, EnergyAxis
from zeroloss.wire.limits import MAX_CHANNELS

from ._errors import SpectrumFileError

_UNIT = re.compile(r"(?<![A-Za-z])([kKmM]?)([eE][vV])(?![A-Za-z])")
_FACTORS = {"": 1.0, "k": 1e3, "K": 1e3, "m": 1e-3}
_NAMES = re.compile(r"\b(energy|eloss|e-loss|electron energy|x-ray energy)\b", re.IGNORECASE)
_LENGTHS_NM = {"nm": 1.0, "µm": 1e3, "μm": 1e3, "um": 1e3, "pm": 1e-3, "å": 0.1, "m": 1e9}


@dataclass(frozen=True, slots=True)
class SignalAxis:
    """One axis of a signal as the file describes it; `values` where the channels are listed."""

    name: str
    unit: str
    offset: float
    scale: float
    size: int
    values: tuple[float, ...] | None = None
    uniform: bool = True

    @classmethod
    def of(cls, raw: Mapping[str, Any], size: int) -> SignalAxis:
        """Read the axis dictionary of RosettaSciIO; `size` is the length in the data."""
        listed = raw.get("axis")
        values = None if listed is None else tuple(float(item) for item in np.ravel(listed))
        return cls(
            name=_text(raw.get("name")),
            unit=_text(raw.get("units")),
            offset=_number(raw.get("offset"), 0.0),
            scale=_number(raw.get("scale"), 1.0),
            size=size,
            values=values,
            uniform=values is not None or "expression" not in raw,
        )

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} [{self.unit or 'no unit'}]"

    @property
    def ev_per_unit(self) -> float | None:
        """eV in one unit of this axis; None when the unit is no energy."""
        match = _UNIT.search(self.unit)
        return _FACTORS.get(match.group(1)) if match else None

    @property
    def named_energy(self) -> bool:
        """Whether the name alone calls it an energy."""
        return bool(_NAMES.search(self.name.replace("_", " ")))

    def energy_axis(self) -> EnergyAxis:
        """The axis in eV; `AxisError` or `SpectrumFileError` where it cannot be right."""
        factor = self.ev_per_unit
        if factor is None:
            raise SpectrumFileError(
                f"the energy axis {self} is not calibrated in eV or keV: calibrate it first"
            )
        if not self.uniform:
            raise AxisError(
                f"the energy axis {self} follows a function: expected even steps; resample first"
            )
        if self.size > MAX_CHANNELS:
            raise SpectrumFileError(f"{self.size} channels: the cap is {MAX_CHANNELS}")
        if self.values is not None:
            if len(self.values) != self.size:
                raise SpectrumFileError(
                    f"{len(self.values)} energies for {self.size} channels: the file is damaged"
                )
            return EnergyAxis.from_energies(np.asarray(self.values) * factor)
        if self.scale == 1.0 and self.offset == 0.0 and factor != 1.0:
            raise SpectrumFileError(
                f"the energy axis {self} counts channels from 0 in steps of 1: calibrate it first"
            )
        offset = np.float64(self.offset) * factor
        scale = np.float64(self.scale) * factor
        energies = offset + scale * np.arange(self.size)
        if self.size > 1 and np.isfinite(energies).all() and scale != 0:
            EnergyAxis.from_energies(energies)
        return EnergyAxis(float(offset), float(scale), self.size)


def find_energy(axes: Sequence[SignalAxis]) -> int | None:
    """The index of the energy axis: by its unit, else by its name; None where there is none."""
    by_unit = [i for i, axis in enumerate(axes) if axis.ev_per_unit is not None]
    if len(by_unit) > 1:
        named = [i for i in by_unit if axes[i].named_energy]
        by_unit = named if len(named) == 1 else by_unit
    if len(by_unit) > 1:
        listed = ", ".join(str(axes[i]) for i in by_unit)
        raise SpectrumFileError(f"several energy axes ({listed}): expected one")
    if by_unit:
        return by_unit[0]
    by_name = [i for i, axis in enumerate(axes) if axis.named_energy]
    return by_name[0] if len(by_name) == 1 else None


def pixel_step(axes: Sequence[SignalAxis]) -> tuple[tuple[float, float] | None, str]:
    """(row step, column step) and their unit, of 0, 1 or 2 navigation axes."""
    if not axes:
        return None, "nm"
    units = [axis.unit.strip().lower() for axis in axes]
    factors = [_LENGTHS_NM.get(unit) for unit in units]
    steps = [axis.scale * factor for axis, factor in zip(axes, factors, strict=True) if factor]
    if len(steps) < len(axes) or not all(np.isfinite(steps)) or not all(steps):
        return None, "nm"
    return (steps[0], steps[-1]), "nm"


def _text(value: object) -> str:
    return value if isinstance(value, str) and not value.startswith("<") else ""


def _number(value: object, default: float) -> float:
    try:
        return default if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
