"""One run on its way out: what was published of it, and what comes next."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from zeroloss.wire import LedgerTotals, LedgerUpdate, MapClose, MapOpen, MapUpdate, Snapshot

from .run import PublishedRun

UPDATE_BYTES = 4 << 20
"""An update is split so that no message is longer than about this."""
UPDATES_PER_TICK = 4
"""Messages of one run before requests are served again; the rest waits for the next tick."""
PAGE_BYTES = 16 << 20
"""The longest page of a snapshot, about."""
LEDGER_INTERVAL_S = 0.5
LEDGER_REPEAT_S = 2.0
"""An unchanged ledger is told again after this: rate and lag are in no snapshot."""


class LiveRun:
    """The publisher's state of a run: its opening, its close, and the ledger last told."""

    def __init__(self, run: PublishedRun, opened: MapOpen) -> None:
        self.run = run
        self.opened = opened
        self.closed: MapClose | None = None
        # Pixel index and coverage travel beside the layers.
        per_pixel = run.store.bytes_per_pixel + 5
        self._update_pixels = max(1, UPDATE_BYTES // per_pixel)
        self._page_pixels = max(1, PAGE_BYTES // per_pixel)
        self._told: tuple[LedgerTotals, float, float] | None = None
        self._told_at = -np.inf

    def due(self, seq: int, now: float) -> Iterator[MapUpdate | LedgerUpdate | MapClose]:
        """The messages to publish now, numbered from `seq` on; `now` on the monotonic clock.

        The close comes when the run is closing and every change is out.
        """
        # Read before the map: once it is set, nothing more is written.
        closing = self.run.closing
        for _ in range(UPDATES_PER_TICK):
            changed = self.run.store.take_dirty(self._update_pixels)
            if changed is None:
                break
            pixels, coverage, values = changed
            yield MapUpdate(
                run=self.opened.run,
                seq=seq,
                t_ns=time.time_ns(),
                daemon=self.opened.daemon,
                pixels=pixels,
                coverage=coverage,
                values=values,
            )
            seq += 1
            if len(pixels) < self._update_pixels:
                # All that was there; what is written meanwhile waits for the next tick.
                break
        else:
            # The tick's share is used up, so there may be more.
            closing = None
        silent_s = now - self._told_at
        if closing is not None or silent_s >= LEDGER_INTERVAL_S:
            state = (self.run.totals(), self.run.lag_s(), self.run.rate_hz())
            if closing is not None or state != self._told or silent_s >= LEDGER_REPEAT_S:
                self._told, self._told_at = state, now
                yield LedgerUpdate(
                    run=self.opened.run,
                    seq=seq,
                    t_ns=time.time_ns(),
                    daemon=self.opened.daemon,
                    totals=state[0],
                    lag_s=state[1],
                    rate_hz=state[2],
                )
                seq += 1
        if closing is not None:
            self.closed = MapClose(
                run=self.opened.run,
                seq=seq,
                t_ns=time.time_ns(),
                daemon=self.opened.daemon,
                status=closing.status,
                reason=closing.reason,
                totals=self.run.totals(),
                detected=closing.detected,
            )
            yield self.closed

    def snapshot(self, ticket: int, first: int, seq: int) -> Snapshot:
        """The page of the map from pixel `first` on, as of published message `seq`."""
        coverage, values = self.run.store.page(first, self._page_pixels)
        return Snapshot(
            run=self.opened.run,
            seq=seq,
            t_ns=time.time_ns(),
            ticket=ticket,
            opened=self.opened,
            closed=self.closed,
            totals=self.run.totals(),
            first=first,
            coverage=coverage,
            values=values,
        )
