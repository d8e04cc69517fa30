"""Look at one map while it grows, cell by cell, as in a notebook."""

from __future__ import annotations

import sys

import numpy as np

from zeroloss_clients import LiveMaps

# %% Follow the daemon; in a notebook leave this open and call maps.close() at the end.
maps = LiveMaps(*sys.argv[1:])
run = maps.wait_for_run(timeout=60)
print(run.start.title, run.shape, run.provenance["packages"])

# %% What there is of one element at this moment. Evaluate again to see more of it.
iron = maps.latest()["Fe"]
print(f"{(~iron.mask).sum()} of {iron.mask.size} pixels mapped, Fe in {100 * iron.share:.1f} %")

# %% A view is made of plain arrays: values [rows, columns], NaN where nothing is known yet.
print("most iron at (row, column)", np.unravel_index(np.nanargmax(iron), iron.shape))
print("mean uncertainty", np.nanmean(maps.spread("Fe")))

# %%
maps.close()
