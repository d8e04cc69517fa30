from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeroloss_export.training.zlp.noise import NoiseModel
from zeroloss_export.training.zlp.points import (
    FIRST_WIDTHS,
    FLATTENING,
    Cluster,
    TrainingSet,
    bin_trained,
    make_training_set,
)
from zeroloss_export.training.zlp.regions import Regions, smoothed
from zeroloss_export.training.zlp.scaling import Scaling

WIDTH = 0.4
ENERGY = 0.05 * np.arange(-40, 400)
NOISE = NoiseModel(1.5, 10.0, 0.7, 0.05)
REGIONS = Regions((1.5, 2.5), 8.0, 3.0)
SCALING = Scaling(WIDTH, (FIRST_WIDTHS * WIDTH, float(ENERGY[-1])), (14.0, 14.0), -2.0, -4.0, 1)
REPLICAS = 400


def _cluster(pixels: int = 20) -> Cluster:
    """A tail of E^-3 with a loss that sets in at 3 eV."""
    mean = 3e5 * (1 + (ENERGY / 0.2) ** 2) ** -1.5 + 400.0 * np.clip(ENERGY - 3.0, 0.0, None)
    rng = np.random.default_rng(1)
    some = mean + np.sqrt(NOISE.variance(mean)) * rng.standard_normal((pixels, len(mean)))
    return Cluster(mean, some, 14.0, pixels)


def _set(cluster: Cluster, regions: Regions = REGIONS, replicas: int = REPLICAS) -> TrainingSet:
    rng = np.random.default_rng(2)
    return make_training_set(ENERGY, [cluster], [regions], NOISE, SCALING, replicas, rng)


def test_bins_are_means_of_the_trained_region_with_their_errors() -> None:
    cluster = _cluster()
    binned = bin_trained(ENERGY, cluster, REGIONS, NOISE, WIDTH)
    assert binned.energy_ev.min() >= FIRST_WIDTHS * WIDTH
    assert binned.energy_ev.max() <= REGIONS.ruling_ev[1]
    np.testing.assert_allclose(
        binned.counts, np.interp(binned.energy_ev, ENERGY, cluster.counts), rtol=0.01
    )
    counted = np.sqrt(NOISE.variance(binned.counts) / cluster.pixels)
    assert (binned.sigma >= 0.005 * binned.counts).all(), "no better than the alignment"
    assert (binned.sigma <= counted + 0.006 * binned.counts).all()
    # However many pixels there are, the flank is not known any better.
    many = bin_trained(ENERGY, replace(cluster, pixels=10**8), REGIONS, NOISE, WIDTH)
    np.testing.assert_allclose(many.sigma, 0.005 * many.counts, rtol=0.01)


def test_replicas_scatter_as_the_noise_says() -> None:
    cluster = _cluster()
    binned = bin_trained(ENERGY, cluster, REGIONS, NOISE, WIDTH)
    bins = len(binned.energy_ev)
    target = _set(cluster).points.target.numpy()[:, :bins]
    expected = np.sqrt(binned.sigma**2 + (binned.modes**2).sum(0))
    np.testing.assert_allclose(target.std(0), expected, rtol=0.2)
    error = 5.0 * expected / np.sqrt(REPLICAS)
    assert (np.abs(target.mean(0) - binned.counts) < error).all()


def test_each_replica_has_its_boundary_and_a_fifth_is_held_out() -> None:
    data = _set(_cluster())
    bins = int((data.measured.numpy() > 0).sum())
    binned = bin_trained(ENERGY, _cluster(), REGIONS, NOISE, WIDTH).energy_ev
    assert bins == len(binned)
    training = data.points.training.numpy()[:, :bins]
    held = data.points.validation.numpy()[:, :bins]
    assert ((training + held) <= 1.0).all()
    assert held.sum() / (training + held).sum() == pytest.approx(0.2, abs=0.02)
    assert not data.points.validation.numpy()[:, bins:].any(), "pseudo-data train only"
    seen = data.seen.numpy()[:, :bins] > 0
    ends = np.array([binned[row].max() for row in seen])
    assert ends.min() >= REGIONS.ruling_ev[0] - 0.1
    assert ends.max() <= REGIONS.ruling_ev[1]
    assert ends.std() == pytest.approx(1.0 / np.sqrt(12), rel=0.15), "even between the two"


def test_pseudo_data_never_lie_above_the_spectrum() -> None:
    cluster = _cluster()
    data = _set(cluster)
    pseudo = data.measured.numpy() == 0
    levels = data.points.target.numpy()[:, pseudo]
    far = np.geomspace(REGIONS.gone_ev, ENERGY[-1], levels.shape[1])
    most = np.interp(far, ENERGY, smoothed(cluster.counts))
    assert (levels <= most * (1 + 1e-5)).all()
    assert (levels > 0).all()
    # The exponent is drawn: what replicas are pulled to differs.
    assert np.log(levels[:, 0]).std() > 0.3


def test_pseudo_data_follow_the_tail_where_no_specimen_limits_them() -> None:
    """Mean and deviation of the drawn exponents show in the levels where the zero loss is gone."""
    cluster = _cluster()
    high = replace(cluster, counts=cluster.counts + 1e6 * (ENERGY > 7.0))
    quiet = replace(NOISE, gain=1e-6, readout=1e-3)
    rng = np.random.default_rng(2)
    data = make_training_set(ENERGY, [high], [REGIONS], quiet, SCALING, REPLICAS, rng)
    first = int(np.flatnonzero(data.measured.numpy() == 0)[0])
    inner = REGIONS.ruling_ev[0]
    at = float(np.interp(inner, ENERGY, cluster.counts))
    logs = np.log(data.points.target.numpy()[:, first] / at)
    exponent = -logs / np.log(REGIONS.gone_ev / inner)
    assert exponent.mean() == pytest.approx(REGIONS.exponent - FLATTENING[0], abs=0.25)
    assert exponent.std() == pytest.approx(FLATTENING[1], rel=0.2)


def test_nothing_is_asked_beyond_the_range() -> None:
    data = _set(_cluster(), replace(REGIONS, gone_ev=float(ENERGY[-1])), 5)
    assert (data.measured.numpy() > 0).all()


def test_holes_leave_everything_finite() -> None:
    cluster = _cluster()
    counts, some = cluster.counts.copy(), cluster.some.copy()
    for energy in (0.5, 1.45, 8.0, 12.0):
        index = int(np.abs(ENERGY - energy).argmin())
        counts[index : index + 2] = np.nan
        some[:, index : index + 2] = np.nan
    points = _set(replace(cluster, counts=counts, some=some), replicas=5).points
    for tensor in (points.inputs, points.base, points.target, points.sigma):
        assert np.isfinite(tensor.numpy()).all()
    assert (points.sigma.numpy() > 0).all()


def test_too_few_channels_are_told() -> None:
    with pytest.raises(ValueError, match=r"\d channels between 0.16 and 0.40 eV to train on"):
        bin_trained(ENERGY, _cluster(), Regions((0.4, 0.4), 8.0, 3.0), NOISE, WIDTH)
