"""One signal of a file: data, axes and metadata, and what it says of its own making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeroloss.wire import Modality

from ._axes import SignalAxis, find_energy
from ._errors import SpectrumFileError
from ._spectra import Counts


@dataclass(frozen=True, slots=True)
class Signal:
    """Data [..] with one `SignalAxis` per dimension, in the order of the array."""

    data: Counts
    axes: tuple[SignalAxis, ...]
    metadata: Mapping[str, Any]
    energy: int | None
    """Index of the energy axis; None for an image."""

    @classmethod
    def of(
        cls, data: Counts, axes: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
    ) -> Signal:
        """From the dictionaries of RosettaSciIO."""
        ordered = list(axes)
        if all("index_in_array" in axis for axis in ordered):
            ordered.sort(key=lambda axis: int(axis["index_in_array"]))
        if len(ordered) != data.ndim:
            raise SpectrumFileError(
                f"data of {data.ndim} dimensions with {len(ordered)} axes: the file is damaged"
            )
        named = tuple(
            SignalAxis.of(axis, size) for axis, size in zip(ordered, data.shape, strict=True)
        )
        return cls(data, named, metadata, find_energy(named))

    @property
    def title(self) -> str:
        """The title in the metadata, or nothing."""
        title = self.find("General.title")
        return title if isinstance(title, str) else ""

    @property
    def pixels(self) -> int:
        """Number of spectra."""
        return int(self.data.size) // max(1, int(self.data.shape[self.energy or 0]))

    @property
    def stated_modality(self) -> Modality | None:
        """EELS or EDX where the file says which; None where it does not."""
        kind = str(self.find("Signal.signal_type") or "").upper()
        if kind.startswith("EELS"):
            return "eels"
        if kind.startswith(("EDS", "EDX")):
            return "edx"
        detectors = self.find("Acquisition_instrument.TEM.Detector")
        if isinstance(detectors, Mapping) and len({"EELS", "EDS"} & set(detectors)) == 1:
            return "eels" if "EELS" in detectors else "edx"
        if self.energy is not None and "loss" in self.axes[self.energy].name.lower():
            return "eels"
        return None

    def find(self, path: str) -> object:
        """The metadata entry at a dotted path, None where there is none."""
        node: object = self.metadata
        for key in path.split("."):
            if not isinstance(node, Mapping) or key not in node:
                return None
            node = node[key]
        return node

    def positive(self, *keys: str) -> float | None:
        """The first positive number among these entries of the instrument's metadata."""
        for instrument in ("TEM", "SEM"):
            for key in keys:
                value = self.find(f"Acquisition_instrument.{instrument}.{key}")
                if isinstance(value, int | float | np.integer | np.floating):
                    number = float(value)
                    if np.isfinite(number) and number > 0:
                        return number
        return None
