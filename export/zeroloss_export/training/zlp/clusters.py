"""Groups the pixels of a spectrum image by thickness, as their zero-loss counts tell it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .noise import Floats

MOST_CLUSTERS: Final = 8
_SPREAD: Final = 0.1
"""Standard deviation of ln N within a cluster that is narrow enough: 10 % in counts."""
_ROUNDS: Final = 100


def choose_clusters(log_counts: Floats) -> NDArray[np.int64]:
    """Labels [n] of as few clusters (at most 8) as keep ln N [n] of each within about 10 %."""
    for count in range(1, min(MOST_CLUSTERS, len(np.unique(log_counts))) + 1):
        labels = cluster(log_counts, count)
        spreads = [log_counts[labels == item].std() for item in range(labels.max() + 1)]
        if max(spreads) <= _SPREAD or len(log_counts) < 2 * (count + 1):
            break
    return labels


def cluster(log_counts: Floats, count: int) -> NDArray[np.int64]:
    """K-means of ln N [n] into ``count`` clusters; labels [n] rise with ln N, none is empty.

    In one dimension the quantiles are a good start, so the answer does not depend on chance.
    Raises ValueError for fewer distinct values than clusters.
    """
    distinct = np.unique(log_counts)
    if not 1 <= count <= len(distinct):
        raise ValueError(
            f"{count} clusters: expected 1 to {len(distinct)}, as many as there are different "
            "zero-loss intensities"
        )
    centres = np.quantile(distinct, (np.arange(count) + 0.5) / count)
    for _ in range(_ROUNDS):
        labels = np.abs(log_counts[:, None] - centres).argmin(1)
        moved = np.array(
            [
                log_counts[labels == item].mean() if (labels == item).any() else centres[item]
                for item in range(count)
            ]
        )
        if np.array_equal(moved, centres):
            break
        centres = moved
    _, ranked = np.unique(labels, return_inverse=True)
    return ranked.astype(np.int64)
