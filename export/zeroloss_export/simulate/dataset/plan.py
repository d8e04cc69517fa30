"""What a data set holds: splits, their sizes, and the shards in which they are made."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.simulators import RECIPES, AnyRecipe, name_of
from zeroloss_export.simulate.splits import Split

FORMAT: Final = 1

SHARE: Final[dict[Split, int]] = {"train": 7000, "validation": 600, "test": 1500, "single": 100}
"""Spectra per element in the paper's set: 1400 x 5, 300 x 2, 300 x 5, and 100 of one element."""

REPEATS: Final[dict[Split, int]] = {"train": 5, "validation": 2, "test": 5, "single": 1}
"""Spectra of one specimen in the paper's set."""

SHARD_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows ``first`` to ``first + rows - 1`` of a split; ``place`` is its number there."""

    split: Split
    place: int
    first: int
    rows: int

    @property
    def name(self) -> str:
        """File name of the shard."""
        return f"{self.split}-{self.place:07d}.h5"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what a data set holds; equal plans give equal files.

    ``cross_sections`` is the hash of the table, ``device`` the kind of device whose random numbers
    are drawn (``cpu`` or ``cuda``).
    """

    recipe: AnyRecipe
    spectra: int
    seed: int
    single_element: bool
    cross_sections: str
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.spectra < 1:
            raise ValueError(f"expected one spectrum or more, got {self.spectra}")

    def rows(self, split: Split) -> int:
        """Spectra of a split; a set of single elements has the split ``single`` only."""
        if self.single_element:
            return self.spectra if split == "single" else 0
        whole = sum(SHARE.values())
        rows = {name: self.spectra * share // whole for name, share in SHARE.items()}
        rows["train"] += self.spectra - sum(rows.values())
        return rows[split]

    def specimens(self, split: Split) -> int:
        """Different specimens of a split, of every element equally many but for one."""
        repeats = REPEATS[split] if name_of(self.recipe) == "paper" else 1
        return -(-self.rows(split) // repeats)

    def shards(self) -> Iterator[Shard]:
        """All shards, split by split."""
        for split in SHARE:
            rows = self.rows(split)
            for place, first in enumerate(range(0, rows, SHARD_ROWS)):
                yield Shard(split, place, first, min(SHARD_ROWS, rows - first))

    def seed_of(self, split: Split, use: int) -> int:
        """Seed of a shard (``use`` is its place) or of the split's specimens (-1)."""
        words = [self.seed, list(SHARE).index(split), use + 1]
        state = np.random.SeedSequence(words).generate_state(1, np.uint64)
        return int(state[0] >> np.uint64(2))

    def as_json(self) -> str:
        """The plan as text; the recipe with its name and all its fields."""
        fields: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("spectra", "seed", "single_element", "cross_sections", "device")
        }
        fields["format"] = FORMAT
        fields["recipe"] = name_of(self.recipe)
        fields["recipe_fields"] = dataclasses.asdict(self.recipe)
        return json.dumps(fields, indent=1, sort_keys=True)


def recipe_from(settings: Mapping[str, Any]) -> AnyRecipe:
    """The recipe that ``as_json`` wrote, read back from its parsed text."""
    fields = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings["recipe_fields"].items()
    }
    return RECIPES[settings["recipe"]].changed(**fields)


def hash_of(table: CrossSectionTable) -> str:
    """SHA-256 of the numbers of a cross-section table."""
    digest = hashlib.sha256()
    for array in (table.energy_ev, table.basis, table.coeff):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
