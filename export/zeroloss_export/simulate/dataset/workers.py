"""Shards made by several processes, or by this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import connection
from pathlib import Path

import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.dataset.plan import Plan, Shard
from zeroloss_export.simulate.dataset.shards import Maker, keep_shard

_makers: list[tuple[Maker, Path]] = []


def make_shards(
    maker: Maker, folder: Path, shards: Sequence[Shard], processes: int
) -> Iterator[int]:
    """Make and keep shards; yields the spectra of each as it is kept.

    A caller that stops asking (Ctrl-C) leaves whole shards only.
    """
    if processes == 1:
        for shard in shards:
            keep_shard(folder, shard, maker.make(shard))
            yield shard.rows
        return
    waiting = iter(shards)
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(maker.plan, maker.table, folder),
    )
    try:
        running: set[Future[int]] = {
            pool.submit(_make, shard) for shard in islice(waiting, 2 * processes)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_make, shard) for shard in islice(waiting, len(done))}
            for finished in done:
                yield finished.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(plan: Plan, table: CrossSectionTable, folder: Path) -> None:
    # Ctrl-C reaches the whole group of processes; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _makers.append((Maker(plan, table), folder))


def _end_with_parent() -> None:
    """A parent that is killed cannot say so; its end can be waited for."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _make(shard: Shard) -> int:
    maker, folder = _makers[0]
    keep_shard(folder, shard, maker.make(shard))
    return shard.rows
