"""Takes the zero-loss peak out of an aligned spectrum, with its error band."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.table import ZeroLossTable


class Subtracted(NamedTuple):
    """Zero-loss peak and what is left, each [batch, 3, grid] as 16, 50 and 84 %.

    What is left is not cut at zero, so that its noise stays unbiased. NaN where the spectrum is;
    the zero-loss peak is also given where the spectrum does not reach beyond its maximum.
    """

    zero_loss: Tensor
    left: Tensor


class Interpolated(nn.Module):
    """Values at the nodes of the table, interpolated linearly in ln N; constant beyond its ends."""

    nodes: Tensor
    rows: Tensor

    def __init__(self, nodes: Tensor, values: Tensor) -> None:
        """``nodes`` [node], ``values`` [curve, node, point]."""
        super().__init__()
        self.shape = (values.shape[0], values.shape[2])
        self.register_buffer("nodes", nodes.clone(), persistent=False)
        rows = values.transpose(0, 1).reshape(len(nodes), -1).contiguous()
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, log_counts: Tensor) -> Tensor:
        """[batch] to [batch, curve, point]."""
        nodes = self.nodes
        value = torch.minimum(torch.maximum(log_counts, nodes[:1]), nodes[-1:])
        above = (value[:, None] >= nodes[None, 1:-1]).long().sum(1)
        low, high = nodes[above], nodes[above + 1]
        part = ((value - low) / (high - low))[:, None]
        rows = torch.lerp(self.rows[above], self.rows[above + 1], part)
        return rows.reshape(-1, *self.shape)


class Subtraction(nn.Module):
    """Matches the curves of the table to spectra on its grid.

    Up to the upper end of the matching window the counts are the zero-loss peak. Above, the curve
    that the table has for the zero-loss counts of the pixel is scaled to the pixel's mean in the
    window. That is monotone in the curve, so the percentiles of the curves give those of what is
    left.
    """

    own: Tensor

    def __init__(self, table: ZeroLossTable) -> None:
        super().__init__()
        self.window = table.match
        own = torch.arange(table.curves.shape[2]) < table.match.stop
        self.register_buffer("own", own, persistent=False)
        self.curves = Interpolated(table.log_counts, table.curves)

    def forward(self, aligned: Tensor, counts: Tensor) -> Subtracted:
        """``aligned`` [batch, grid] counts on the grid, ``counts`` [batch] of the zero-loss."""
        level = window_mean(aligned[:, self.window])
        model = self.curves(counts.clamp(min=1.0).log()).exp() * level[:, None, None]
        zero_loss = torch.where(self.own, aligned[:, None], model)
        return Subtracted(zero_loss, aligned[:, None] - zero_loss.flip(1))


def window_mean(counts: Tensor) -> Tensor:
    """Mean of the measured channels of a matching window [..., channel], at least 0."""
    measured = (~torch.isnan(counts)).float().sum(-1)
    return (torch.nan_to_num(counts, nan=0.0).sum(-1) / measured.clamp(min=1.0)).clamp(min=0.0)
