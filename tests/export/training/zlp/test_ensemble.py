from __future__ import annotations

import numpy as np
import pytest
import torch

from zeroloss_export.training.zlp.ensemble import train_ensemble
from zeroloss_export.training.zlp.spectra import Prepared
from zeroloss_export.training.zlp.training import TrainedZeroLoss


def _again(trained: TrainedZeroLoss, prepared: Prepared, replicas: int, seed: int) -> torch.Tensor:
    return train_ensemble(
        prepared.energy_ev,
        prepared.clusters,
        trained.regions,
        prepared.noise,
        prepared.width_ev,
        replicas=replicas,
        seed=seed,
    ).weights


@pytest.mark.parametrize("name", ["trained_vacuum", "trained_flake"])
def test_replicas_describe_the_measured_means(name: str, request: pytest.FixtureRequest) -> None:
    trained: TrainedZeroLoss = request.getfixturevalue(name)
    ensemble = trained.ensemble
    kept = ensemble.cost[ensemble.kept]
    # Two if the error of a mean is that of counting alone; less, where alignment limits it.
    assert 0.5 < np.median(kept) < 2.5
    assert 0.05 < ensemble.chi2 < 1.5


def test_replicas_that_did_not_converge_are_counted_and_left_out(
    trained_flake: TrainedZeroLoss,
) -> None:
    ensemble = trained_flake.ensemble
    np.testing.assert_array_equal(
        ensemble.kept, ensemble.cost <= 2.0 * np.median(ensemble.cost), strict=True
    )
    assert len(ensemble.weights) == ensemble.kept.sum() >= 0.6 * len(ensemble.cost)


def test_the_same_seed_gives_the_same_replicas(
    trained_vacuum: TrainedZeroLoss, prepared_vacuum: Prepared
) -> None:
    first, same, other = (_again(trained_vacuum, prepared_vacuum, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert first.shape != other.shape or not torch.allclose(first, other)


def test_curves_scale_with_the_counts_where_there_is_one_cluster(
    trained_vacuum: TrainedZeroLoss,
) -> None:
    energy = np.linspace(0.5, 5.0, 20)
    faint, strong = (trained_vacuum.ensemble.curves(energy, log) for log in (12.0, 14.0))
    np.testing.assert_allclose(strong - faint, 2.0, atol=1e-5)
    # A tail falls, of every replica.
    assert (strong[:, -1] < strong[:, 0] - 3.0).all()


def test_one_replica_is_none(trained_vacuum: TrainedZeroLoss, prepared_vacuum: Prepared) -> None:
    with pytest.raises(ValueError, match="1 replicas: expected at least 2"):
        _again(trained_vacuum, prepared_vacuum, 1, 0)
