"""What a model answers for a rectangle of spectra, as a .hspy file that HyperSpy opens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

import zeroloss
from zeroloss.wire import OutputInfo, PackageInfo, RunStart

from ._hspy_file import FileAxis, HspyFile, new_hspy
from ._metadata import about_layer, general
from ._tree import Tree
from .errors import MapFileError

_CHUNK_VALUES = 1 << 16
"""About so many values are compressed together."""

Floats = npt.NDArray[np.float32]


def write_answers(
    path: Path,
    start: RunStart,
    package: PackageInfo,
    answers: Mapping[str, Floats],
    *,
    corner: tuple[int, int] = (0, 0),
    looked_at: Tree,
) -> None:
    """Write one signal per output of the package to `path`; `hs.load(path)` returns their list.

    `answers` are float32 [rows, columns, *shape] by output, of the rectangle whose first pixel is
    `corner` (row, column) of the run; what else is to be said of it, `looked_at`, stands under
    `metadata.Zeroloss` of every signal. A spectrum is navigated along its curves, y and x; any
    other output along its labels. A file at `path` is replaced in one step when all is written.
    Raises `MapFileError`; then an older file is untouched.
    """
    try:
        with new_hspy(path) as file:
            for output in package.outputs:
                _write(file, start, package, output, answers[output.name], corner, looked_at)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise MapFileError(f"{path} could not be written: {why}") from None


def _write(
    file: HspyFile,
    start: RunStart,
    package: PackageInfo,
    output: OutputInfo,
    values: Floats,
    corner: tuple[int, int],
    looked_at: Tree,
) -> None:
    # From [y, x, curve, energy] to [curve, y, x, energy], and from [y, x, label] to [label, y, x].
    along = len(output.shape) - (output.kind == "spectrum")
    data = np.moveaxis(values, range(2, 2 + along), range(along))
    name = f"{package.name} {output.name}"
    unit = f" ({output.unit})" if output.unit else ""
    metadata: Tree = {
        **general(start, f"{start.title}: {name}" if start.title else name),
        "Signal": {
            "signal_type": "",
            "quantity": output.name.replace("_", " ").capitalize() + unit,
        },
        "Zeroloss": {
            **about_layer(package, output),
            "labels": output.labels,
            "layer": f"{package.name}/{output.name}",
            "looked_at": looked_at,
            "provenance": {"software_version": zeroloss.__version__},
        },
    }
    file.add(
        name,
        _axes(start, output, (values.shape[0], values.shape[1]), corner),
        ((index, data[index]) for index in product(*map(range, data.shape[:-2]))),
        dtype=np.float32,
        chunks=_chunks(data.shape),
        metadata=metadata,
    )


def _axes(
    start: RunStart, output: OutputInfo, shape: tuple[int, int], corner: tuple[int, int]
) -> Iterator[FileAxis]:
    spectrum = output.kind == "spectrum"
    names = [f"index_{number}" for number in range(len(output.shape) - spectrum)]
    if len(names) == 1:
        names = ["curve" if spectrum else "label" if output.labels else "index"]
    for name, size in zip(names, output.shape, strict=False):
        yield FileAxis(name, size)
    step = start.scan.step or (1.0, 1.0)
    unit = "px" if start.scan.step is None else start.scan.step_unit
    for name, size, scale, first in zip(("y", "x"), shape, step, corner, strict=True):
        yield FileAxis(name, size, scale, first * scale, unit, navigate=spectrum)
    axis = output.axis
    if spectrum and axis is not None:
        yield FileAxis(
            axis.name, output.shape[-1], axis.scale_ev, axis.offset_ev, "eV", navigate=False
        )
    elif spectrum:
        yield FileAxis("channel", output.shape[-1], navigate=False)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    left = _CHUNK_VALUES
    chunks: list[int] = []
    for size in reversed(shape):
        chunks.append(max(1, min(size, left)))
        left //= chunks[-1]
    return tuple(reversed(chunks))
