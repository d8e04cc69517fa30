from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeroloss_export.training.zlp.noise import NoiseModel
from zeroloss_export.training.zlp.points import (
    EXPONENT_ERROR,
    FALL,
    FIRST_WIDTHS,
    Cluster,
    TrainingSet,
    bin_trained,
    continued_tails,
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
    far = np.geomspace(REGIONS.ruling_ev[0], ENERGY[-1], levels.shape[1])
    most = np.interp(far, ENERGY, smoothed(cluster.counts))
    assert (levels <= most * (1 + 1e-5)).all()
    assert (levels > 0).all()
    # The tail is drawn: what replicas follow differs, the more the farther.
    beyond = np.flatnonzero(far > REGIONS.gone_ev)[0]
    assert np.log(levels[:, beyond]).std() > 0.3 > np.log(levels[:, 1]).std()


def test_pseudo_data_begin_at_the_boundary_of_each_replica() -> None:
    data = _set(_cluster())
    pseudo = data.measured.numpy() == 0
    far = np.geomspace(REGIONS.ruling_ev[0], ENERGY[-1], int(pseudo.sum()))
    asked = data.points.training.numpy()[:, pseudo] > 0
    binned = bin_trained(ENERGY, _cluster(), REGIONS, NOISE, WIDTH).energy_ev
    ends = np.array([binned[row].max() for row in data.seen.numpy()[:, ~pseudo] > 0])
    assert (far[None, :] > ends[:, None])[asked].all(), "none below what is measured"
    assert asked[:, far > REGIONS.ruling_ev[1]].all()
    # Near the boundary what is drawn is known well, far out no better than its own level.
    relative = (data.points.sigma / data.points.target).numpy()[:, pseudo]
    assert (np.diff(relative[0]) > -1e-6).all()
    assert relative.min() == pytest.approx(0.005, rel=1e-3)
    assert relative.max() == pytest.approx(0.3, rel=1e-3)


def test_tails_flatten_and_are_known_the_less_the_farther() -> None:
    """The exponent scatters where it is last seen and falls beyond, by as much as it has drawn."""
    lever = np.linspace(0.0, 1.0, 21)
    drawn = np.random.default_rng(2).standard_normal((2, 5000, 1))
    tails = continued_tails(lever, 4.0, drawn)
    assert not tails[:, 0].any()
    exponent = -np.diff(tails, axis=1) / np.diff(lever)
    assert exponent[:, 0].mean() == pytest.approx(4.0, abs=0.05)
    assert exponent[:, 0].std() == pytest.approx(EXPONENT_ERROR, rel=0.1)
    fall = (exponent[:, 0] - exponent[:, -1]) / 0.95
    assert fall.mean() == pytest.approx(FALL[0], abs=0.05)
    assert fall.std() == pytest.approx(FALL[1], rel=0.1)


def test_a_replica_continues_the_tail_alike_in_all_clusters() -> None:
    thin, thick = _cluster(), replace(_cluster(), log_counts=15.0)
    rng = np.random.default_rng(2)
    points = make_training_set(
        ENERGY, [thin, thick], [REGIONS, REGIONS], NOISE, SCALING, 50, rng
    ).points
    count = points.target.shape[1] // 2
    first, second = points.target[:, :count], points.target[:, count:]
    pseudo = slice(-24, None)
    np.testing.assert_allclose(first[:, pseudo], second[:, pseudo])
    assert not np.allclose(first[:, : count - 24], second[:, : count - 24]), "noise is its own"


def test_a_tail_that_has_become_flat_stays_so() -> None:
    lever = np.linspace(0.0, 6.0, 61)
    drawn = np.random.default_rng(2).standard_normal((2, 500, 1))
    for exponent in (3.0, 1.0, 0.2):
        tails = continued_tails(lever, exponent, drawn)
        slopes = -np.diff(tails, axis=1) / np.diff(lever)
        lowest = np.minimum(slopes[:, :1], 0.7)
        assert (slopes >= lowest - 1e-9).all()
        assert np.isfinite(tails).all()


def test_nothing_is_asked_beyond_the_range() -> None:
    last = float(ENERGY[-1])
    data = _set(_cluster(), Regions((last, last), last, 3.0), 5)
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
