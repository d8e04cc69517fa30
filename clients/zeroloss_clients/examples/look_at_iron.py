"""Look at one map while it grows, cell by cell, as in a notebook."""

from __future__ import annotations

import numpy as np

from zeroloss_clients import LiveMaps
from zeroloss_clients.examples._parser import example_parser

parser = example_parser(
    __doc__,
    "python -m zeroloss_clients.examples.look_at_iron",
    "python -m zeroloss_clients.examples.look_at_iron --element Ti",
)
parser.add_argument("--element", default="Fe", metavar="SYMBOL", help="which map (default: Fe)")
args = parser.parse_args()

# %% Follow the daemon; in a notebook leave this open and call maps.close() at the end.
maps = LiveMaps(args.maps, args.requests)
run = maps.wait_for_run(timeout=60)
print(run.start.title, run.shape, run.provenance["packages"])

# %% What there is of one element at this moment. Evaluate again to see more of it.
next(event for event in maps if not event.run[args.element].mask.all())
iron = maps.latest()[args.element]
print(
    f"{(~iron.mask).sum()} of {iron.mask.size} pixels mapped, "
    f"{args.element} in {100 * iron.share:.1f} %"
)

# %% A view is made of plain arrays: values [rows, columns], NaN where nothing is known yet.
print("highest at (row, column)", np.unravel_index(np.nanargmax(iron), iron.shape))
print("mean uncertainty", np.nanmean(maps.spread(args.element)))

# %%
maps.close()
