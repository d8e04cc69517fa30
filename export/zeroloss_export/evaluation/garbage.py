"""Spectra that are none: how many elements does a network claim to see in them?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss.models import InferenceError
from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.networks.ensemble import UNLIKE_THRESHOLD
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.spectra import LabelledSpectra

CHANNELS: Final = 1024
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Inputs:
    """counts [spectrum, channel], offset_ev [spectrum] and scale_ev [spectrum]."""

    counts: Floats
    offset_ev: Floats
    scale_ev: Floats


@dataclass(frozen=True, slots=True)
class GarbageScore:
    """``claiming`` is the share of spectra with an element above the threshold, ``elements`` their

    number per spectrum, ``highest`` the largest probability, ``named`` the elements claimed most,
    ``unlike`` the share of spectra that the network itself says are unlike its training.
    ``refused``: the session does not take such input at all. ``not_finite`` counts values.
    """

    kind: str
    spectra: int
    claiming: float
    elements: float
    highest: float
    named: tuple[str, ...]
    unlike: float = 0.0
    not_finite: int = 0
    refused: bool = False


def garbage(count: int, seed: int, real: LabelledSpectra) -> dict[str, Inputs]:
    """``count`` spectra of every kind; ``real`` (at least as many) are the ones to spoil."""
    rng = np.random.default_rng(seed)
    makers: dict[str, Callable[[Floats], Floats]] = {
        "constant": lambda level: np.repeat(level, CHANNELS, 1),
        "zeros": lambda level: np.zeros((len(level), CHANNELS)),
        "white noise (Poisson)": lambda level: rng.poisson(level, (len(level), CHANNELS)).astype(
            np.float64
        ),
        "white noise (uniform)": lambda level: level * rng.random((len(level), CHANNELS)),
        "dark frame, half of it negative": lambda level: (
            np.sqrt(level) * rng.standard_normal((len(level), CHANNELS))
        ),
        "saturated: full scale everywhere": lambda level: np.full((len(level), CHANNELS), 65535.0),
        "all NaN": lambda level: np.full((len(level), CHANNELS), np.nan),
    }
    kinds = {}
    for kind, make in makers.items():
        level = 10 ** rng.uniform(0.5, 6.0, (count, 1))
        start, length = rng.uniform(40.0, 1500.0, count), 10 ** rng.uniform(2.0, 3.3, count)
        kinds[kind] = Inputs(make(level), start, length / CHANNELS)
    kinds["low loss only"] = _low_loss(count, rng)
    counts, offset, scale = (
        value[:count].double().numpy() for value in (real.counts, real.offset_ev, real.scale_ev)
    )
    kinds["clipped to the lowest tenth of its counts"] = Inputs(
        np.minimum(counts, np.nanquantile(counts, 0.1, axis=1, keepdims=True)), offset, scale
    )
    back = _reversed(counts)
    kinds["reversed spectrum"] = Inputs(back, offset, scale)
    last = offset + scale * (np.isfinite(counts).sum(1) - 1)
    kinds["reversed axis: negative eV per channel"] = Inputs(back, last, -scale)
    away = rng.uniform(100.0, 500.0, count) * np.where(offset > 600, rng.choice([-1, 1], count), 1)
    kinds["axis 100 to 500 eV off"] = Inputs(counts, offset + away, scale)
    kinds["axis with twice the true eV per channel"] = Inputs(counts, offset, 2 * scale)
    return kinds


@torch.no_grad()
def score_garbage(
    predictor: Predictor, kinds: dict[str, Inputs], threshold: float
) -> list[GarbageScore]:
    """Score every kind; negative counts are not measured, as everywhere."""
    rows = []
    for kind, inputs in kinds.items():
        counts = np.where(inputs.counts >= 0, inputs.counts, np.nan)
        arrays = (counts, inputs.offset_ev, inputs.scale_ev)
        counted = len(counts)
        try:
            tensors = [torch.from_numpy(array.astype(np.float32)) for array in arrays]
            answers = predictor(tensors[0], tensors[1], tensors[2])
        except InferenceError:
            rows.append(GarbageScore(kind, counted, 0.0, 0.0, np.nan, (), refused=True))
            continue
        probability, unlike = answers[0].numpy(), answers[2].numpy()
        claimed = probability >= threshold
        often = np.argsort(-claimed.sum(0), kind="stable")[:3]
        rows.append(
            GarbageScore(
                kind,
                counted,
                float(claimed.any(1).mean()),
                float(claimed.sum(1).mean()),
                float(np.nan_to_num(probability).max()),
                tuple(ELEMENTS[i] for i in often if claimed[:, i].any()),
                unlike=float((unlike >= UNLIKE_THRESHOLD).mean()),
                not_finite=int((~np.isfinite(probability)).sum()),
            )
        )
    return rows


def _low_loss(count: int, rng: np.random.Generator) -> Inputs:
    """Zero-loss peak and plasmons with plural scattering and their tail, no edge, 0.1-1 eV steps.

    Drude single scattering and Poisson statistics: Egerton, Electron Energy-Loss Spectroscopy in
    the Electron Microscope, 3rd ed., eq. 3.43 and 4.10.
    """
    scale = 10 ** rng.uniform(-1.0, 0.0, count)
    before = 40
    energy = scale[:, None] * np.arange(2 * CHANNELS)
    plasmon, width = rng.uniform(8.0, 30.0, (count, 1)), rng.uniform(2.0, 12.0, (count, 1))
    single = energy * width * plasmon**2 / ((energy**2 - plasmon**2) ** 2 + (energy * width) ** 2)
    single /= single.sum(1, keepdims=True)
    thickness = rng.uniform(0.1, 1.5, (count, 1))
    inelastic = np.fft.irfft(np.exp(thickness * (np.fft.rfft(single) - 1)))
    spread = rng.uniform(0.3, 1.5, (count, 1)) / 2.355
    peak = np.exp(-0.5 * ((energy - before * scale[:, None]) / spread) ** 2)
    peak /= peak.sum(1, keepdims=True)
    whole = np.fft.irfft(np.fft.rfft(peak) * np.fft.rfft(inelastic))[:, :CHANNELS]
    dose = 10 ** rng.uniform(5.0, 9.0, (count, 1))
    counts = rng.poisson(dose * whole.clip(min=0.0)).astype(np.float64)
    return Inputs(counts, -before * scale, scale)


def _reversed(counts: Floats) -> Floats:
    """Mirror the channels up to the last that is measured."""
    mirrored = counts.copy()
    for row in mirrored:
        measured = np.flatnonzero(np.isfinite(row))
        if len(measured):
            row[: measured[-1] + 1] = row[measured[-1] :: -1].copy()
    return mirrored
