"""Simulated low-loss scans as files that HyperSpy and zeroloss read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

from zeroloss_export.simulate.hspy_signal import (
    add_signal,
    energy_axis,
    image_axes,
    microscope_metadata,
    new_file,
)
from zeroloss_export.simulate.low_loss import LowLossScan

STEP_NM: Final = 2.0


def write_scan(
    path: Path, scan: LowLossScan, counts: NDArray[np.float32] | None = None, title: str = ""
) -> None:
    """Write a scan, or other ``counts`` [rows, columns, channels] of it, as a .hspy file.

    The truth is not written: the file is what a microscope would have left. Raises ValueError for
    another suffix than .hspy, or counts of another shape.
    """
    if path.suffix != ".hspy":
        raise ValueError(f"{path.name}: expected a file name that ends in .hspy")
    values = scan.counts if counts is None else counts
    if values.shape != scan.counts.shape:
        raise ValueError(f"counts {values.shape}: expected the scan's own {scan.counts.shape}")
    instrument = scan.instrument
    axes = (
        *image_axes((STEP_NM, STEP_NM)),
        energy_axis(instrument.offset_ev, instrument.scale_ev),
    )
    metadata = microscope_metadata(
        instrument.beam.beam_kev,
        instrument.convergence_mrad,
        instrument.beam.collection_mrad,
        dwell_time=instrument.dwell_s,
    ) | {"General": {"title": title or path.stem}, "Signal": {"signal_type": "EELS"}}
    with h5py.File(path, "w") as file:
        new_file(file)
        add_signal(file, "scan", values, axes, metadata)
