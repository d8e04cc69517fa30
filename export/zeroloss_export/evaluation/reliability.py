"""Is a probability of 0.8 right eight times in ten? Reliability and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Reliability:
    """Decisions in bins of rising probability that hold (almost) equally many of them.

    ``claimed`` is the mean probability of a bin, ``found`` the share of its labels that are true,
    ``decisions`` how many it holds; each [bin].
    """

    claimed: NDArray[np.float64]
    found: NDArray[np.float64]
    decisions: NDArray[np.int64]

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean |claimed - found|, weighted by the decisions.

        With bins of equal mass as in Nixon et al., Measuring Calibration in Deep Learning (2019).
        """
        gap = np.abs(self.claimed - self.found)
        return float((gap * self.decisions).sum() / self.decisions.sum())

    @property
    def largest_error(self) -> float:
        """Largest |claimed - found| of a bin."""
        return float(np.abs(self.claimed - self.found).max())


def reliability(
    probability: NDArray[np.floating],
    truth: NDArray[np.bool_],
    bins: int = 20,
    at_least: float = 0.0,
) -> Reliability:
    """Sort decisions [decision] of probability ``at_least`` into at most ``bins`` bins.

    The decisions are chosen by the probability alone; choosing by the truth would bias the result.
    Raises ValueError when there is no such decision, or for probabilities that are not finite.
    """
    if probability.shape != truth.shape or probability.ndim != 1:
        raise ValueError(
            f"expected two equal shapes [decision], got {probability.shape} and {truth.shape}"
        )
    if not np.isfinite(probability).all():
        raise ValueError("expected finite probabilities; some are not")
    chosen = probability >= at_least
    if not chosen.any():
        raise ValueError(f"expected a decision with a probability of {at_least:g} or more")
    order = np.argsort(probability[chosen], kind="stable")
    bins = min(bins, len(order))
    claimed = np.array_split(probability[chosen][order].astype(np.float64), bins)
    found = np.array_split(truth[chosen][order], bins)
    return Reliability(
        np.array([part.mean() for part in claimed]),
        np.array([part.mean() for part in found]),
        np.array([len(part) for part in found]),
    )
