"""Simulated specimens as files that HyperSpy and zeroloss read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from zeroloss_export.simulate.hspy_signal import (
    Axis,
    add_signal,
    energy_axis,
    image_axes,
    microscope_metadata,
    new_file,
)
from zeroloss_export.simulate.specimens.scan import EnergyRange, SpecimenScan

DWELL_S: Final = 0.02


def low_loss_path(path: Path) -> Path:
    """Where the low loss of a specimen is written, beside its core loss."""
    return path.with_name(f"{path.stem}-low-loss{path.suffix}")


def write_specimen(path: Path, scan: SpecimenScan) -> tuple[Path, Path]:
    """Write two .hspy files; returns their paths.

    ``path`` holds the core loss and, as signals without an energy axis, the truth: ``areal
    density`` (atoms/nm2) and ``atomic fraction`` (percent of the visible elements), [element, y,
    x] with the elements in ``metadata.Sample.elements``, ``thickness`` (t/lambda), ``thickness
    nm`` and ``shift`` (eV), [y, x]. Beside it, named by `low_loss_path`, lies the low loss: a file
    has one measured range, and those who read several are given several files. Raises ValueError
    for another suffix than .hspy.
    """
    if path.suffix != ".hspy":
        raise ValueError(f"{path.name}: expected a file name that ends in .hspy")
    given, low_path = scan.conditions, low_loss_path(path)
    with h5py.File(path, "w") as file:
        new_file(file)
        _add_counts(file, scan, "core loss", scan.core, scan.core_counts, DWELL_S)
        fraction = scan.atomic_fraction()
        _add_truth(file, scan, "areal density", "atoms/nm2", scan.areal_density, scan.elements)
        _add_truth(file, scan, "atomic fraction", "%", fraction, scan.visible)
        _add_truth(file, scan, "thickness", "t/lambda", scan.thickness)
        _add_truth(file, scan, "thickness nm", "nm", scan.thickness_nm)
        _add_truth(file, scan, "shift", "eV", scan.shift_ev)
    with h5py.File(low_path, "w") as file:
        new_file(file)
        exposure = DWELL_S / given.exposure_ratio
        _add_counts(file, scan, "low loss", scan.low, scan.low_counts, exposure)
    return path, low_path


def _add_counts(
    file: h5py.File,
    scan: SpecimenScan,
    name: str,
    axis: EnergyRange,
    counts: NDArray[np.uint32],
    exposure_s: float,
) -> None:
    given = scan.conditions
    metadata = microscope_metadata(
        given.beam_kev,
        given.convergence_mrad,
        given.collection_mrad,
        dwell_time=DWELL_S,
        exposure=exposure_s,
    ) | {
        "General": {"title": scan.title},
        "Signal": {"signal_type": "EELS"},
        "Simulated": {
            "specimen": scan.name,
            "dose": given.dose,
            "exposure_ratio": given.exposure_ratio,
            "gain": given.gain,
            "drift": given.drift,
            "contamination": given.contamination,
        },
    }
    axes = (*image_axes(scan.step_nm), energy_axis(axis.offset_ev, axis.scale_ev))
    add_signal(file, name, counts, axes, metadata)


def _add_truth(
    file: h5py.File,
    scan: SpecimenScan,
    name: str,
    unit: str,
    values: NDArray[Any],
    elements: tuple[str, ...] = (),
) -> None:
    image = image_axes(scan.step_nm, navigate=False)
    axes = (Axis("element", "", 0.0, 1.0), *image) if elements else image
    metadata: dict[str, dict[str, object]] = {
        "General": {"title": f"{scan.title}: true {name}"},
        "Signal": {"signal_type": "", "quantity": f"{name.capitalize()} ({unit})"},
    }
    add_signal(file, f"true {name}", values.astype(np.float32), axes, metadata)
    if elements:
        # A list of HyperSpy's metadata: a data set of strings, its key with a prefix.
        sample = file[f"Experiments/true {name}/metadata"].create_group("Sample")
        sample.create_dataset("_list_elements", data=list(elements), dtype=h5py.string_dtype())
