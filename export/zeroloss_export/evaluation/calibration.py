"""One temperature that makes probabilities mean what they say, and what it brought."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.simulate.spectra import LabelledSpectra

_RANGE: Final = (0.2, 5.0)
_AT_ONCE: Final = 128
_SMALLEST: Final = 1e-7


@torch.no_grad()
def fit_temperature(ensemble: Ensemble, spectra: LabelledSpectra) -> float:
    """The temperature, 0.2 to 5, with the smallest cross-entropy over all known labels.

    C. Guo et al., On Calibration of Modern Neural Networks (2017). ``ensemble`` keeps its own.
    """
    logits, alike = [], []
    for at in range(0, len(spectra.counts), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        inputs = (spectra.counts[part], spectra.offset_ev[part], spectra.scale_ev[part])
        every = ensemble.logits(*inputs)
        alike.append(1 - ensemble.unlike(every, *inputs))
        logits.append(ensemble.of_elements(every).mean(0))
    logit, passed = torch.cat(logits).double(), torch.cat(alike).double()
    known = spectra.known[:, : logit.shape[1]] > 0
    truth = spectra.present[:, : logit.shape[1]].double()

    def loss(log_temperature: float) -> float:
        probability = passed * torch.sigmoid(logit / np.exp(log_temperature))
        probability = probability.clamp(_SMALLEST, 1 - _SMALLEST)
        right = torch.where(truth > 0, probability, 1 - probability)
        return float(-(right.log() * known).sum() / known.sum())

    low, high = np.log(_RANGE)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def uncalibrated(
    probability: NDArray[np.floating], unlike: NDArray[np.floating], temperature: float
) -> NDArray[np.float64]:
    """What probabilities [spectrum, label] would be at a temperature of one.

    ``unlike`` [spectrum, 1] is what they were multiplied with one minus of.
    """
    alike = 1 - unlike.astype(np.float64)
    share = np.divide(
        probability.astype(np.float64), alike, out=np.zeros(probability.shape), where=alike > 0
    ).clip(_SMALLEST, 1 - _SMALLEST)
    logit = temperature * np.log(share / (1 - share))
    return np.asarray(alike / (1 + np.exp(-logit)))
