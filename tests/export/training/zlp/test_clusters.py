from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.training.zlp.clusters import MOST_CLUSTERS, choose_clusters, cluster


def test_steps_of_thickness_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    # ln of the zero-loss counts falls by t / lambda.
    step = rng.integers(0, 3, 300)
    logs = 14.0 - np.array([0.9, 0.4, 0.0])[step] + 0.03 * rng.standard_normal(300)
    labels = choose_clusters(logs)
    np.testing.assert_array_equal(labels, step)


def test_one_thickness_is_one_cluster() -> None:
    logs = 14.0 + 0.03 * np.random.default_rng(2).standard_normal(100)
    assert set(choose_clusters(logs)) == {0}
    assert set(choose_clusters(logs[:1])) == {0}


def test_a_wedge_is_cut_into_narrow_clusters_that_rise() -> None:
    logs = np.random.default_rng(3).permutation(np.linspace(13.0, 14.0, 200))
    labels = choose_clusters(logs)
    means = [logs[labels == item].mean() for item in range(labels.max() + 1)]
    assert 2 <= len(means) <= MOST_CLUSTERS
    assert means == sorted(means)
    assert max(logs[labels == item].std() for item in range(len(means))) <= 0.1


def test_few_different_values_are_no_more_clusters() -> None:
    assert set(choose_clusters(np.repeat([10.0, 12.0, 20.0], 50))) == {0, 1, 2}


def test_none_is_empty_and_too_many_are_refused() -> None:
    logs = np.array([1.0, 1.001, 1.002, 9.0])
    labels = cluster(logs, 3)
    assert set(labels) == set(range(labels.max() + 1))
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"{count} clusters: expected 1 to 4"):
            cluster(logs, count)
