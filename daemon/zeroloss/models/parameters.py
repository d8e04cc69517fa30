"""The values of a package's parameters and its selection: of the run, as given, or by default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import ParameterError
from .manifest import Manifest, Parameter, Selection

CONDITIONS = ("beam_kev", "convergence_mrad", "collection_mrad", "dwell_s")
"""Numbers of a run, or of a file of spectra, that parameters may be."""
Given = Mapping[str, float | Sequence[str]]
"""What people say of one package: a number per parameter, and the labels of its selection."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What a package is run with: a value per parameter, NaN where it is not known.

    `notes` are sentences on values of the run that were left out, `selection` the indices of the
    labels that were chosen, rising.
    """

    values: dict[str, float]
    notes: tuple[str, ...]
    selection: tuple[int, ...] = ()


def check_given(manifest: Manifest, given: Given) -> None:
    """`ParameterError` for a name that the package does not have or a value that it cannot take.

    NaN says that a value is not known.
    """
    known = {item.name: item for item in manifest.parameters}
    selection = manifest.takes.selection
    for name, value in given.items():
        if selection is not None and name == selection.name:
            _indices(manifest, selection, value)
        elif name not in known:
            names = [*known] if selection is None else [*known, selection.name]
            raise ParameterError(
                f"the model {manifest.name} has no parameter {name}; it has "
                f"{', '.join(names) or 'none'}"
            )
        elif not isinstance(value, int | float):
            raise ParameterError(
                f"the model {manifest.name}: {name} = {','.join(value)}, expected a number from "
                f"{known[name].low:g} to {known[name].high:g}"
            )
        elif not (math.isnan(value) or known[name].holds(value)):
            raise ParameterError(f"the model {manifest.name}: {_outside(known[name], value)}")


def settle(manifest: Manifest, given: Given, conditions: Mapping[str, float | None]) -> Settled:
    """The value of every parameter of the package, and what is selected.

    `conditions` are the numbers of the run by `Parameter.source`. Where the run tells, that counts,
    unless the package cannot take it; else what was `given`, else the default. Raises
    `ParameterError` as `check_given`.
    """
    check_given(manifest, given)
    values = default_values(manifest)
    values |= {name: value for name, value in given.items() if isinstance(value, int | float)}
    notes: list[str] = []
    for item in manifest.parameters:
        told = conditions.get(item.source)
        if told is not None and not item.holds(told):
            notes.append(f"the model {manifest.name}: {_outside(item, told)}: taken as not known")
        elif told is not None:
            values[item.name] = float(told)
    selection = manifest.takes.selection
    if selection is None or selection.name not in given:
        return Settled(values, tuple(notes))
    return Settled(values, tuple(notes), _indices(manifest, selection, given[selection.name]))


def lacks_selection(manifest: Manifest, given: Given) -> bool:
    """Whether the package takes part in no run, since nothing was chosen of its selection."""
    selection = manifest.takes.selection
    return selection is not None and selection.name not in given


def selecting(manifest: Manifest) -> str:
    """The flag that chooses of the selection of the package; nothing where it has none."""
    selection = manifest.takes.selection
    if selection is None:
        return ""
    return f"--set {manifest.name}.{selection.name}={','.join(selection.labels[:2])}"


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


def trial_selections(manifest: Manifest) -> tuple[tuple[int, ...], ...]:
    """What to choose to try the package: labels in every slot, then the first one, then the last.

    Nothing where it has no selection.
    """
    selection = manifest.takes.selection
    if selection is None:
        return ((),)
    last = len(selection.labels) - 1
    spread = tuple(last * i // max(1, selection.slots - 1) for i in range(selection.slots))
    return tuple(dict.fromkeys((spread, (0,), (last,))))


def _indices(
    manifest: Manifest, selection: Selection, value: float | Sequence[str]
) -> tuple[int, ...]:
    labels = (f"{value:g}",) if isinstance(value, int | float) else tuple(value)
    said = f"the model {manifest.name}: {selection.name} = {','.join(labels)}"
    expected = f"expected 1 to {selection.slots} different of {', '.join(selection.labels)}"
    unknown = [label for label in labels if label not in selection.labels]
    if unknown:
        raise ParameterError(f"{said}: there is no {unknown[0]}, {expected}")
    if len(set(labels)) < len(labels):
        raise ParameterError(f"{said}: one is there twice, {expected}")
    if not 1 <= len(labels) <= selection.slots:
        raise ParameterError(f"{said}: these are {len(labels)}, {expected}")
    return tuple(sorted(selection.labels.index(label) for label in labels))


def _outside(item: Parameter, value: float) -> str:
    unit = f" {item.unit}" if item.unit else ""
    return f"{item.name} = {value:g}{unit}, expected {item.low:g} to {item.high:g}{unit}"
