"""A .hspy (HDF5) file of signals that HyperSpy opens, written without HyperSpy."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

import zeroloss

from ._careful_file import CarefulFile
from ._tree import Tree, plain_key, plain_text, write_tree

_FORMAT_VERSION = "3.1"
"""The version of HyperSpy's file format whose layout is followed; later readers take it."""


@dataclass(frozen=True, slots=True)
class FileAxis:
    """One dimension of the data of a signal; what is not navigated along is the signal itself."""

    name: str
    size: int
    scale: float = 1.0
    offset: float = 0.0
    unit: str = "_None_"
    navigate: bool = True


class HspyFile:
    """An open file that signals are added to."""

    def __init__(self, file: h5py.File, sink: CarefulFile) -> None:
        self._sink = sink
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = _FORMAT_VERSION
        self._experiments = file.create_group("Experiments", track_order=True)

    def add(
        self,
        name: str,
        axes: Iterable[FileAxis],
        parts: Iterable[tuple[tuple[int, ...], npt.NDArray[np.generic]]],
        *,
        dtype: npt.DTypeLike,
        chunks: tuple[int, ...],
        metadata: Tree,
    ) -> None:
        """Write one signal: `parts` are indices of its leading dimensions and what belongs there.

        Raises the first `OSError` of writing after each part.
        """
        group = self._experiments.create_group(plain_key(name))
        group.attrs["package"] = "zeroloss"
        group.attrs["package_version"] = zeroloss.__version__
        axes = tuple(axes)
        for number, axis in enumerate(axes):
            _write_axis(group.create_group(f"axis-{number}").attrs, axis)
        data = group.create_dataset(
            "data",
            shape=tuple(axis.size for axis in axes),
            dtype=dtype,
            chunks=chunks,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
        )
        for index, values in parts:
            data[index] = values
            self._sink.check()
        write_tree(group.create_group("metadata"), metadata)
        write_tree(group.create_group("attributes"), {"_lazy": False, "ragged": False})
        for empty in ("original_metadata", "learning_results"):
            group.create_group(empty)


@contextmanager
def new_hspy(path: Path) -> Iterator[HspyFile]:
    """A file that takes the place of the one at `path` when all of it is written.

    Raises `OSError`; then no half file is left and an older file is untouched.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with CarefulFile(part, "x+") as sink:
            with h5py.File(sink, "w") as file:
                yield HspyFile(file, sink)
            sink.check()
            os.fsync(sink.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_axis(attributes: Any, axis: FileAxis) -> None:
    attributes["_type"] = "UniformDataAxis"
    attributes["name"] = axis.name
    attributes["size"] = axis.size
    attributes["scale"] = axis.scale
    attributes["offset"] = axis.offset
    attributes["units"] = plain_text(axis.unit)
    attributes["navigate"] = axis.navigate
    attributes["is_binned"] = False
