"""The values of a package's parameters: of the run, as they were given, or by default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import ParameterError
from .manifest import Manifest, Parameter

CONDITIONS = ("beam_kev", "convergence_mrad", "collection_mrad", "dwell_s")
"""Numbers of a run, or of a file of spectra, that parameters may be."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a package is run with: a value per parameter, NaN where it is not known.

    `notes` are sentences on values of the run that were left out.
    """

    values: dict[str, float]
    notes: tuple[str, ...]


def check_given(manifest: Manifest, given: Mapping[str, float]) -> None:
    """`ParameterError` for a name that the package does not have or a value that it cannot take.

    NaN says that a value is not known.
    """
    known = {item.name: item for item in manifest.parameters}
    for name, value in given.items():
        if name not in known:
            raise ParameterError(
                f"the model {manifest.name} has no parameter {name}; it has "
                f"{', '.join(known) or 'none'}"
            )
        if not (math.isnan(value) or known[name].holds(value)):
            raise ParameterError(f"the model {manifest.name}: {_outside(known[name], value)}")


def settle(
    manifest: Manifest, given: Mapping[str, float], conditions: Mapping[str, float | None]
) -> Settled:
    """The value of every parameter of the package.

    `conditions` are the numbers of the run by `Parameter.source`. Where the run tells, that counts,
    unless the package cannot take it; else what was `given`, else the default. Raises
    `ParameterError` as `check_given`.
    """
    check_given(manifest, given)
    values = default_values(manifest) | dict(given)
    notes: list[str] = []
    for item in manifest.parameters:
        told = conditions.get(item.source)
        if told is not None and not item.holds(told):
            notes.append(f"the model {manifest.name}: {_outside(item, told)}: taken as not known")
        elif told is not None:
            values[item.name] = float(told)
    return Settled(values, tuple(notes))


def default_values(manifest: Manifest) -> dict[str, float]:
    """The default of every parameter, NaN where it has none."""
    return {
        item.name: math.nan if item.default is None else item.default
        for item in manifest.parameters
    }


def trial_values(manifest: Manifest) -> dict[str, float]:
    """A value per parameter to try the package with: the default, or the middle of the range."""
    return {
        item.name: (item.low + item.high) / 2 if item.default is None else item.default
        for item in manifest.parameters
    }


def _outside(item: Parameter, value: float) -> str:
    unit = f" {item.unit}" if item.unit else ""
    return f"{item.name} = {value:g}{unit}, expected {item.low:g} to {item.high:g}{unit}"
