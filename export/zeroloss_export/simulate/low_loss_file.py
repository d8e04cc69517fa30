"""Simulated low-loss scans as files that HyperSpy and zeroloss read."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

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
        ("y", "nm", 0.0, STEP_NM, True),
        ("x", "nm", 0.0, STEP_NM, True),
        ("Energy loss", "eV", instrument.offset_ev, instrument.scale_ev, False),
    )
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        group = file.create_group("Experiments/scan")
        group.create_dataset("data", data=values, compression="gzip", compression_opts=1)
        for index, (name, units, offset, scale, navigate) in enumerate(axes):
            node = group.create_group(f"axis-{index}")
            node.attrs["_type"] = "UniformDataAxis"
            node.attrs["name"] = name
            node.attrs["units"] = units
            node.attrs["offset"] = offset
            node.attrs["scale"] = scale
            node.attrs["size"] = values.shape[index]
            node.attrs["navigate"] = navigate
            node.attrs["is_binned"] = not navigate
        metadata = group.create_group("metadata")
        metadata.create_group("General").attrs["title"] = title or path.stem
        metadata.create_group("Signal").attrs["signal_type"] = "EELS"
        microscope = metadata.create_group("Acquisition_instrument/TEM")
        microscope.attrs["beam_energy"] = instrument.beam.beam_kev
        microscope.attrs["convergence_angle"] = instrument.convergence_mrad
        detector = microscope.create_group("Detector/EELS")
        detector.attrs["collection_angle"] = instrument.beam.collection_mrad
        detector.attrs["dwell_time"] = instrument.dwell_s
        group.create_group("original_metadata")
