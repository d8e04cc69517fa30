"""Trains the replicas of a zero-loss peak and keeps those that converged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.networks.replicas import Replicas

from .levenberg import fit
from .noise import Floats, NoiseModel
from .points import FIRST_WIDTHS, Cluster, TrainingSet, make_training_set
from .regions import Regions, bridged
from .scaling import Scaling

DEFAULT_REPLICAS: Final = 100
_CUT: Final = 2.0
"""Times the median cost per point: replicas above it did not converge and are left out."""
_LEAST: Final = 1e-7
"""Of the maximum: where counts are no more than that the base line is drawn through it."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Replicas of one zero-loss peak.

    ``weights`` [R, parameters] of those kept; ``cost`` [R] of every trained replica per training
    point, 1 to 2 for a good one: its own noise and that of the measurement; ``kept`` [R] which of
    them are kept; ``chi2`` per point of the median curve against the measured means, about 1.
    """

    network: Replicas
    scaling: Scaling
    weights: torch.Tensor
    cost: Floats
    kept: NDArray[np.bool_]
    chi2: float

    def curves(self, energy_ev: Floats, log_counts: float, condition: float = 0.0) -> Floats:
        """ln of the zero-loss counts per channel [kept, channels] at energies above the maximum.

        Below the trained energies the value at the first of them is held.
        """
        logs = np.full(len(energy_ev), log_counts)
        settings = np.full(len(energy_ev), condition)
        inputs = torch.from_numpy(self.scaling.inputs(energy_ev, logs, settings)).float()
        values = self.network.values(self.weights, inputs).double().numpy()
        out: Floats = values + self.scaling.base(energy_ev, logs)
        return out


def train_ensemble(
    energy_ev: Floats,
    clusters: Sequence[Cluster],
    regions: Sequence[Regions],
    noise: NoiseModel,
    width_ev: float,
    *,
    replicas: int = DEFAULT_REPLICAS,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Ensemble:
    """Train ``replicas`` networks on the clusters [on channels at ``energy_ev``], all at once.

    A replica whose cost per point exceeds twice the median did not converge; it is counted and
    left out. Raises ValueError where no replica is left or there is too little to train on.
    """
    if replicas < 2:
        raise ValueError(f"{replicas} replicas: expected at least 2, better 100")
    scaling = _scaling(energy_ev, clusters, regions, width_ev)
    rng = np.random.default_rng(seed)
    data = make_training_set(energy_ev, clusters, regions, noise, scaling, replicas, rng)
    network = Replicas(scaling.size)
    start = network.draw(replicas, torch.Generator().manual_seed(seed))
    fitted = fit(network, start, data.points, progress=progress)
    cost = fitted.cost.double().numpy()
    finite = np.isfinite(cost)
    if not finite.any():
        raise ValueError("no replica converged: the spectra may hold no zero-loss peak")
    kept = finite & (cost <= _CUT * np.median(cost[finite]))
    weights = fitted.weights[torch.from_numpy(kept)]
    return Ensemble(network, scaling, weights, cost, kept, _chi2(network, weights, data))


def _scaling(
    energy_ev: Floats, clusters: Sequence[Cluster], regions: Sequence[Regions], width_ev: float
) -> Scaling:
    """Coordinates over the trained energies; the base line is a fit through flank and tail."""
    logs = [item.log_counts for item in clusters]
    settings = [item.condition for item in clusters]
    varied = (min(settings), max(settings)) if len(set(settings)) > 1 else None
    ends = (FIRST_WIDTHS * width_ev, float(energy_ev[-1]))
    # Without thickness clusters of its own a setting does not make the intensity an input.
    thicknesses = max(settings.count(value) for value in settings)
    plain = Scaling(width_ev, ends, (min(logs), max(logs)), 0.0, 0.0, thicknesses, varied)
    places, levels = [], []
    for cluster, item in zip(clusters, regions, strict=True):
        inner = item.ruling_ev[0]
        at = np.array([ends[0], inner])
        known = bridged(cluster.counts)
        counts = np.interp(at, energy_ev, np.maximum(known, _LEAST * known.max()))
        tail = np.log(counts[1]) + (1.0 - item.exponent) * np.log(ends[1] / inner)
        places.append(plain.place(np.append(at, ends[1])))
        levels.append(np.append(np.log(counts), tail) - cluster.log_counts)
    slope, level = np.polyfit(np.concatenate(places), np.concatenate(levels), 1)
    return replace(plain, level=float(level), slope=float(slope))


def _chi2(network: Replicas, weights: torch.Tensor, data: TrainingSet) -> float:
    points = data.points
    model = (network.values(weights, points.inputs) + points.base).exp().median(0).values
    squares = ((model - data.measured) / points.sigma[0]) ** 2
    # Where every replica is trained, the zero loss rules without doubt.
    ruled = data.seen.all(0)
    return float(squares[ruled].mean())
