"""Data sets of simulated spectra in one HDF5 file.

A set is made in shards of their own seeds. A shard lies in its final form or not at all, so that a
run may be killed at any moment and go on where it was, with any number of processes, to the same
file to the byte.
"""

from zeroloss_export.simulate.dataset.file import assemble, read_split, settings_of
from zeroloss_export.simulate.dataset.plan import Plan
from zeroloss_export.simulate.dataset.shards import Maker, keep_shard

__all__ = ["Maker", "Plan", "assemble", "keep_shard", "read_split", "settings_of"]
