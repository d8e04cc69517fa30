"""Which block of a recording holds which spectrum, so that few are read for few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ._location import Location

Positions = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint32]
Number = TypeVar("Number", bound=np.generic)

_BEGIN, _END, _FIRST, _SEGMENT, _OFFSET, _NBYTES, _LISTED = range(7)
_NOWHERE = -1


@dataclass(frozen=True, slots=True)
class IndexedBlock:
    """Spectra of one block: `positions` int64 [n], rising; those of a listed scan with `pixels`.

    `first` is the position of the first spectrum in the block. `location` is None where the block
    came and could not be recorded.
    """

    location: Location | None
    first: int
    positions: Positions
    pixels: Pixels | None


class IndexedSpectra:
    """What an index knows of some spectra; rising positions."""

    def __init__(
        self,
        rows: npt.NDArray[np.int64],
        segments: list[Path],
        entries: npt.NDArray[np.intp],
        positions: Positions,
        pixels: Pixels | None,
    ) -> None:
        order = np.argsort(positions, kind="stable")
        self._rows = rows
        self._segments = segments
        self._entries = entries[order]
        self._positions = positions[order]
        self._pixels = None if pixels is None else pixels[order]
        # An entry holds consecutive positions, and no position is in two entries.
        self._starts = np.flatnonzero(np.diff(self._entries, prepend=-1))

    def __len__(self) -> int:
        """Spectra."""
        return len(self._positions)

    @property
    def nbytes(self) -> int:
        """Bytes to be read for them: blocks are read whole."""
        return int(self._rows[self._entries[self._starts], _NBYTES].sum())

    def blocks(self) -> Iterator[IndexedBlock]:
        """Their blocks, by rising position."""
        stops = np.append(self._starts, len(self._entries))[1:]
        for start, stop in zip(self._starts, stops, strict=True):
            row = self._rows[self._entries[start]]
            location = None
            if row[_SEGMENT] != _NOWHERE:
                segment = self._segments[row[_SEGMENT]]
                location = Location(segment, int(row[_OFFSET]), int(row[_NBYTES]))
            part = slice(start, stop)
            pixels = None if self._pixels is None else self._pixels[part]
            yield IndexedBlock(location, int(row[_FIRST]), self._positions[part], pixels)


class BlockIndex:
    """Grows with a recording: 56 bytes per block, and 4 per spectrum of a listed scan.

    `add` is for one thread; what is read from it may be read on others meanwhile.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: npt.NDArray[np.int64] = np.empty((64, 7), np.int64)
        self._count = 0
        self._listed: Pixels = np.empty(0, np.uint32)
        self._listed_count = 0
        self._segments: list[Path] = []
        self._sorted = True
        self._end = 0

    @property
    def end(self) -> int:
        """One more than the highest position in the index."""
        return self._end

    def add(
        self,
        begin: int,
        end: int,
        *,
        first: int,
        location: Location | None,
        pixels: Pixels | None = None,
    ) -> None:
        """The spectra [begin, end) are in the block at `location` whose first one is `first`.

        `pixels` uint32 [end - begin] for a listed scan. No position may be added twice.
        """
        segment = offset = nbytes = _NOWHERE
        if location is None:
            nbytes = 0
        else:
            if not self._segments or self._segments[-1] != location.segment:
                self._segments.append(location.segment)
            segment = len(self._segments) - 1
            offset, nbytes = location.offset, location.nbytes
        listed = self._listed_count
        with self._lock:
            if pixels is not None:
                if listed + len(pixels) > len(self._listed):
                    self._listed = _grown(self._listed, listed + len(pixels))
                self._listed[listed : listed + len(pixels)] = pixels
                self._listed_count += len(pixels)
            if self._count == len(self._rows):
                self._rows = _grown(self._rows, self._count + 1)
            self._rows[self._count] = begin, end, first, segment, offset, nbytes, listed
            self._count += 1
            self._sorted &= begin >= self._end
            self._end = max(self._end, end)

    def of_positions(self, positions: Positions) -> IndexedSpectra:
        """Those of these positions [n] that came."""
        # Only what lies behind the count is still written to.
        with self._lock:
            rows, in_order = self._rows[: self._count], self._sorted
        begins = np.ascontiguousarray(rows[:, _BEGIN])
        order = None if in_order else np.argsort(begins, kind="stable")
        at = np.searchsorted(begins, positions, side="right", sorter=order) - 1
        positions, at = positions[at >= 0], at[at >= 0]
        entries = at if order is None else order[at]
        inside = positions < rows[entries, _END]
        return IndexedSpectra(rows, self._segments, entries[inside], positions[inside], None)

    def of_pixels(self, pixels: Pixels) -> IndexedSpectra:
        """Those of a listed scan that came for these pixels [n]."""
        with self._lock:
            rows, listed = self._rows[: self._count], self._listed[: self._listed_count]
        at = np.flatnonzero(np.isin(listed, pixels))
        entries = np.searchsorted(rows[:, _LISTED], at, side="right") - 1
        positions = rows[entries, _BEGIN] + at - rows[entries, _LISTED]
        return IndexedSpectra(rows, self._segments, entries, positions, listed[at])


def _grown(array: npt.NDArray[Number], needed: int) -> npt.NDArray[Number]:
    size = max(64, needed, 2 * len(array))
    grown: npt.NDArray[Number] = np.empty((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
