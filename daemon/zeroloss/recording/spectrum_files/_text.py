"""Text: the columns energy loss (eV) and counts, or rows of counts over an axis told elsewhere."""

from __future__ import annotations

import re
from array import array
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.scan import EnergyAxis
from zeroloss.wire.limits import MAX_CHANNELS

from ._errors import SpectrumFileError
from ._holes import on_even_axis
from ._signal import Signal

TEXT_SUFFIXES = frozenset({"txt", "csv", "tsv", "dat", "xy"})
_MAX_BYTES = 1 << 26
_MAX_HEADER_LINES = 200
_SEPARATOR = re.compile(r"[\s,;]+")
_NUMBER = r"m?\d+(?:d\d+)?"
_AXIS_IN_NAME = re.compile(rf"(?<![^_ ])({_NUMBER})eV_({_NUMBER})eV(?![^_ ])")

Axis = tuple[float, float]
"""Energy at the centre of channel 0 (eV) and eV per channel, as a person gives them."""


def read_text(path: Path, axis: Axis | None = None) -> tuple[list[Signal], list[str]]:
    """The signal of a text file, and what was taken for granted.

    Two columns are energy (eV) and counts of one spectrum; channels left out of the list are NaN
    (not measured). One column is one spectrum; rows of more numbers are one spectrum each, the
    pixels of a line. Of these the axis is `axis`, else the energies of the first and last channel
    in the file name: `_m4d054eV_45d471eV` is -4.054 to 45.471 eV. Lines before the numbers are
    skipped; numbers are separated by white space, commas or semicolons.
    """
    rows = _rows(path)
    if rows.shape[1] == 2:
        if axis is not None:
            raise SpectrumFileError(
                "two columns, energy in eV and counts: the axis stands in the file; give none"
            )
        energy, counts = rows.T
        even, filled, _ = on_even_axis(energy, np.ascontiguousarray(counts))
        return [_signal(path, filled, even)], []
    # A column is one spectrum as well.
    spectra = rows.T if rows.shape[1] == 1 else rows
    even, note = _told_axis(path, spectra.shape, axis)
    return [_signal(path, spectra[0] if len(spectra) == 1 else spectra, even)], [note]


def _rows(path: Path) -> npt.NDArray[np.float64]:
    """The numbers of the file [lines, columns]."""
    if path.stat().st_size > _MAX_BYTES:
        raise SpectrumFileError(f"a text file of more than {_MAX_BYTES >> 20} MiB")
    rows: list[array[float]] = []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        words = [word for word in _SEPARATOR.split(line.strip(), MAX_CHANNELS + 1) if word]
        if not words:
            continue
        if len(words) > MAX_CHANNELS:
            raise SpectrumFileError(
                f"line {number} holds more than {MAX_CHANNELS} numbers, the cap"
            )
        try:
            row = array("d", map(float, words))
        except ValueError:
            if rows or number > _MAX_HEADER_LINES:
                raise SpectrumFileError(
                    f"line {number} holds something that is no number: {line[:40]!r}"
                ) from None
            continue
        if rows and len(row) != len(rows[0]):
            raise SpectrumFileError(
                f"line {number} holds {len(row)} numbers and the first {len(rows[0])}: expected "
                "the same in every line"
            )
        rows.append(row)
    if not rows:
        raise SpectrumFileError(
            "no numbers in it; expected two columns, energy in eV and counts, or rows of counts"
        )
    return np.asarray(rows, dtype=np.float64)


def _told_axis(path: Path, shape: tuple[int, ...], given: Axis | None) -> tuple[EnergyAxis, str]:
    spectra, channels = shape
    if given is not None:
        axis = EnergyAxis(*given, channels)
        return axis, f"the energy axis, {axis.offset_ev:g} to {axis.end_ev:g} eV, was given by hand"
    found = _AXIS_IN_NAME.findall(path.stem)
    if len(found) != 1:
        raise SpectrumFileError(
            f"no energy axis for {spectra} spectra of {channels} counts: end the file name with "
            "the energies of the first and last channel (_m4d054eV_45d471eV: m minus, d decimal "
            "point), give --offset-ev and --scale-ev, or write two columns, energy in eV and counts"
        )
    first, last = (float(text.replace("m", "-").replace("d", ".")) for text in found[0])
    axis = EnergyAxis(first, (last - first) / max(1, channels - 1), channels)
    return axis, f"the energy axis, {first:g} to {last:g} eV, is that of the file name"


def _signal(path: Path, counts: npt.NDArray[np.float64], axis: EnergyAxis) -> Signal:
    energy: dict[str, object] = {"name": "Energy loss", "units": "eV"}
    energy |= {"offset": axis.offset_ev, "scale": axis.scale_ev}
    line: dict[str, object] = {"name": "x"}
    axes = [energy] if counts.ndim == 1 else [line, energy]
    return Signal.of(counts, axes, {"General": {"title": path.stem}})
