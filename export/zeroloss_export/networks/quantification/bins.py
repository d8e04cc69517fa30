"""Channels summed to a fixed number of bins, which is all that smooth columns need."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

BINS: Final = 256


def into_bins(values: Tensor) -> Tensor:
    """Sums over neighbouring channels, [row, channel] to [row, BINS].

    Bins have the fewest channels with which BINS of them hold all; the last ones may be empty. A
    bin with a NaN is NaN.
    """
    channels = values.shape[1]
    size = (channels + BINS - 1) // BINS
    padded = torch.nn.functional.pad(values, (0, BINS * size - channels))
    return padded.reshape(-1, BINS, size).sum(2)
