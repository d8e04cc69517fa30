"""Where the measured part of a spectrum begins and ends."""

from __future__ import annotations

import torch
from torch import Tensor


def measured_ends(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Number of the first and of the last channel that is not NaN [batch], in float32.

    ``counts`` are [batch, channel]. Where none is measured the first comes after the last.
    """
    measured = (~torch.isnan(counts)).float()
    channel = torch.ones_like(measured).cumsum(1)
    channels = channel[:, -1:]
    last = (channel * measured).amax(1) - 1
    first = channels[:, 0] - ((channels - channel + 1) * measured).amax(1)
    return first, last
