"""Sets of positions kept as sorted half-open intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class IntervalSet:
    """A set of non-negative integers; long runs of neighbours cost one entry."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The intervals [begin, end) in order."""
        return iter(zip(self._begins, self._ends, strict=True))

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._begins, position) - 1
        return index >= 0 and position < self._ends[index]

    def missing(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The parts of [begin, end) that are not in the set."""
        out: list[tuple[int, int]] = []
        index = bisect_right(self._ends, begin)
        at = begin
        while at < end and index < len(self._begins) and self._begins[index] < end:
            if self._begins[index] > at:
                out.append((at, self._begins[index]))
            at = max(at, self._ends[index])
            index += 1
        if at < end:
            out.append((at, end))
        return out

    def add(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Add [begin, end); returns the parts that were new."""
        new = self.missing(begin, end)
        if not new:
            return new
        left = bisect_left(self._ends, begin)
        right = bisect_right(self._begins, end)
        if left < right:
            begin = min(begin, self._begins[left])
            end = max(end, self._ends[right - 1])
        self._begins[left:right] = [begin]
        self._ends[left:right] = [end]
        self._total += sum(stop - start for start, stop in new)
        return new

    def remove(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Take [begin, end) out; returns the parts that were there."""
        if begin >= end:
            return []
        left = bisect_right(self._ends, begin)
        right = bisect_left(self._begins, end)
        inside = [
            (max(begin, start), min(end, stop))
            for start, stop in zip(self._begins[left:right], self._ends[left:right], strict=True)
        ]
        if not inside:
            return inside
        outside = [
            (start, stop)
            for start, stop in (
                (self._begins[left], begin),
                (end, self._ends[right - 1]),
            )
            if start < stop
        ]
        self._begins[left:right] = [start for start, _ in outside]
        self._ends[left:right] = [stop for _, stop in outside]
        self._total -= sum(stop - start for start, stop in inside)
        return inside
