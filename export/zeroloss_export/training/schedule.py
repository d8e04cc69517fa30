"""How the learning rate falls."""

from __future__ import annotations

import math
from typing import Final, Literal

Fall = Literal["cosine", "plateau"]

LOWEST: Final = 0.01
"""Share of the learning rate at which a cosine ends and halving stops."""
PATIENCE: Final = 3
"""Checks without a lower error after which the rate is halved."""


class Schedule:
    """Factor of the learning rate: a linear warm-up, then a cosine or halving on plateaus.

    The cosine needs to know how much is left; halving follows the errors told to ``checked``.
    """

    def __init__(self, fall: Fall, warmup_spectra: int) -> None:
        self.fall = fall
        self.warmup_spectra = warmup_spectra
        self.factor = 1.0
        self.best = math.inf
        self.waited = 0

    def at(self, seen: int, progress: float) -> float:
        """Factor after ``seen`` spectra of this run, ``progress`` 0 to 1 of its budget."""
        warm = min(1.0, (seen + 1) / self.warmup_spectra)
        if self.fall == "plateau":
            return warm * self.factor
        return warm * (LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * progress)))

    def checked(self, error: float) -> None:
        """Halve the rate if the error has not fallen for `PATIENCE` checks."""
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited >= PATIENCE:
            self.factor, self.waited = max(LOWEST, self.factor / 2), 0

    def state(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"factor": self.factor, "best": self.best, "waited": float(self.waited)}

    def restore(self, state: dict[str, float]) -> None:
        """From a checkpoint."""
        self.factor, self.best = state["factor"], state["best"]
        self.waited = int(state["waited"])
