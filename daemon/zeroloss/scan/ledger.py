"""The ledger of a run: announced = processed + pending + missed + rejected, at every moment."""

from __future__ import annotations

from threading import Lock

import numpy as np
import numpy.typing as npt

from zeroloss.wire import LedgerTotals

from .intervals import IntervalSet


def runs_of(positions: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Half-open runs of consecutive numbers in `positions` [n], in the order they appear."""
    if len(positions) == 0:
        return []
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    begins = positions[np.r_[0, breaks]]
    ends = positions[np.r_[breaks - 1, len(positions) - 1]] + 1
    return [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True)]


class Ledger:
    """Accounts for every spectrum of one run by its position. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._announced = 0
        self._received = IntervalSet()
        self._settled = IntervalSet()
        self._rejected: dict[str, int] = {}
        self._processed = 0
        self._duplicates = 0
        self._masked_channels = 0

    def announce(self, spectra: int) -> None:
        """The source has said that `spectra` spectra exist so far."""
        with self._lock:
            self._announced = max(self._announced, spectra)

    def receive(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Spectra [begin, end) came; returns those not seen before, the others are duplicates."""
        with self._lock:
            new = self._received.add(begin, end)
            self._announced = max(self._announced, end)
            self._duplicates += (end - begin) - sum(stop - start for start, stop in new)
            return new

    def process(self, positions: npt.NDArray[np.int64]) -> None:
        """The received spectra at `positions` [n] are on the map; told twice, counted once."""
        with self._lock:
            for begin, end in runs_of(positions):
                new = self._settled.add(begin, end)
                self._processed += sum(stop - start for start, stop in new)

    def reject(self, begin: int, end: int, reason: str) -> None:
        """The received spectra [begin, end) will never be on the map, for this reason."""
        with self._lock:
            new = self._settled.add(begin, end)
            count = sum(stop - start for start, stop in new)
            if count:
                self._rejected[reason] = self._rejected.get(reason, 0) + count

    def mask_channels(self, count: int) -> None:
        """So many channels of accepted spectra were invalid."""
        with self._lock:
            self._masked_channels += count

    def gaps(self) -> list[tuple[int, int]]:
        """Announced spectra that never came, as half-open ranges of positions."""
        with self._lock:
            return self._received.missing(0, self._announced)

    def pending(self) -> list[tuple[int, int]]:
        """Received spectra that are neither processed nor rejected, as half-open ranges."""
        with self._lock:
            out: list[tuple[int, int]] = []
            for begin, end in self._received:
                out.extend(self._settled.missing(begin, end))
            return out

    def totals(self) -> LedgerTotals:
        """The balance of this moment; counts of messages are the service's to add."""
        with self._lock:
            received = len(self._received)
            rejected = sum(self._rejected.values())
            return LedgerTotals(
                announced=self._announced,
                processed=self._processed,
                pending=received - self._processed - rejected,
                missed=self._announced - received,
                rejected=dict(self._rejected),
                duplicates=self._duplicates,
                masked_channels=self._masked_channels,
            )
