"""Print the elements found, every time that list changes, until the scan is over."""

from __future__ import annotations

import sys

from zeroloss_clients import LiveMaps

# Without arguments: the daemon of this machine. Else: the endpoints of its maps and requests.
with LiveMaps(*sys.argv[1:]) as maps:
    known: tuple[str, ...] | None = None
    for event in maps:
        run = event.run
        if run.detected != known:
            known = run.detected
            print(f"{run.ledger.processed:7d} spectra: {' '.join(known) or 'nothing yet'}")
        if event.kind == "close":
            break
