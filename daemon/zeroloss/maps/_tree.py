"""A tree of plain values as HDF5 attributes and groups, in the layout that HyperSpy reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import h5py

from zeroloss.wire.fields import Scalar

Tree: TypeAlias = Mapping[str, "Scalar | Sequence[str] | Sequence[int] | Sequence[float] | Tree"]

MAX_ATTRIBUTE = 16384
"""Characters of a text kept; an HDF5 attribute ends at 64 KiB, a character takes up to four."""


def plain_key(key: str) -> str:
    """A key that neither HDF5 nor HyperSpy reads a meaning into."""
    cleaned = re.sub(r"[^0-9A-Za-z_.\- ]", "_", key).strip("_. ")[:200]
    return cleaned or "unnamed"


def plain_text(text: str) -> str:
    """Text without NUL, which HDF5 cannot keep, and not longer than an attribute holds."""
    return text.replace("\0", "")[:MAX_ATTRIBUTE]


def write_tree(group: h5py.Group, tree: Tree) -> None:
    """Write texts, numbers, flags and nulls as attributes, lists as datasets, maps as groups."""
    taken: set[str] = set()
    for raw, value in tree.items():
        key = plain_key(raw)
        while key in taken:
            key += "_"
        taken.add(key)
        if value is None:
            group.attrs[key] = "_None_"
        elif isinstance(value, str):
            group.attrs[key] = plain_text(value)
        elif isinstance(value, bool | int | float):
            group.attrs[key] = value
        elif isinstance(value, Mapping):
            write_tree(group.create_group(key), value)
        elif not value:
            group.attrs["_list_empty_" + key] = "_None_"
        elif isinstance(value[0], str):
            texts = [plain_text(str(item)) for item in value]
            group.create_dataset("_list_" + key, data=texts, dtype=h5py.string_dtype())
        else:
            group.create_dataset("_list_" + key, data=list(value))
