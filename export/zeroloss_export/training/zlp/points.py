"""What replicas are trained on: cluster means with their errors, pseudo-data beyond them."""

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
_SMOOTHED: Final = 15
"""Channels over which the spectrum is smoothed that pseudo-data do not exceed."""
_PSEUDO_ERROR: Final = 0.3
"""Error of a pseudo-datum beside its replica's own level: this part of what the levels of all
replicas scatter by there, at most this part of the level."""
EXPONENT_ERROR: Final = 0.25
"""Standard deviation over replicas of the exponent of the tail where it is last seen."""
FALL: Final = (0.7, 0.5)
"""Mean and standard deviation over replicas of how much the exponent falls beyond, each time the
energy grows e-fold. Zero-loss tails flatten: these three numbers were set on simulated peaks, so
that the 68 % band holds the truth in 68 % of the channels all over the mixed region."""
_FLATTEST: Final = 0.7
"""Exponent at which a tail that falls stops to flatten."""
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
    between the ruling and the mixed region, and beyond follows pseudo-data: the tail continued as
    it has drawn for all clusters (`continued_tails`), never above the measured spectrum. A fifth of
    its measured points is held out for early stopping.
    """
    tails = rng.standard_normal((2, replicas, 1))
    parts = [
        _of_cluster(energy_ev, cluster, region, noise, scaling, tails, rng)
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
    tails: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, ...]:
    replicas = len(tails[0])
    binned = bin_trained(energy_ev, cluster, regions, noise, scaling.width_ev)
    bins = len(binned.energy_ev)
    drawn = binned.counts + rng.standard_normal((replicas, bins)) * binned.sigma
    drawn += rng.standard_normal((replicas, len(binned.modes))) @ binned.modes
    boundary = rng.uniform(*regions.ruling_ev, replicas)[:, None]
    known = (binned.energy_ev <= boundary).astype(float)
    held = (rng.random((replicas, bins)) < _HELD_OUT) * known
    far, levels, errors = _pseudo_data(energy_ev, cluster, regions, noise, tails)
    asked = (far > boundary).astype(float)
    energy = np.concatenate([binned.energy_ev, far])
    return (
        energy,
        np.full(len(energy), cluster.log_counts),
        np.full(len(energy), cluster.condition),
        np.concatenate([binned.counts, np.full(len(far), np.nan)]),
        np.concatenate([drawn, levels], 1),
        np.concatenate([np.broadcast_to(binned.sigma, drawn.shape), errors * levels], 1),
        np.concatenate([known - held, asked], 1),
        np.concatenate([held, 0.0 * asked], 1),
    )


def _pseudo_data(
    energy_ev: Floats, cluster: Cluster, regions: Regions, noise: NoiseModel, tails: Floats
) -> tuple[Floats, Floats, Floats]:
    """Energies [n] from the ruling region on, each replica's level there [R, n], relative errors.

    None where the zero loss rules to the end of the range.
    """
    inner, last = regions.ruling_ev[0], float(energy_ev[-1])
    if inner >= last:
        return np.zeros(0), np.zeros((tails.shape[1], 0)), np.zeros(0)
    far = np.geomspace(inner, last, _PSEUDO_POINTS)
    counts = bridged(cluster.counts)
    below = np.flatnonzero((energy_ev > 0) & (energy_ev <= 1.02 * inner) & (counts > 0))
    # At a coarse dispersion no channel may lie so near to the boundary.
    near = below[energy_ev[below] > min(0.8 * inner, energy_ev[below[-1]] - 1e-9)]
    level = np.mean(np.log(counts[near]) + regions.exponent * np.log(energy_ev[near] / inner))
    lever = np.log(far / inner)
    levels = np.exp(level + continued_tails(lever, regions.exponent, tails))
    smooth = smoothed(cluster.counts, _SMOOTHED)
    most = np.interp(far, energy_ev, smooth)
    # What is far below the noise of a channel cannot be told from nothing.
    least = _NOTHING * np.interp(far, energy_ev, np.sqrt(noise.variance(counts)))
    scatter = np.hypot(EXPONENT_ERROR * lever, 0.5 * FALL[1] * lever**2)
    # Where the spectrum drowns in noise nothing is known of its tail any better.
    variance = noise.of_mean(smooth, np.full(len(smooth), _SMOOTHED)) / cluster.pixels
    drowned = np.interp(far, energy_ev, np.sqrt(variance) / np.maximum(smooth, 1e-9))
    least_error = np.clip(drowned, _ALIGNED, _PSEUDO_ERROR)
    errors = np.maximum(_PSEUDO_ERROR * np.minimum(scatter, 1.0), least_error)
    return far, np.maximum(np.minimum(levels, most), least), errors


def continued_tails(lever: Floats, exponent: float, drawn: Floats) -> Floats:
    """ln of tails [R, n] beyond the energy E_0 where they are last seen, 0 there.

    With ``lever`` [n] = u = ln(E / E_0), 0 or more, a tail is -r u + a u^2 / 2: a power law whose
    exponent r, about ``exponent``, falls by a while the energy grows e-fold, until it is so flat
    as tails become. ``drawn`` [2, R, 1] are both in standard deviations from their means: what is
    not known of a tail grows with the lever.
    """
    start = exponent + EXPONENT_ERROR * drawn[0]
    fall = FALL[0] + FALL[1] * drawn[1]
    flattest = np.minimum(start, _FLATTEST)
    turn = np.minimum(lever, (start - flattest) / np.maximum(fall, 1e-3))
    tails: Floats = 0.5 * fall * turn**2 - start * turn - flattest * (lever - turn)
    return tails


def _tensor(values: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
