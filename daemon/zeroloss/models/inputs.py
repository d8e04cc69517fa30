"""What a graph is handed: the spectra, their axes, and whatever its manifest takes beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .errors import InferenceError
from .manifest import INPUT_NAMES, LOW_LOSS_INPUTS, SELECTION_INPUT, Manifest
from .parameters import check_given, default_values

Floats = npt.NDArray[np.float32]
Shape = tuple[int | None, ...]

_COUNTS, _OFFSET, _SCALE = INPUT_NAMES
_LOW_COUNTS, _LOW_OFFSET, _LOW_SCALE = LOW_LOSS_INPUTS
_NO_LOW_LOSS_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class LowLoss:
    """The low-loss spectra of the same pixels: counts [n, channels], a channel not measured NaN.

    `offset_ev` (energy loss at the centre of channel 0, corrected by the zero-loss peak where that
    is known) and `scale_ev` (eV per channel, > 0) are one number for all or one each [n].
    """

    counts: npt.ArrayLike
    offset_ev: float | npt.ArrayLike
    scale_ev: float | npt.ArrayLike


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a graph for n spectra.

    `rows` [n, ...] have the spectra first, `whole` are the same for all of them; `varying` names
    those of `rows` that were given one for each spectrum.
    """

    rows: Mapping[str, Floats]
    whole: Mapping[str, Floats]
    varying: frozenset[str]

    def __len__(self) -> int:
        """Spectra."""
        return len(self.rows[_COUNTS])

    def batch(self, first: int, used: int, bucket: int) -> dict[str, Floats]:
        """The inputs of `used` spectra from `first` on, padded to `bucket`."""
        part = slice(first, first + used)
        rows = {name: _padded(values[part], bucket) for name, values in self.rows.items()}
        return rows | dict(self.whole)


def expected_inputs(manifest: Manifest) -> dict[str, Shape]:
    """The names of the graph's inputs and their shapes, None for an open size."""
    takes = manifest.takes
    shapes: dict[str, Shape] = {_COUNTS: (None, None), _OFFSET: (None,), _SCALE: (None,)}
    shapes |= {item.name: (None,) for item in manifest.parameters}
    if takes.selection is not None:
        shapes[SELECTION_INPUT] = (takes.selection.slots,)
    if takes.low_loss:
        shapes |= {_LOW_COUNTS: (None, None), _LOW_OFFSET: (None,), _LOW_SCALE: (None,)}
    return shapes


def make_inputs(
    manifest: Manifest,
    counts: npt.ArrayLike,
    offset_ev: float | npt.ArrayLike,
    scale_ev: float | npt.ArrayLike,
    parameters: Mapping[str, float | npt.ArrayLike],
    selection: Sequence[int],
    low_loss: LowLoss | None,
) -> Inputs:
    """The inputs of the graph, checked; raises as `ModelSession.run`."""
    spectra = _spectra(manifest, _COUNTS, counts)
    n = len(spectra)
    rows = {_COUNTS: spectra}
    given = {_OFFSET: _per_spectrum(_OFFSET, offset_ev, n), _SCALE: _scales(_SCALE, scale_ev, n)}
    given |= _parameters(manifest, parameters, n)
    varying = {_COUNTS}
    if manifest.takes.low_loss:
        low = low_loss or LowLoss(np.full((n, _NO_LOW_LOSS_CHANNELS), np.nan), 0.0, 1.0)
        rows[_LOW_COUNTS] = _spectra(manifest, _LOW_COUNTS, low.counts)
        if len(rows[_LOW_COUNTS]) != n:
            raise InferenceError(
                f"{_LOW_COUNTS} must be of the same {n} spectra, got {len(rows[_LOW_COUNTS])}"
            )
        given[_LOW_OFFSET] = _per_spectrum(_LOW_OFFSET, low.offset_ev, n)
        given[_LOW_SCALE] = _scales(_LOW_SCALE, low.scale_ev, n)
        varying |= {_LOW_COUNTS} if low_loss is not None else set()
    elif low_loss is not None:
        raise InferenceError(f"the model {manifest.name} takes no low loss beside its spectra")
    varying |= {name for name, value in given.items() if value.ndim}
    rows |= {
        name: np.ascontiguousarray(np.broadcast_to(value, (n,))) for name, value in given.items()
    }
    return Inputs(rows, _selection(manifest, selection), frozenset(varying))


def _spectra(manifest: Manifest, name: str, counts: npt.ArrayLike) -> Floats:
    rows = np.ascontiguousarray(counts, dtype=np.float32)
    most = manifest.takes.max_channels
    if rows.ndim != 2 or not 2 <= rows.shape[1] <= most:
        raise InferenceError(
            f"the model {manifest.name} takes {name} [n, channels] of 2 to {most} channels, got "
            f"{list(rows.shape)}"
        )
    return rows


def _per_spectrum(name: str, value: float | npt.ArrayLike, n: int) -> Floats:
    array = np.asarray(value, dtype=np.float32)
    if array.shape not in ((), (n,)):
        raise InferenceError(f"{name} must be one number or [{n}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InferenceError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return array


def _scales(name: str, value: float | npt.ArrayLike, n: int) -> Floats:
    scales = _per_spectrum(name, value, n)
    if not (scales > 0).all():
        raise InferenceError(f"{name} must be above 0 eV per channel, got {scales.min():g}")
    return scales


def _parameters(
    manifest: Manifest, parameters: Mapping[str, float | npt.ArrayLike], n: int
) -> dict[str, Floats]:
    """One number each, or [n]."""
    values = {name: np.asarray(item, np.float32) for name, item in default_values(manifest).items()}
    for name, value in parameters.items():
        told = np.asarray(value, np.float64)
        if told.shape not in ((), (n,)):
            raise InferenceError(f"{name} must be one number or [{n}], got {list(told.shape)}")
        known = told[~np.isnan(told)]
        for extreme in (known.min(), known.max()) if known.size else (math.nan,):
            check_given(manifest, {name: float(extreme)})
        values[name] = told.astype(np.float32)
    return values


def _selection(manifest: Manifest, chosen: Sequence[int]) -> dict[str, Floats]:
    selection = manifest.takes.selection
    if selection is None:
        if chosen:
            raise InferenceError(f"the model {manifest.name} takes no selection, got {chosen}")
        return {}
    rising = all(a < b for a, b in pairwise(chosen))
    inside = bool(chosen) and chosen[0] >= 0 and chosen[-1] < len(selection.labels)
    if not (rising and inside and len(chosen) <= selection.slots):
        raise InferenceError(
            f"the model {manifest.name} takes as {selection.name} 1 to {selection.slots} rising "
            f"indices of its {len(selection.labels)} labels, got {list(chosen)}"
        )
    slots = np.full(selection.slots, -1, np.float32)
    slots[: len(chosen)] = chosen
    return {SELECTION_INPUT: slots}


def _padded(rows: Floats, bucket: int) -> Floats:
    # Repeating a real spectrum keeps unusual values, and their slow paths, out of the batch.
    missing = bucket - len(rows)
    if missing == 0:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
