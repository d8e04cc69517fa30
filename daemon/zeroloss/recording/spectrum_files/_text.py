"""Two columns of text: energy loss in eV and counts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ._errors import SpectrumFileError
from ._holes import on_even_axis
from ._signal import Signal

TEXT_SUFFIXES = frozenset({"txt", "csv", "tsv", "dat", "xy"})
_MAX_BYTES = 1 << 26
_MAX_HEADER_LINES = 200
_SEPARATOR = re.compile(r"[\s,;]+")


def read_text(path: Path) -> list[Signal]:
    """The one spectrum of a text file with the columns energy (eV) and counts.

    Lines before the numbers are skipped; columns are separated by white space, commas or
    semicolons; channels left out of the list are NaN (not measured).
    """
    if path.stat().st_size > _MAX_BYTES:
        raise SpectrumFileError(f"a text file of more than {_MAX_BYTES >> 20} MiB")
    rows: list[list[float]] = []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        words = [word for word in _SEPARATOR.split(line.strip()) if word]
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            if rows or number > _MAX_HEADER_LINES:
                raise SpectrumFileError(
                    f"line {number} is not two numbers (energy in eV, counts): {line[:40]!r}"
                ) from None
            continue
        if len(row) != 2:
            raise SpectrumFileError(
                f"no energy axis: line {number} holds {len(row)} numbers; expected two columns, "
                "energy in eV and counts"
            )
        rows.append(row)
    if not rows:
        raise SpectrumFileError("no numbers in it; expected two columns, energy in eV and counts")
    energy, counts = np.asarray(rows, dtype=np.float64).T
    even, filled, _ = on_even_axis(energy, np.ascontiguousarray(counts))
    axis = {"name": "Energy loss", "units": "eV", "offset": even.offset_ev, "scale": even.scale_ev}
    return [Signal.of(filled, [axis], {"General": {"title": path.stem}})]
