"""Making shards: simulate, encode, and write each whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zeroloss_export.evaluation.judged import single_elements
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import FIRST_ATOMIC_NUMBER
from zeroloss_export.simulate.compositions import Compositions
from zeroloss_export.simulate.counts_code import FINEST, encode
from zeroloss_export.simulate.dataset.plan import SHARD_ROWS, Plan, Shard
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.paper import PaperRecipe, PaperSimulator
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import ELEMENT_COUNT, LabelledSpectra, SpectrumSimulator
from zeroloss_export.simulate.splits import HeldSampler, Split

Columns = dict[str, NDArray[Any]]
"""What a shard holds: name to array [row, ...]; names of conditions begin with ``conditions/``."""

CHUNK_ROWS: Final = 64
_AT_ONCE: Final = 256
_TRIED: Final = 400
COMPRESSION: Final[dict[str, Any]] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""As fast as LZF here, a little smaller, and every HDF5 library can read it."""


class Maker:
    """Makes the shards of a plan; what a shard holds depends on nothing that was made before."""

    def __init__(self, plan: Plan, table: CrossSectionTable) -> None:
        self.plan = plan
        self.table = table
        self._simulators: dict[Split, PaperSimulator] = {}
        self._specimens: dict[Split, Compositions] = {}

    def make(self, shard: Shard) -> Columns:
        """Simulate one shard."""
        seed = self.plan.seed_of(shard.split, shard.place)
        if isinstance(self.plan.recipe, PaperRecipe):
            return self._by_paper(shard, seed, self.plan.recipe)
        return self._as_measured(shard, seed, self.plan.recipe)

    def _by_paper(self, shard: Shard, seed: int, recipe: PaperRecipe) -> Columns:
        split, device = shard.split, self.plan.device
        if split not in self._simulators:
            simulator = PaperSimulator(
                self.table, recipe, self.plan.seed_of(split, -1), device, split
            )
            count = self.plan.specimens(split)
            # Every element is asked for equally often.
            query = FIRST_ATOMIC_NUMBER + torch.arange(count).remainder(ELEMENT_COUNT)
            self._simulators[split] = simulator
            self._specimens[split] = simulator.specimens(count, query)
        simulator, held = self._simulators[split], self._specimens[split]
        simulator.draw = Draw(seed, device)
        parts = []
        for first, count in _batches(shard):
            # One spectrum of every specimen before the second of any: neighbours differ.
            chosen = (first + torch.arange(count)).remainder(len(held.query))
            drawn = simulator.spectra_of(
                Compositions(held.atomic_number[chosen], held.fraction[chosen], held.query[chosen])
            )
            parts.append(_columns(drawn.spectra, FINEST, drawn.quantity, chosen, drawn.conditions))
        return _joined(parts)

    def _as_measured(self, shard: Shard, seed: int, recipe: Recipe) -> Columns:
        if shard.split == "single":
            recipe = single_elements(recipe)
        device = torch.device(self.plan.device)
        with contextlib.nullcontext() if device.type == "cpu" else device:
            simulator = SpectrumSimulator(self.table, recipe, seed, self.plan.device)
            simulator.sampler = HeldSampler(simulator.sampler, shard.split)
            parts = []
            for first, count in _batches(shard):
                spectra, quantity, conditions = simulator.described(count)
                specimen = first + torch.arange(count)
                # Their units are arbitrary: as fine as 16 bits are.
                parts.append(_columns(spectra, math.inf, quantity, specimen, conditions))
        return _joined(parts)


def _batches(shard: Shard) -> Iterator[tuple[int, int]]:
    """First row of the split and number of rows of every batch of a shard."""
    end = shard.first + shard.rows
    for first in range(shard.first, end, _AT_ONCE):
        yield first, min(_AT_ONCE, end - first)


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _columns(
    spectra: LabelledSpectra,
    finest: float,
    quantity: Tensor,
    specimen: Tensor,
    conditions: Mapping[str, Tensor],
) -> Columns:
    code, steps = encode(spectra.counts.cpu().numpy(), finest)
    columns: Columns = {
        "counts": code,
        "steps": steps,
        "offset_ev": spectra.offset_ev.cpu().numpy(),
        "scale_ev": spectra.scale_ev.cpu().numpy(),
        "present": spectra.present.cpu().numpy().astype(np.uint8),
        "known": spectra.known.cpu().numpy().astype(np.uint8),
        "quantity": quantity.cpu().numpy(),
        "specimen": specimen.cpu().numpy().astype(np.int32),
    }
    for name, value in conditions.items():
        columns[f"conditions/{name}"] = value.cpu().numpy().astype(np.float32)
    return columns


def write_columns(group: h5py.Group, columns: Columns) -> None:
    """Write arrays [row, ...] as chunked, compressed data sets."""
    for name, array in columns.items():
        chunks = (min(chunk_rows(name), len(array)), *array.shape[1:])
        group.create_dataset(name, data=array, chunks=chunks, **COMPRESSION)


def chunk_rows(name: str) -> int:
    """Rows of a chunk: about 400 kB of counts, and a whole shard of what is small."""
    return CHUNK_ROWS if name == "counts" else SHARD_ROWS


def keep_shard(folder: Path, shard: Shard, columns: Columns) -> int:
    """Write a shard into ``folder``, whole or not at all; returns its size in bytes."""
    path = folder / shard.name
    part = path.with_suffix(".part")
    with h5py.File(part, "w") as file:
        write_columns(file, columns)
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    part.replace(path)
    return path.stat().st_size


def bytes_per_spectrum(plan: Plan, table: CrossSectionTable) -> float:
    """Size on disk of a spectrum of the plan, from a few that are made for it."""
    few = dataclasses.replace(plan, spectra=min(_TRIED, plan.spectra))
    shard = next(few.shards())
    columns = Maker(few, table).make(shard)
    with h5py.File("tried.h5", "w", driver="core", backing_store=False) as file:
        write_columns(file, columns)
        file.flush()
        return float(file.id.get_filesize()) / shard.rows
