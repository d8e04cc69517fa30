"""The coordinates in which networks see energy and intensity, the line they depart from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from .noise import Floats

_LEAST_HALF_RANGE: Final = 0.25
"""Of ln N: clusters nearer than this do not stretch the coordinate."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Scaled inputs of about -1 ... 1.

    Energy goes in as arcsinh(2 E / width), linear in the core of the peak and logarithmic in its
    tail, where a power law is then a straight line. ``slope`` and ``level`` are that line:
    ln(I / N) = level + slope x. ``log_counts`` (lo, hi) is the range of ln N; with one cluster the
    intensity is no input, the peak just scales. ``condition`` (lo, hi) is the range of an
    instrument setting that is a further input, or None.
    """

    width_ev: float
    energy_ev: tuple[float, float]
    log_counts: tuple[float, float]
    level: float
    slope: float
    clusters: int
    condition: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        """Number of inputs."""
        return 1 + (self.clusters > 1) + (self.condition is not None)

    def place(self, energy_ev: Floats) -> Floats:
        """Energy in the network's coordinate; held at the ends of the trained range."""
        ends = np.arcsinh(2.0 * np.asarray(self.energy_ev) / self.width_ev)
        x = np.arcsinh(2.0 * energy_ev / self.width_ev)
        scaled: Floats = 2.0 * (x - ends[0]) / (ends[1] - ends[0]) - 1.0
        return np.clip(scaled, -1.0, 1.0)

    def inputs(self, energy_ev: Floats, log_counts: Floats, condition: Floats) -> Floats:
        """Inputs [n, size] of points at energies [n] in spectra of these ln N and settings [n]."""
        columns = [self.place(energy_ev)]
        if self.clusters > 1:
            low, high = self.log_counts
            half = max(0.5 * (high - low), _LEAST_HALF_RANGE)
            columns.append((log_counts - 0.5 * (low + high)) / half)
        if self.condition is not None:
            low, high = self.condition
            columns.append((2.0 * condition - low - high) / (high - low))
        return np.stack(columns, -1)

    def base(self, energy_ev: Floats, log_counts: Floats) -> Floats:
        """ln of the counts [n] that the networks' outputs are added to."""
        return log_counts + self.level + self.slope * self.place(energy_ev)
