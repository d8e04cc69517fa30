"""What replicas are trained on: cluster means with their errors, pseudo-data in the tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from .levenberg import Points
from .modes import shape_modes
from .noise import Floats, NoiseModel
from .regions import Regions, bridged, smoothed
from .scaling import Scaling

FIRST_WIDTHS: Final = 0.4
"""Where training begins, in zero-loss widths above the maximum: nearer to it a pixel's own counts
are the zero loss, no model is needed."""
_MOST_BINS: Final = 120
_ALIGNED: Final = 0.005
"""Relative error of a mean spectrum however many electrons it holds: a peak of which the maximum is
known to a hundredth of a channel, interpolated linearly, is no better on its flank."""
_PSEUDO_POINTS: Final = 24
_PSEUDO_ERROR: Final = 0.3
"""Relative error of a pseudo-datum beside its replica's own level."""
FLATTENING: Final = (0.6, 0.5)
"""Mean and standard deviation over replicas of how much the exponent of the tail falls beyond the
region where it is seen. Zero-loss tails flatten: the mean and the width were set on simulated
peaks, so that the 68 % band of the mixed region holds the truth in 68 % of the channels."""
_NOTHING: Final = 0.03
"""Of the noise of a channel: pseudo-data are not lower."""
_HELD_OUT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Cluster:
    """The mean spectrum of pixels of about one thickness, aligned on their zero-loss maximum.

    ``counts`` [channels], ``some`` [n, channels] of the pixels scaled to the same zero-loss counts,
    ``log_counts`` ln of these, ``pixels`` how many there are, ``condition`` the instrument setting
    that they were measured with, where it is an input of the networks.
    """

    counts: Floats
    some: Floats
    log_counts: float
    pixels: int
    condition: float = 0.0

    def variance(self, noise: NoiseModel) -> Floats:
        """Variance of ``counts``: that of one pixel falls with their number."""
        return noise.variance(self.counts) / self.pixels


@dataclass(frozen=True, slots=True)
class Binned:
    """The trained region of a cluster: energies, means, errors [bins]; modes [k, bins]."""

    energy_ev: Floats
    counts: Floats
    sigma: Floats
    modes: Floats


def bin_trained(
    energy_ev: Floats, cluster: Cluster, regions: Regions, noise: NoiseModel, width_ev: float
) -> Binned:
    """Means over bins even in the network's coordinate and narrower than the resolution."""
    first = FIRST_WIDTHS * width_ev
    last = regions.ruling_ev[1]
    inside = np.flatnonzero(
        (energy_ev >= first) & (energy_ev <= last) & np.isfinite(cluster.counts)
    )
    if len(inside) < 8:
        raise ValueError(
            f"{len(inside)} channels between {first:.2f} and {last:.2f} eV to train on: expected "
            "at least 8; give the boundaries by hand or measure at a finer dispersion"
        )
    place = np.arcsinh(2.0 * energy_ev[inside] / width_ev)
    edges = np.linspace(place[0], place[-1], _MOST_BINS + 1)
    index = np.clip(np.searchsorted(edges, place, "right") - 1, 0, _MOST_BINS - 1)
    filled, index = np.unique(index, return_inverse=True)
    sizes = np.bincount(index)

    def mean(values: Floats) -> Floats:
        return np.bincount(index, values[inside]) / sizes

    variance = noise.of_mean(mean(cluster.counts), sizes) / cluster.pixels
    modes = shape_modes(place, cluster.some[:, inside], cluster.counts[inside], noise)
    whole = np.zeros(len(energy_ev))
    binned = []
    for mode in modes:
        whole[inside] = mode
        binned.append(mean(whole))
    return Binned(
        mean(energy_ev),
        mean(cluster.counts),
        np.sqrt(variance + (_ALIGNED * mean(cluster.counts)) ** 2),
        np.reshape(binned, (len(modes), len(filled))),
    )


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What R replicas are fitted to at N points, and the measured counts [N] behind it.

    ``seen`` [R, N] is 1 where a replica sees a measured point, for training or held out.
    """

    points: Points
    measured: torch.Tensor
    seen: torch.Tensor


def make_training_set(
    energy_ev: Floats,
    clusters: Sequence[Cluster],
    regions: Sequence[Regions],
    noise: NoiseModel,
    scaling: Scaling,
    replicas: int,
    rng: np.random.Generator,
) -> TrainingSet:
    """The points of all clusters for so many replicas.

    Replica k sees I + r sigma + sum_j r_j mode_j (Roest et al. 2021), trains up to its own boundary
    between the ruling and the mixed region, and is pulled down in the region where the zero loss
    is gone by pseudo-data: the tail continued with an exponent that it has drawn, never above the
    measured spectrum. A fifth of its measured points is held out for early stopping.
    """
    parts = [
        _of_cluster(energy_ev, cluster, region, noise, scaling, replicas, rng)
        for cluster, region in zip(clusters, regions, strict=True)
    ]
    energy, log_counts, condition, measured, target, sigma, training, held = (
        np.concatenate(items, -1) for items in zip(*parts, strict=True)
    )
    points = Points(
        inputs=_tensor(scaling.inputs(energy, log_counts, condition)),
        base=_tensor(scaling.base(energy, log_counts)),
        target=_tensor(target),
        sigma=_tensor(sigma),
        training=_tensor(training),
        validation=_tensor(held),
    )
    seen = (training + held) * np.isfinite(measured)
    return TrainingSet(points, _tensor(np.nan_to_num(measured)), _tensor(seen))


def _of_cluster(
    energy_ev: Floats,
    cluster: Cluster,
    regions: Regions,
    noise: NoiseModel,
    scaling: Scaling,
    replicas: int,
    rng: np.random.Generator,
) -> tuple[Floats, ...]:
    binned = bin_trained(energy_ev, cluster, regions, noise, scaling.width_ev)
    bins = len(binned.energy_ev)
    drawn = binned.counts + rng.standard_normal((replicas, bins)) * binned.sigma
    drawn += rng.standard_normal((replicas, len(binned.modes))) @ binned.modes
    boundary = rng.uniform(*regions.ruling_ev, replicas)[:, None]
    known = (binned.energy_ev <= boundary).astype(float)
    held = (rng.random((replicas, bins)) < _HELD_OUT) * known
    far, levels = _pseudo_data(energy_ev, cluster, regions, noise, replicas, rng)
    ones = np.ones((replicas, len(far)))
    energy = np.concatenate([binned.energy_ev, far])
    return (
        energy,
        np.full(len(energy), cluster.log_counts),
        np.full(len(energy), cluster.condition),
        np.concatenate([binned.counts, np.full(len(far), np.nan)]),
        np.concatenate([drawn, levels], 1),
        np.concatenate([np.broadcast_to(binned.sigma, drawn.shape), _PSEUDO_ERROR * levels], 1),
        np.concatenate([known - held, ones], 1),
        np.concatenate([held, 0.0 * ones], 1),
    )


def _pseudo_data(
    energy_ev: Floats,
    cluster: Cluster,
    regions: Regions,
    noise: NoiseModel,
    replicas: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Energies [n] where the zero loss is gone, and the level each replica is pulled to [R, n].

    None where the range ends before: nothing is asked of a replica there.
    """
    inner, last = regions.ruling_ev[0], float(energy_ev[-1])
    if regions.gone_ev >= last:
        return np.zeros(0), np.zeros((replicas, 0))
    far = np.geomspace(regions.gone_ev, last, _PSEUDO_POINTS)
    counts = bridged(cluster.counts)
    below = np.flatnonzero((energy_ev > 0) & (energy_ev <= 1.02 * inner) & (counts > 0))
    # At a coarse dispersion no channel may lie so near to the boundary.
    near = below[energy_ev[below] > min(0.8 * inner, energy_ev[below[-1]] - 1e-9)]
    level = np.mean(np.log(counts[near]) + regions.exponent * np.log(energy_ev[near] / inner))
    flattening = rng.normal(*FLATTENING, replicas)[:, None]
    levels = np.exp(level + (flattening - regions.exponent) * np.log(far / inner))
    most = np.interp(far, energy_ev, smoothed(cluster.counts))
    # What is far below the noise of a channel cannot be told from nothing.
    least = _NOTHING * np.interp(far, energy_ev, np.sqrt(noise.variance(counts)))
    return far, np.maximum(np.minimum(levels, most), least)


def _tensor(values: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
