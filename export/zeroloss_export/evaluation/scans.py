"""Which elements a network finds in a measured spectrum image, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.physics.elements import ELEMENTS

PIXEL_SHARE = 0.01
"""An element is detected if it is present in at least this share of the pixels (Annys et al.)."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Counts [pixel, channel] on a linear energy axis."""

    counts: NDArray[np.float32]
    offset_ev: float
    scale_ev: float


def read_scan(path: Path) -> Scan:
    """Read the first signal of any file that RosettaSciIO reads; needs the extra ``hyperspy``."""
    from rsciio import IO_PLUGINS

    suffix = path.suffix.lstrip(".").lower()
    names = {"dm3": "DigitalMicrograph", "dm4": "DigitalMicrograph", "hdf5": "HSPY", "hspy": "HSPY"}
    plugin = next((p for p in IO_PLUGINS if p["name"] == names.get(suffix)), None)
    if plugin is None:
        raise ValueError(f"{path}: expected a file of {sorted(names)}, got .{suffix}")
    from importlib import import_module

    signal = import_module(plugin["api"]).file_reader(str(path))[0]
    axes = signal["axes"]
    place = next((i for i, axis in enumerate(axes) if axis.get("units") == "eV"), None)
    if place is None:
        raise ValueError(f"{path}: no axis in eV among {[axis.get('name') for axis in axes]}")
    data = np.moveaxis(np.asarray(signal["data"], dtype=np.float32), place, -1)
    counts = data.reshape(-1, data.shape[-1])
    return Scan(counts, float(axes[place]["offset"]), float(axes[place]["scale"]))


@torch.no_grad()
def predict_scan(predictor: Predictor, scan: Scan, batch: int = 64) -> NDArray[np.float32]:
    """Probabilities [pixel, 80]; negative counts are not measured."""
    counts = torch.from_numpy(np.where(scan.counts >= 0, scan.counts, np.nan))
    parts = []
    for at in range(0, len(counts), batch):
        part = counts[at : at + batch]
        offset = torch.full((len(part),), scan.offset_ev)
        scale = torch.full((len(part),), scan.scale_ev)
        parts.append(predictor(part, offset, scale)[0].numpy())
    return np.concatenate(parts)


def pixel_shares(probability: NDArray[np.floating], threshold: float) -> dict[str, float]:
    """Share of pixels at or above the threshold, for every element that reaches it anywhere."""
    shares = (probability >= threshold).mean(0)
    order = np.argsort(-shares)
    return {ELEMENTS[i]: float(shares[i]) for i in order if shares[i] > 0}
