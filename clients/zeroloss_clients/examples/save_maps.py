"""Wait for the end of a scan and save the maps of what was found as one .npz file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from zeroloss_clients import LiveMaps

out = Path(sys.argv[1] if len(sys.argv) > 1 else "maps.npz")
with LiveMaps(*sys.argv[2:]) as maps:
    run = maps.wait_for_close()
    arrays: dict[str, Any] = {"coverage": run.coverage}
    for label in run.detected:
        arrays[label] = run[label].values
        arrays[f"{label}_spread"] = run.spread(label).values
    np.savez(out, **arrays)
    print(f"{out}: {' '.join(run.detected)} of run {run.run.hex()}, {run.ledger}")
