"""Simulated signals in files of HyperSpy's layout, written with h5py alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of a signal; what is not navigated along is the signal itself."""

    name: str
    unit: str
    offset: float
    scale: float
    navigate: bool = True


def image_axes(step_nm: tuple[float, float], *, navigate: bool = True) -> tuple[Axis, Axis]:
    """Rows and columns of a scan."""
    return (
        Axis("y", "nm", 0.0, step_nm[0], navigate),
        Axis("x", "nm", 0.0, step_nm[1], navigate),
    )


def energy_axis(offset_ev: float, scale_ev: float) -> Axis:
    """Energy losses, the dimension of a spectrum."""
    return Axis("Energy loss", "eV", offset_ev, scale_ev, False)


def new_file(file: h5py.File) -> None:
    """Make an empty HDF5 file one of HyperSpy's."""
    file.attrs["file_format"] = "HyperSpy"
    file.attrs["file_format_version"] = "3.3"


def add_signal(
    file: h5py.File,
    name: str,
    data: NDArray[Any],
    axes: Sequence[Axis],
    metadata: Mapping[str, Mapping[str, object]],
) -> None:
    """Add a signal; ``metadata`` are attributes by dotted path of their group."""
    group = file.create_group(f"Experiments/{name}")
    group.create_dataset("data", data=data, compression="gzip", compression_opts=1)
    for index, (axis, size) in enumerate(zip(axes, np.shape(data), strict=True)):
        node = group.create_group(f"axis-{index}")
        node.attrs["_type"] = "UniformDataAxis"
        node.attrs["name"] = axis.name
        node.attrs["units"] = axis.unit
        node.attrs["offset"] = axis.offset
        node.attrs["scale"] = axis.scale
        node.attrs["size"] = size
        node.attrs["navigate"] = axis.navigate
        node.attrs["is_binned"] = axis.unit == "eV"
    for path, attributes in metadata.items():
        node = group.require_group(f"metadata/{path.replace('.', '/')}")
        for key, value in attributes.items():
            node.attrs[key] = value
    group.create_group("original_metadata")


def microscope_metadata(
    beam_kev: float, convergence_mrad: float, collection_mrad: float, **detector: float
) -> dict[str, dict[str, object]]:
    """What HyperSpy calls the instrument: keV, mrad, and what ``detector`` says."""
    return {
        "Acquisition_instrument.TEM": {
            "beam_energy": beam_kev,
            "convergence_angle": convergence_mrad,
        },
        "Acquisition_instrument.TEM.Detector.EELS": {
            "collection_angle": collection_mrad,
            **detector,
        },
    }
