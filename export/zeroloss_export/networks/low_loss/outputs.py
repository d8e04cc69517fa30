"""What the low-loss graphs give, in the words of the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from zeroloss.models.manifest import Output, SpectrumAxis

BAND: Final = ("16 %", "median", "84 %")
AXIS_NAME: Final = "energy loss from the zero-loss maximum"
VACUUM: Final = ("vacuum", "too thick", "range too short")
PARTLY: Final = "not measured everywhere"
"""Why a spectrum on a grid has channels without a value."""


def reason(name: str, codes: Sequence[str]) -> Output:
    """A label that says why values are missing."""
    return Output(name=name, kind="label", labels=tuple(codes))


def scalar(
    name: str, unit: str, why: str, *, error: bool = True, shape: tuple[int, ...] = (), **more: Any
) -> list[Output]:
    """A number, or some, with the reason ``why``, and its standard deviation if it has one."""
    common: dict[str, Any] = {"kind": "scalar", "unit": unit, "reason": why, "shape": shape}
    value = Output(name=name, uncertainty=f"{name}_error" if error else None, **common, **more)
    return [value, Output(name=f"{name}_error", **common)] if error else [value]


def spectrum(
    name: str, unit: str, why: str, axis: tuple[float, float, int], labels: tuple[str, ...] = BAND
) -> Output:
    """Curves on a grid: first energy, step and number of points."""
    first, step, points = axis
    return Output(
        name=name,
        kind="spectrum",
        unit=unit,
        reason=why,
        shape=(len(labels), points) if labels else (points,),
        labels=labels,
        axis=SpectrumAxis(offset_ev=round(first, 9), scale_ev=round(step, 9), name=AXIS_NAME),
    )


def peak_outputs(why: str, *, error: bool) -> list[Output]:
    """Position, width and counts of the zero-loss peak."""
    return [
        *scalar("zero_loss_shift", "eV", why, error=error, shifts_axis=True),
        *scalar("zero_loss_width", "eV", why, error=error),
        *scalar("zero_loss_counts", "counts", why, error=error),
    ]
