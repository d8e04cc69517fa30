"""A file of spectra as the messages of a run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zeroloss.scan import ScanGeometry
from zeroloss.wire import RUN_BYTES, Pattern, RunStart, ScanPlan, SpectraBlock
from zeroloss.wire.fields import Scalar
from zeroloss.wire.limits import MAX_BLOCK, MAX_BUFFER_BYTES, MAX_TEXT

from ._spectra import SpectrumFile


def run_start(
    file: SpectrumFile,
    *,
    run: bytes | None = None,
    t_ns: int,
    dwell_s: float | None = None,
    pattern: Pattern = "raster",
) -> RunStart:
    """The run start of one pass over the file's pixels.

    `run` is drawn at random where it is None; `dwell_s` defaults to what the file says.
    """
    metadata: dict[str, Scalar] = {"file": Path(file.path).name}
    if file.notes:
        metadata["notes"] = " ".join(f"{note}." for note in file.notes)[:MAX_TEXT]
    return RunStart(
        run=secrets.token_bytes(RUN_BYTES) if run is None else run,
        t_ns=t_ns,
        scan=ScanPlan(
            shape=file.shape,
            pattern=pattern,
            dwell_s=file.dwell_s if dwell_s is None else dwell_s,
            step=file.step,
            step_unit=file.step_unit,
        ),
        ranges=file.ranges,
        modality=file.modality,
        expected=file.pixels,
        beam_kev=file.beam_kev,
        convergence_mrad=file.convergence_mrad,
        collection_mrad=file.collection_mrad,
        title=file.title[:MAX_TEXT],
        metadata=metadata,
    )


def blocks(file: SpectrumFile, start: RunStart, block: int) -> Iterator[SpectraBlock]:
    """The spectra in the order of the scan pattern, `block` at a time, numbered from 1.

    `t_ns` is the planned time: the run's start plus the dwell times up to the end of the block.
    """
    if not 1 <= block <= MAX_BLOCK:
        raise ValueError(f"a block of {block} spectra: expected 1 to {MAX_BLOCK}")
    widest = max(array.dtype.itemsize * array.shape[1] for array in file.counts.values())
    block = max(1, min(block, MAX_BUFFER_BYTES // widest))
    geometry = ScanGeometry(start.scan)
    schema = start.schema
    dwell_ns = (start.scan.dwell_s or 0.0) * 1e9
    for seq, first in enumerate(range(0, file.pixels, block), start=1):
        stop = min(first + block, file.pixels)
        listed = start.scan.pattern == "list"
        positions = np.arange(first, stop)
        # Row-major order is a plain slice, so a large file is never copied.
        chosen: slice | np.ndarray = slice(first, stop)
        if start.scan.pattern == "serpentine":
            chosen = geometry.pixel_of(positions)
        yield SpectraBlock(
            run=start.run,
            seq=seq,
            t_ns=start.t_ns + round(stop * dwell_ns),
            schema=schema,
            first=first,
            counts={name: array[chosen] for name, array in file.counts.items()},
            pixels=positions.astype(np.uint32) if listed else None,
        )
