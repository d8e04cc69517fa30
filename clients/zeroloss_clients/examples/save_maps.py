"""Wait for the end of a scan and save the maps of what was found as one .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zeroloss_clients import LiveMaps
from zeroloss_clients.examples._parser import example_parser

parser = example_parser(
    __doc__,
    "python -m zeroloss_clients.examples.save_maps scan.npz",
    "python -c \"import numpy; print(numpy.load('scan.npz')['Fe'].mean())\"",
)
parser.add_argument(
    "out",
    nargs="?",
    type=Path,
    default=Path("maps.npz"),
    metavar="OUT.npz",
    help="file to write (default: maps.npz): coverage, and per element found its probability and "
    "its spread [rows, columns]",
)
args = parser.parse_args()

with LiveMaps(args.maps, args.requests) as maps:
    run = maps.wait_for_close()
    arrays: dict[str, Any] = {"coverage": run.coverage}
    for label in run.detected:
        arrays[label] = run[label].values
        arrays[f"{label}_spread"] = run.spread(label).values
    np.savez(args.out, **arrays)
    print(f"{args.out}: {' '.join(run.detected)} of run {run.run.hex()}, {run.ledger}")
