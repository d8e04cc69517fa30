"""The HDF5 file of a data set: put together from shards, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import torch

from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.counts_code import NOT_MEASURED, decode
from zeroloss_export.simulate.dataset.plan import FORMAT, SHARE, Plan, Shard
from zeroloss_export.simulate.dataset.shards import COMPRESSION, chunk_rows
from zeroloss_export.simulate.paper import PaperRecipe
from zeroloss_export.simulate.spectra import LabelledSpectra
from zeroloss_export.simulate.splits import Split

_COUNTS_NOTE: Final = (
    f"counts of a channel = (code / steps of the spectrum)^2; code {NOT_MEASURED}: not measured"
)
_NOTES: Final = {
    "counts": _COUNTS_NOTE,
    "steps": "steps of the code per square root of a count",
    "offset_ev": "energy of the first channel's centre",
    "scale_ev": "energy step of a channel",
    "present": "1: an edge of the element is in the range",
    "known": "0: an edge is cut by the range or drowns, the label does not count",
    "quantity": "atoms of an element per atom of all elements present in the spectrum",
    "specimen": "spectra with one number are of one specimen (within a split)",
}


def assemble(
    out: Path,
    folder: Path,
    plan: Plan,
    about: dict[str, Any],
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Put the shards in ``folder`` together to ``out``, whole or not at all.

    Counts are copied as the compressed chunks they are. ``about`` becomes attributes;
    ``progress`` is told of the spectra as they come.
    """
    part = out.with_name(f"{out.name}.part")
    with h5py.File(part, "w") as target:
        target.attrs["title"] = "Simulated core-loss spectra"
        target.attrs["format"] = FORMAT
        target.attrs["settings"] = plan.as_json()
        target.attrs["elements"] = list(ELEMENTS)
        for name, value in about.items():
            target.attrs[name] = value
        if isinstance(plan.recipe, PaperRecipe):
            axis = target.create_dataset("energy_ev", data=np.arange(3072, dtype=np.float32))
            axis.attrs["note"] = "energy of every channel's centre, the same for all spectra"
        for shard in plan.shards():
            with h5py.File(folder / shard.name, "r") as source:
                _append(target.require_group(shard.split), source, plan.rows(shard.split), shard)
            progress(shard.rows)
    part.replace(out)


def _append(group: h5py.Group, source: h5py.File, rows: int, shard: Shard) -> None:
    names: list[str] = []
    source.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    for name in names:
        held = source[name]
        if name not in group:
            chunks = (min(chunk_rows(name), rows), *held.shape[1:])
            made = group.create_dataset(
                name, (rows, *held.shape[1:]), held.dtype, chunks=chunks, **COMPRESSION
            )
            if name in _NOTES:
                made.attrs["note"] = _NOTES[name]
        target = group[name]
        if name != "counts" or target.chunks != held.chunks:
            target[shard.first : shard.first + shard.rows] = held[()]
            continue
        for at in range(0, shard.rows, held.chunks[0]):
            mask, content = held.id.read_direct_chunk((at, 0))
            target.id.write_direct_chunk((shard.first + at, 0), content, mask)


def settings_of(path: Path) -> dict[str, Any]:
    """The plan of a data set as parsed text; ValueError if the file is none of this format."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("settings")
    except OSError as error:
        raise ValueError(f"{path}: expected a data set of simulated spectra: {error}") from None
    settings: dict[str, Any] = json.loads(text) if text is not None else {}
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a data set of simulated spectra of format {FORMAT}, made by "
            "zeroloss-export dataset"
        )
    return settings


def read_split(
    path: Path, split: Split, first: int = 0, count: int | None = None
) -> LabelledSpectra:
    """Spectra ``first`` to ``first + count - 1`` of a split; ValueError where there is none."""
    settings_of(path)
    with h5py.File(path, "r") as file:
        if split not in file:
            held = [name for name in SHARE if name in file]
            raise ValueError(f"{path}: expected a split of {held}, got {split!r}")
        group = file[split]
        rows = slice(first, None if count is None else first + count)
        counts = decode(group["counts"][rows], group["steps"][rows])
        names = ("offset_ev", "scale_ev", "present", "known")
        rest = {name: torch.from_numpy(group[name][rows].astype(np.float32)) for name in names}
    return LabelledSpectra(counts=torch.from_numpy(counts), **rest)
