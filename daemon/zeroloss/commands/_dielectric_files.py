"""Writes what `zeroloss dielectric` found: .npz for numpy, .csv for anybody, .hspy for HyperSpy."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

import zeroloss
from zeroloss.maps import write_answers
from zeroloss.models.manifest import Output

from ._csv_rows import number
from ._dielectric import Answers, DielectricError

Energies = npt.NDArray[np.float64]


def check_path(path: Path, *, force: bool) -> None:
    """`DielectricError` for an unknown kind of file, or one that exists without `force`."""
    if path.suffix.lower() not in _WRITERS:
        raise DielectricError(f"{path}: expected a file name ending in {', '.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise DielectricError(f"cannot write {path}: there is no folder {path.parent}")
    for item in _files(path):
        if item.exists() and not force:
            raise DielectricError(f"{item} exists: name another --out or add --force")


def write(path: Path, answers: Answers) -> tuple[Path, ...]:
    """Write the answers to `path` in the way its suffix says; returns the files written.

    .npz: every output as float32 [rows, columns, *shape] under its name, labels as their words,
    `<name>:energies_ev` of every spectrum, and `about`, JSON of what made them. .csv: a line per
    pixel and energy with a column per curve; beside it `<stem>-pixels.csv`, a line per pixel with
    all that is no spectrum. .hspy: a signal per output. A file takes its place when all of it is
    written. Raises `OSError`, or `MapFileError` for .hspy.
    """
    _WRITERS[path.suffix.lower()](path, answers)
    return _files(path)


def energies(output: Output) -> Energies | None:
    """Of the last dimension of a spectrum, eV; None where the package does not say."""
    axis = output.axis
    if axis is None:
        return None
    return np.asarray(axis.offset_ev + axis.scale_ev * np.arange(output.shape[-1]), np.float64)


def about(answers: Answers) -> dict[str, Any]:
    """What was looked at, and what made the answers."""
    analysis, start = answers.analysis, answers.start
    info = analysis.info
    return {
        "software": f"zeroloss {zeroloss.__version__}",
        "title": start.title,
        "file": start.metadata.get("file"),
        "rows": list(answers.region.rows),
        "columns": list(answers.region.columns),
        "summed": answers.summed,
        "package": {
            "name": info.name,
            "version": info.version,
            "sha256": info.sha256,
            "provider": info.provider,
            "precision": info.precision,
            "energy_range": info.range_name,
            "parameters": {item.name: item.value for item in info.parameters},
        },
        "outputs": {
            item.name: {
                "kind": item.kind,
                "unit": item.unit,
                "labels": list(item.labels),
                "uncertainty": item.uncertainty,
                "reason": item.reason,
            }
            for item in info.outputs
        },
    }


def _write_npz(path: Path, answers: Answers) -> None:
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for item in answers.analysis.outputs:
        is_label = item.kind == "label"
        arrays[item.name] = answers.reasons(item.name) if is_label else answers.values[item.name]
        axis = energies(item) if item.kind == "spectrum" else None
        if axis is not None:
            arrays[f"{item.name}:energies_ev"] = axis
    arrays["answered"] = answers.answered
    with _whole(path, "wb") as file:
        np.savez(file, about=np.array(json.dumps(about(answers))), **cast(Any, arrays))


def _write_csv(path: Path, answers: Answers) -> None:
    outputs = answers.analysis.outputs
    spectra = [item for item in outputs if item.kind == "spectrum"]
    others = [item for item in outputs if item.kind != "spectrum"]
    curves_path, pixels_path = _files(path)
    with _whole(curves_path, "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["row", "column", "channel", "energy_ev", *_columns(spectra, inner=1)])
        for row, column, at in _pixels(answers):
            for line in _curves(answers, spectra, at):
                rows.writerow([row, column, *line])
    with _whole(pixels_path, "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["row", "column", *_columns(others, inner=0)])
        words = {item.name: answers.reasons(item.name) for item in others if item.kind == "label"}
        for row, column, at in _pixels(answers):
            cells: list[object] = [row, column]
            for item in others:
                if item.kind == "label":
                    cells.append(words[item.name][at])
                else:
                    cells += [number(value) for value in answers.values[item.name][at].ravel()]
            rows.writerow(cells)


def _write_hspy(path: Path, answers: Answers) -> None:
    region = answers.region
    write_answers(
        path,
        answers.start,
        answers.analysis.info,
        answers.values,
        corner=(region.rows[0], region.columns[0]),
        looked_at={
            "file": answers.start.metadata.get("file"),
            "rows": region.rows,
            "columns": region.columns,
            "summed": answers.summed,
        },
    )


_WRITERS = {".npz": _write_npz, ".csv": _write_csv, ".hspy": _write_hspy}


def _files(path: Path) -> tuple[Path, ...]:
    if path.suffix.lower() != ".csv":
        return (path,)
    return path, path.with_name(f"{path.stem}-pixels{path.suffix}")


def _columns(outputs: Sequence[Output], *, inner: int) -> Iterator[str]:
    """A name per value, of all but the last `inner` dimensions: thickness, eps_real median."""
    for item in outputs:
        shape = item.shape[: len(item.shape) - inner]
        labels = item.labels if item.kind != "label" else ()
        for index in np.ndindex(*shape):
            first = labels[index[0]] if labels and index else " ".join(map(str, index))
            rest = " ".join(map(str, index[1:])) if labels else ""
            yield " ".join(part for part in (item.name, first, rest) if part)


def _pixels(answers: Answers) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Row and column in the image, and where the answers for them are; a sum has its first pixel"""
    first_row, first_column = answers.region.rows[0], answers.region.columns[0]
    for row, column in np.ndindex(*answers.answered.shape):
        yield first_row + row, first_column + column, (row, column)


def _curves(
    answers: Answers, spectra: Sequence[Output], at: tuple[int, int]
) -> Iterator[list[str]]:
    """Channel, energy and curves; spectra on other energies stand below each other."""
    for axis, channels in dict.fromkeys((item.axis, item.shape[-1]) for item in spectra):
        columns: list[list[str]] = []
        for item in spectra:
            here = (item.axis, item.shape[-1]) == (axis, channels)
            curves = answers.values[item.name][at].reshape(-1, item.shape[-1])
            columns += [
                [number(value) for value in curve] if here else [""] * channels for curve in curves
            ]
        for channel, values in enumerate(zip(*columns, strict=True)):
            energy = None if axis is None else axis.offset_ev + axis.scale_ev * channel
            yield [str(channel), "" if energy is None else f"{energy:.9g}", *values]


@contextmanager
def _whole(path: Path, mode: str) -> Iterator[IO[Any]]:
    """A file that takes its place only when all of it is written."""
    part = path.with_name(f".{path.name}.part")
    try:
        encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
        with part.open(mode, encoding=encoding, newline=newline) as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
