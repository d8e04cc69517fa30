"""Measured spectra: for evaluation only, never for training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zeroloss_export.physics.elements import ELEMENTS

Answers = tuple[Tensor, Tensor, Tensor]
"""probability [batch, 80], spread [batch, 80] and unlike [batch, 1]."""
Predictor = Callable[[Tensor, Tensor, Tensor], Answers]
"""counts [batch, channel], offset_ev [batch], scale_ev [batch] to answers."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One measured spectrum; ``energy_ev`` and ``counts`` have the same length."""

    id: str
    energy_ev: NDArray[np.float64]
    counts: NDArray[np.float64]


def read_spectra(path: Path) -> list[Spectrum]:
    """Read an ``.npz`` with ids, offsets, energy, counts (spectrum i: offsets[i]:offsets[i+1])."""
    with np.load(path, allow_pickle=False) as file:
        missing = {"ids", "offsets", "energy", "counts"} - set(file.files)
        if missing:
            raise ValueError(
                f"{path}: expected arrays ids, offsets, energy, counts; {missing} missing"
            )
        bounds = file["offsets"]
        energy, counts = file["energy"], file["counts"]
        return [
            Spectrum(str(name), energy[low:high].astype(float), counts[low:high].astype(float))
            for name, low, high in zip(file["ids"], bounds[:-1], bounds[1:], strict=True)
        ]


def read_truth(path: Path, spectra: list[Spectrum]) -> NDArray[np.bool_]:
    """Truth [spectrum, 80] from an ``index.csv`` with the columns ``id`` and ``elements``."""
    with path.open(newline="", encoding="utf-8") as stream:
        elements = {row["id"]: row["elements"].split() for row in csv.DictReader(stream)}
    unknown = [spectrum.id for spectrum in spectra if spectrum.id not in elements]
    if unknown:
        raise ValueError(f"{path}: no row for spectrum {unknown[0]!r}")
    return np.array([[e in elements[s.id] for e in ELEMENTS] for s in spectra])


def as_inputs(spectrum: Spectrum) -> tuple[Tensor, Tensor, Tensor]:
    """The graph's inputs for one spectrum.

    Negative counts and channels that the file leaves out are not measured: the axis runs on at the
    median step. ValueError if the energies do not rise.
    """
    energy = spectrum.energy_ev
    steps = np.diff(energy)
    if len(energy) < 2 or not (steps > 0).all():
        raise ValueError(f"{spectrum.id}: expected at least two rising energies")
    scale = float(np.median(steps))
    channel = np.rint((energy - energy[0]) / scale).astype(int)
    # Rounded energies in the file let the median drift; the ends are exact.
    scale = (energy[-1] - energy[0]) / channel[-1]
    counts = np.full(channel[-1] + 1, np.nan)
    counts[channel] = np.where(spectrum.counts >= 0, spectrum.counts, np.nan)
    return (
        torch.tensor(counts, dtype=torch.float32)[None],
        torch.tensor([energy[0]], dtype=torch.float32),
        torch.tensor([scale], dtype=torch.float32),
    )


@torch.no_grad()
def predict(predictor: Predictor, spectra: list[Spectrum]) -> NDArray[np.float32]:
    """Probabilities [spectrum, 80]."""
    return np.concatenate([predictor(*as_inputs(spectrum))[0].numpy() for spectrum in spectra])


def write_predictions(
    path: Path, spectra: list[Spectrum], probability: NDArray[np.floating]
) -> None:
    """Write ``id,Be,...,Bi``."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", *ELEMENTS])
        for spectrum, row in zip(spectra, probability, strict=True):
            writer.writerow([spectrum.id, *(f"{value:.5f}" for value in row)])
