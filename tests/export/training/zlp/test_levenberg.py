from __future__ import annotations

from dataclasses import replace

import torch

from zeroloss_export.networks.replicas import Replicas
from zeroloss_export.training.zlp.levenberg import Points, fit

NETWORK = Replicas(1)
BINS, REPLICAS = 60, 12
X = torch.linspace(-1.0, 1.0, BINS)
TRUTH = 1e4 * torch.exp(-2.0 * X + 0.6 * torch.sin(2.0 * X))
SIGMA = 0.02 * TRUTH


def _points(seen_to: float = 0.4) -> Points:
    rng = torch.Generator().manual_seed(1)
    measured = TRUTH + SIGMA * torch.randn(BINS, generator=rng)
    drawn = measured + SIGMA * torch.randn(REPLICAS, BINS, generator=rng)
    known = (seen_to >= X).float().expand(REPLICAS, BINS)
    held = (torch.rand(REPLICAS, BINS, generator=rng) < 0.2).float() * known
    return Points(
        X[:, None],
        (1e4 * torch.exp(-2.0 * X)).log(),
        drawn,
        SIGMA.expand(REPLICAS, BINS),
        known - held,
        held,
    )


def _start() -> torch.Tensor:
    return NETWORK.draw(REPLICAS, torch.Generator().manual_seed(2))


def test_replicas_come_down_to_their_noise_and_their_median_to_the_truth() -> None:
    points, told = _points(), []
    fitted = fit(NETWORK, _start(), points, progress=told.append)
    assert len(told) == fitted.steps
    # One of its own noise, one of the measurement it is drawn around, less what it learns by heart.
    assert 1.0 < float(fitted.cost.median()) < 2.5
    curves = (NETWORK.values(fitted.weights, points.inputs) + points.base).exp()
    seen = X <= 0.4
    pull = (curves.median(0).values - TRUTH)[seen] / SIGMA[seen]
    assert float(pull.square().mean()) < 1.0


def test_what_the_data_leave_open_stays_various() -> None:
    points = _points()
    fitted = fit(NETWORK, _start(), points)
    spread = NETWORK.values(fitted.weights, points.inputs).std(0)
    assert float(spread[-1]) > 5.0 * float(spread[X <= 0.4].median())


def test_points_that_no_replica_sees_do_not_matter() -> None:
    points = _points()
    target = points.target.clone()
    target[:, X > 0.4] *= 7.0
    first = fit(NETWORK, _start(), points, steps=(8, 8))
    second = fit(NETWORK, _start(), replace(points, target=target), steps=(8, 8))
    assert torch.equal(first.weights, second.weights)


def test_counts_below_zero_are_fitted_too() -> None:
    points = _points()
    target = points.target.clone()
    target[:, 30] = -50.0
    sigma = points.sigma.clone()
    sigma[:, 30] = 5000.0
    fitted = fit(NETWORK, _start(), replace(points, target=target, sigma=sigma))
    assert torch.isfinite(fitted.cost).all()
    assert 1.0 < float(fitted.cost.median()) < 2.5
