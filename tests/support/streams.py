"""Runs and spectra for tests whose right maps can be worked out by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from support.packages import make_spectra
from zeroloss.wire import EnergyRange, RunEnd, RunStart, ScanPlan, SpectraBlock

CHANNELS = 900
T0_NS = 1_700_000_000_000_000_000
ELEMENTS = ("C", "N", "O", "Fe")


def make_start(plan: ScanPlan, *, dtype: str = "uint32", **changes: Any) -> RunStart:
    """A run start with one core-loss range 100-999 eV of 1 eV channels and a fresh uid."""
    return RunStart(
        run=changes.pop("run", os.urandom(16)),
        t_ns=T0_NS,
        scan=plan,
        ranges=changes.pop(
            "ranges",
            (
                EnergyRange(
                    name="core_loss", offset_ev=100.0, scale_ev=1.0, size=CHANNELS, dtype=dtype
                ),
            ),
        ),
        **changes,
    )


def present_at(positions: Sequence[int]) -> list[list[str]]:
    """The elements of the spectra at these positions: a pattern that repeats every 7 spectra."""
    return [
        [element for bit, element in enumerate(ELEMENTS) if (position % 7) >> bit & 1]
        for position in positions
    ]


def counts_at(
    positions: Sequence[int], *, seed: int = 0, dtype: str = "uint32"
) -> npt.NDArray[Any]:
    """Noisy spectra [n, 900]; the same position always gives the same counts."""
    clean = make_spectra(present_at(positions), channels=CHANNELS, counts=400.0)
    return np.stack(
        [
            np.random.default_rng([seed, position]).poisson(spectrum)
            for position, spectrum in zip(positions, clean, strict=True)
        ]
    ).astype(dtype)


def make_blocks(
    start: RunStart, spectra: int, *, block: int = 16, first: int = 0, seed: int = 0
) -> Iterator[SpectraBlock]:
    """Blocks of the spectra `first` ... `spectra - 1`, numbered from 1."""
    for seq, begin in enumerate(range(first, spectra, block), 1):
        positions = range(begin, min(spectra, begin + block))
        yield SpectraBlock(
            run=start.run,
            seq=seq,
            t_ns=T0_NS + seq,
            schema=start.schema,
            first=begin,
            counts={"core_loss": counts_at(positions, seed=seed)},
        )


def make_end(start: RunStart, spectra: int, *, seq: int = 10_000) -> RunEnd:
    """The end of a run of so many spectra."""
    return RunEnd(run=start.run, seq=seq, t_ns=T0_NS + seq, spectra=spectra)
