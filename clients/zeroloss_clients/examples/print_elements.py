"""Print the elements found, every time that list changes, until the scan is over."""

from __future__ import annotations

from zeroloss_clients import LiveMaps
from zeroloss_clients.examples._parser import example_parser

args = example_parser(
    __doc__,
    "python -m zeroloss_clients.examples.print_elements",
    "python -m zeroloss_clients.examples.print_elements --maps tcp://127.0.0.1:6551 "
    "--requests tcp://127.0.0.1:6552",
).parse_args()

with LiveMaps(args.maps, args.requests) as maps:
    known: tuple[str, ...] | None = None
    for event in maps:
        run = event.run
        if run.detected != known:
            known = run.detected
            print(f"{run.ledger.processed:7d} spectra: {' '.join(known) or 'nothing yet'}")
        if event.kind == "close":
            break
