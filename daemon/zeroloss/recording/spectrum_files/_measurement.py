"""What was measured, from a file of spectra or from a recording, in one form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.scan import EnergyAxis, IntervalSet, ScanGeometry
from zeroloss.wire import EnergyRange, RunStart, SpectraBlock
from zeroloss.wire.limits import MAX_PIXELS

from ..recorded_run import RecordedRun
from ._errors import SpectrumFileError
from ._read import read_spectrum_file
from ._spectra import Counts, SpectrumFile
from ._text import Axis

MAX_BYTES = 8 << 30
"""Most memory for the spectra of a recording."""


def is_recording(path: Path) -> bool:
    """Whether this is the folder of a recorded run, or one of its segments."""
    return path.suffix == ".mcap" or (path.is_dir() and any(path.glob("*.mcap")))


def read_measurement(path: Path, *, axis: Axis | None = None) -> SpectrumFile:
    """The spectra of a file (see `read_spectrum_file`), of a recorded run, or of one segment of it.

    Of a recorded run every pixel of the map has a row. Where a pixel was visited several times its
    row is the sum of the visits and `dwell_s` the time of all of them (None where pixels differ);
    where it was not, NaN: either makes the counts float64. In a sum a saturated count of one visit
    leaves the channel NaN. Raises `SpectrumFileError`, and `RecordingError` for a
    folder or segment without a readable run.
    """
    if not is_recording(path):
        return read_spectrum_file(path, axis=axis)
    if axis is not None:
        raise SpectrumFileError(f"{path.name}: a recording holds its own energy axis: give none")
    recorded = RecordedRun(path)
    spectra = _Spectra(recorded.start)
    for _, block in recorded.blocks():
        spectra.add(block)
    return spectra.as_file(path, recorded.damage)


class _Spectra:
    """The spectra of a run, put where they belong."""

    def __init__(self, start: RunStart) -> None:
        self._start = start
        self._schema = start.schema
        self._geometry = ScanGeometry(start.scan)
        self._came = IntervalSet()
        self._foreign = 0
        pixels, channels = self._geometry.pixels, sum(item.size for item in start.ranges)
        # Eight bytes a count: counts of several visits, and with holes, become float64.
        needed = 8 * pixels * channels
        if pixels > MAX_PIXELS or needed > MAX_BYTES:
            raise SpectrumFileError(
                f"{start.scan.shape[0]} x {start.scan.shape[1]} pixels of {channels} channels "
                f"take {needed / (1 << 30):.1f} GiB, at most {MAX_BYTES >> 30} are read: replay "
                "it instead"
            )
        for item in start.ranges:
            EnergyAxis.of_range(item)
        self._visits = np.zeros(pixels, np.int64)
        revisits = start.scan.passes != 1 or start.scan.pattern == "list"
        self._counts: dict[str, Counts] = {
            item.name: np.zeros((pixels, item.size), np.float64 if revisits else item.dtype)
            for item in start.ranges
        }
        self._revisits = revisits

    def add(self, block: SpectraBlock) -> None:
        """Take the spectra of a block that have not come before."""
        if not self._fits(block):
            self._foreign += block.n
            return
        for first, stop in self._came.add(block.first, block.first + block.n):
            part = slice(first - block.first, stop - block.first)
            if block.pixels is None:
                pixels = self._geometry.pixel_of(np.arange(first, stop))
            else:
                pixels = block.pixels[part]
            for item in self._start.ranges:
                counts = block.counts[item.name][part]
                if self._revisits:
                    np.add.at(self._counts[item.name], pixels, _unsaturated(counts, item))
                else:
                    self._counts[item.name][pixels] = counts
            np.add.at(self._visits, pixels, 1)

    def as_file(self, path: Path, damage: list[str]) -> SpectrumFile:
        """What came, as a file would give it."""
        start, visits = self._start, self._visits
        missing = visits == 0
        most, least = int(visits.max()), int(visits.min())
        if most == 0:
            raise SpectrumFileError(f"{path.name}: no spectra in this recording")
        notes = list(damage)
        if missing.any():
            notes.append(f"{np.count_nonzero(missing)} of {visits.size} pixels were not recorded")
        if self._foreign:
            notes.append(f"{self._foreign} spectra do not fit the start of the run")
        if most > 1:
            notes.append(f"the counts are sums of {least} to {most} visits of a pixel")
        ranges, counts = [], {}
        for item in start.ranges:
            array = self._counts.pop(item.name)
            if missing.any():
                array = array.astype(np.float64, copy=False)
                array[missing] = np.nan
            saturation = None if self._revisits else item.saturation
            ranges.append(replace(item, dtype=array.dtype.name, saturation=saturation))
            counts[item.name] = array
        dwell_s = start.scan.dwell_s
        if dwell_s is not None and most > 1:
            dwell_s = dwell_s * most if bool((visits[~missing] == most).all()) else None
        return SpectrumFile(
            path=path,
            title=start.title or path.stem,
            modality=start.modality,
            shape=start.scan.shape,
            ranges=tuple(ranges),
            counts=counts,
            step=start.scan.step,
            step_unit=start.scan.step_unit,
            beam_kev=start.beam_kev,
            convergence_mrad=start.convergence_mrad,
            collection_mrad=start.collection_mrad,
            dwell_s=dwell_s,
            notes=tuple(notes),
        )

    def _fits(self, block: SpectraBlock) -> bool:
        if block.schema != self._schema:
            return False
        for item in self._start.ranges:
            array = block.counts.get(item.name)
            if array is None or array.shape[1] != item.size or array.dtype.name != item.dtype:
                return False
        if self._geometry.per_pass is None:
            return block.pixels is not None and int(block.pixels.max()) < self._geometry.pixels
        expected = self._geometry.expected
        return expected is None or block.first + block.n <= expected


def _unsaturated(counts: Counts, energy: EnergyRange) -> npt.NDArray[np.float64]:
    values = np.array(counts, dtype=np.float64)
    if energy.saturation is not None:
        values[values >= energy.saturation] = np.nan
    return values
