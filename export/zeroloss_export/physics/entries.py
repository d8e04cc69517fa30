"""Look-up of table entries by subshell and kind of atom."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray


class SubshellEntries:
    """Base of tables whose first dimension is an entry: one subshell, frozen core or core hole.

    labels     [entry]  subshell labels such as ``Ti_L3``
    core_hole  [entry]  True where the atom was relaxed around a hole in the subshell
    """

    labels: tuple[str, ...]
    core_hole: NDArray[np.bool_]

    @cached_property
    def _positions(self) -> dict[tuple[str, bool], int]:
        keys = zip(self.labels, self.core_hole.tolist(), strict=True)
        return {key: entry for entry, key in enumerate(keys)}

    def __contains__(self, key: tuple[str, bool]) -> bool:
        return key in self._positions

    def entry(self, label: str, core_hole: bool = False) -> int:
        """Index of a subshell's entry; KeyError if the table has none."""
        found = self._positions.get((label, core_hole))
        if found is None:
            kind = "core-hole" if core_hole else "frozen-core"
            raise KeyError(f"expected the label of a {kind} entry of the table, got {label!r}")
        return found
