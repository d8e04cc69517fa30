"""Temperature and bias that make probabilities mean what they say, and the margin of a check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from zeroloss_export.measured_range import measured_ends
from zeroloss_export.networks.ensemble import Ensemble, Joining, Margin
from zeroloss_export.networks.grid import grid_of
from zeroloss_export.simulate.spectra import LabelledSpectra

_TEMPERATURES: Final = (0.2, 5.0)
_BIASES: Final = (-5.0, 5.0)
_AT_ONCE: Final = 128
_SMALLEST: Final = 1e-7


@torch.no_grad()
def fit_margin(
    check: nn.Module,
    short: Iterable[LabelledSpectra],
    long: Iterable[LabelledSpectra],
    share: float,
) -> Margin:
    """The logits of the check that so large a share of good spectra with an edge lies above.

    A straight line over the range, through those of batches of ``short`` and of ``long`` ranges at
    the mean range of each. Thousands are needed: such a share of them is few.
    """
    at, logit = zip(*(_quantile(check, batches, share) for batches in (short, long)), strict=True)
    per_kev = 1000 * (logit[1] - logit[0]) / (at[1] - at[0])
    return Margin(round(logit[0] - per_kev * at[0] / 1000, 4), round(per_kev, 4))


def _quantile(
    check: nn.Module, batches: Iterable[LabelledSpectra], share: float
) -> tuple[float, float]:
    """Mean range in eV of all spectra with an edge, and the logit that the share lies above."""
    grid = grid_of(check)()
    logits, ranges = [], []
    for spectra in batches:
        shown = spectra.present.sum(1) > 0
        logit = check(grid(spectra.counts, spectra.offset_ev, spectra.scale_ev))[:, 2]
        first, last = measured_ends(spectra.counts)
        logits.append(logit[shown])
        ranges.append(((last - first) * spectra.scale_ev)[shown])
    return float(torch.cat(ranges).mean()), float(torch.quantile(torch.cat(logits), 1 - share))


@torch.no_grad()
def fit_joining(ensemble: Ensemble, spectra: LabelledSpectra) -> Joining:
    """The ensemble's joining with the temperature (0.2 to 5) and bias (within 5) that give the

    smallest cross-entropy over all known labels (J. Platt, Probabilistic Outputs for Support
    Vector Machines, 1999). ``ensemble`` keeps its own.
    """
    joined, alike = [], []
    for at in range(0, len(spectra.counts), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        inputs = (spectra.counts[part], spectra.offset_ev[part], spectra.scale_ev[part])
        logits, unlike, _ = ensemble.opinions(*inputs)
        alike.append(1 - unlike)
        joined.append(ensemble.joining.joined(logits))
    logit, passed = torch.cat(joined).double(), torch.cat(alike).double()
    known = spectra.known > 0
    truth = spectra.present > 0

    def with_(values: NDArray[np.float64]) -> Joining:
        return replace(
            ensemble.joining, temperature=float(np.exp(values[0])), bias=float(values[1])
        )

    def loss(values: NDArray[np.float64]) -> float:
        probability = passed * with_(values).probability(logit)
        probability = probability.clamp(_SMALLEST, 1 - _SMALLEST)
        right = torch.where(truth, probability, 1 - probability)
        return float(-(right.log() * known).sum() / known.sum())

    low, high = np.log(_TEMPERATURES)
    bounds = ((low, high), _BIASES)
    found = minimize(loss, np.zeros(2), method="Nelder-Mead", bounds=bounds)
    return with_(found.x)


def uncalibrated(
    probability: NDArray[np.floating],
    unlike: NDArray[np.floating],
    temperature: float,
    bias: float,
) -> NDArray[np.float64]:
    """What probabilities [spectrum, label] would be at a temperature of one without a bias.

    ``unlike`` [spectrum, 1] is what they were multiplied with one minus of.
    """
    alike = 1 - unlike.astype(np.float64)
    share = np.divide(
        probability.astype(np.float64), alike, out=np.zeros(probability.shape), where=alike > 0
    ).clip(_SMALLEST, 1 - _SMALLEST)
    logit = temperature * (np.log(share / (1 - share)) - bias)
    return np.asarray(alike / (1 + np.exp(-logit)))
