"""The map file: a .hspy (HDF5) file of signals that HyperSpy opens, written without HyperSpy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.scan import Coverage
from zeroloss.wire import LedgerTotals, layer_key
from zeroloss.wire.fields import Scalar

from ._hspy_file import FileAxis, HspyFile, new_hspy
from ._metadata import about_layer, about_run, elements, general
from ._tree import Tree
from .errors import MapFileError
from .store import DETECTED_SHARE, MapStore

_CHUNK = 512
"""Longest edge of a stored tile in pixels."""

_Plane = Callable[[tuple[int, ...]], npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class _Signal:
    """One signal of the file: planes [rows, columns] along `dims`, and what is said of them."""

    name: str
    quantity: str
    dims: tuple[int, ...]
    labels: tuple[str, ...]
    dtype: npt.DTypeLike
    plane: _Plane
    about: Tree


def write_hspy(
    path: Path,
    store: MapStore,
    provenance: Mapping[str, Scalar],
    totals: LedgerTotals,
    detected: Mapping[str, tuple[str, ...]],
    *,
    share: float = DETECTED_SHARE,
) -> None:
    """Write the whole map to `path`; `hs.load(path)` returns a list of signals.

    One `Signal2D` per layer (navigation: the layer's labels; signal: x, y), one presence map per
    probability layer (1 at or above the threshold, 0 below, NaN unknown), and the coverage.
    `provenance` (software, configuration hash, ...), the run, its calibration, the package and the
    ledger are under `metadata.Zeroloss` of every signal, detected elements under
    `metadata.Sample.elements`. A file at `path` is replaced in one step when all is written.
    `share` is the part of the mapped pixels from which a label counts as detected.
    Raises `MapFileError`; then no half file is left and an older file is untouched.
    """
    path = Path(path)
    try:
        with new_hspy(path) as file:
            _write(file, store, provenance, totals, detected, share)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise MapFileError(
            f"the map file {path} could not be written: {why}; free some space or choose another "
            "folder, the recording still holds everything"
        ) from None


def _write(
    file: HspyFile,
    store: MapStore,
    provenance: Mapping[str, Scalar],
    totals: LedgerTotals,
    detected: Mapping[str, tuple[str, ...]],
    share: float,
) -> None:
    common = about_run(store, provenance, totals, detected, share)
    tile = tuple(min(size, _CHUNK) for size in store.shape)
    for signal in _signals(store):
        title = store.start.title
        metadata: Tree = {
            **general(store.start, f"{title}: {signal.name}" if title else signal.name),
            "Sample": {"elements": elements(detected)},
            "Signal": {"signal_type": "", "quantity": signal.quantity},
            "Zeroloss": {**common, **signal.about, "labels": signal.labels},
        }
        file.add(
            signal.name,
            _axes(store, signal),
            ((index, signal.plane(index)) for index in product(*map(range, signal.dims))),
            dtype=signal.dtype,
            chunks=(*(1 for _ in signal.dims), *tile),
            metadata=metadata,
        )


def _signals(store: MapStore) -> Iterator[_Signal]:
    for package in store.packages:
        for output in package.outputs:
            key = layer_key(package.name, output.name)
            if key not in store.layers:
                continue
            about = about_layer(package, output)
            unit = f" ({output.unit})" if output.unit else ""

            def plane(index: tuple[int, ...], key: str = key) -> npt.NDArray[np.float32]:
                return store.plane(key, index)

            yield _Signal(
                f"{package.name} {output.name}",
                output.name.replace("_", " ").capitalize() + unit,
                output.shape,
                output.labels,
                np.float32,
                plane,
                {**about, "layer": key},
            )
            if output.kind == "probability" and output.threshold is not None:
                limit = np.float32(output.threshold)

                def presence(
                    index: tuple[int, ...], key: str = key, limit: np.float32 = limit
                ) -> npt.NDArray[np.float32]:
                    values = store.plane(key, index)
                    return np.where(np.isnan(values), values, values >= limit).astype(np.float32)

                yield _Signal(
                    f"{package.name} {output.name} presence",
                    "Presence",
                    output.shape,
                    output.labels,
                    np.float32,
                    presence,
                    {**about, "layer": f"{key}/presence", "kind": "presence"},
                )
    yield _Signal(
        "coverage",
        "Coverage",
        (),
        (),
        np.uint8,
        lambda _: store.coverage(),
        {
            "layer": "coverage",
            "kind": "coverage",
            "codes": {state.name.lower(): int(state) for state in Coverage},
        },
    )


def _axes(store: MapStore, signal: _Signal) -> Iterator[FileAxis]:
    names = [f"index_{i}" for i in range(len(signal.dims))]
    if names and signal.labels:
        names[0] = "label"
    elif len(names) == 1:
        names = ["index"]
    for name, size in zip(names, signal.dims, strict=True):
        yield FileAxis(name, size)
    step = store.start.scan.step
    scales = step if step is not None else (1.0, 1.0)
    unit = store.start.scan.step_unit if step is not None else "px"
    for name, size, scale in zip(("y", "x"), store.shape, scales, strict=True):
        yield FileAxis(name, size, scale, unit=unit, navigate=False)
