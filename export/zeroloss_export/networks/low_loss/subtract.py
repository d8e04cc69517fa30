"""Takes the zero-loss peak out of an aligned spectrum, with its error band."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.peak import or_nothing
from zeroloss_export.networks.low_loss.table import ZeroLossTable

_NOTHING: Final = -1e4
"""Logarithm of nothing."""
_SAME: Final = 1e-5
"""Largest difference of two logarithms of one curve: rounding."""


class Subtracted(NamedTuple):
    """Zero-loss peak and what is left, each [batch, 3, grid] as 16, 50 and 84 %.

    What is left is not cut at zero, so that its noise stays unbiased. NaN where the spectrum is;
    beyond the matching window the zero-loss peak is also given where the spectrum is not.
    """

    zero_loss: Tensor
    left: Tensor
    model: Tensor
    """The part of the zero-loss peak that is a curve of the table, 0 up to the matching window."""


class Interpolated(nn.Module):
    """Values at the nodes of the table, interpolated linearly in ln N; constant beyond its ends.

    With a setting of the instrument, linearly in that too.
    """

    nodes: Tensor
    settings: Tensor
    rows: Tensor

    def __init__(self, nodes: Tensor, values: Tensor, settings: Tensor | None = None) -> None:
        """``nodes`` [node], ``values`` [curve, node, point]; with ``settings`` [setting] the nodes
        of one after those of the other.
        """
        super().__init__()
        self.shape = (values.shape[0], values.shape[2])
        self.register_buffer("nodes", nodes.clone(), persistent=False)
        held = torch.zeros(1) if settings is None else settings.clone()
        self.register_buffer("settings", held, persistent=False)
        rows = values.transpose(0, 1).flatten(1).contiguous()
        # A peak that only scales has the same curves at all nodes.
        self.scales = bool((rows - rows[:1]).abs().max() < _SAME)
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, log_counts: Tensor, setting: Tensor | None = None) -> Tensor:
        """[batch] to [batch or 1, curve, point]; ``setting`` [batch] where the table has one."""
        if self.scales:
            return self.rows[:1].reshape(1, *self.shape)
        above, part = _between(self.nodes, log_counts)
        if setting is None:
            rows = _mixed(
                self.rows.index_select(0, above), self.rows.index_select(0, above + 1), part
            )
        else:
            lower, share = _between(self.settings, setting)
            first, count = lower * len(self.nodes) + above, len(self.nodes)
            near = _mixed(
                self.rows.index_select(0, first), self.rows.index_select(0, first + 1), part
            )
            far = _mixed(
                self.rows.index_select(0, first + count),
                self.rows.index_select(0, first + count + 1),
                part,
            )
            rows = _mixed(near, far, share)
        return rows.reshape(-1, *self.shape)


def _mixed(low: Tensor, high: Tensor, part: Tensor) -> Tensor:
    # Not torch.lerp: exported, it costs twice as much.
    return low + part * (high - low)


def _between(nodes: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The node below each value [batch], held at the ends, and the part [batch, 1] to the next."""
    value = torch.minimum(torch.maximum(value, nodes[:1]), nodes[-1:])
    below = (value[:, None] >= nodes[None, 1:-1]).long().sum(1)
    low, high = nodes[below], nodes[below + 1]
    return below, ((value - low) / (high - low))[:, None]


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
        curves = torch.where(own, torch.full_like(table.curves, _NOTHING), table.curves)
        self.curves = Interpolated(table.log_counts, curves, table.settings)

    def forward(self, aligned: Tensor, counts: Tensor, setting: Tensor | None = None) -> Subtracted:
        """``aligned`` [batch, grid] counts on the grid, ``counts`` [batch] of the zero-loss."""
        level = window_mean(aligned[:, self.window])
        model = self.curves(counts.clamp(min=1.0).log(), setting).exp() * level[:, None, None]
        # On [batch, grid], not three times over; NaN stays NaN.
        nothing = aligned - aligned
        zero_loss = torch.where(self.own, aligned, torch.zeros_like(aligned))[:, None] + model
        left = torch.where(self.own, nothing, aligned)[:, None] - model.flip(1)
        return Subtracted(zero_loss, left, model)


def window_mean(counts: Tensor) -> Tensor:
    """Mean of the measured channels of a matching window [..., channel], at least 0 or NaN."""
    measured = (~torch.isnan(counts)).float().sum(-1)
    mean = (or_nothing(counts).sum(-1) / measured.clamp(min=1.0)).clamp(min=0.0)
    return torch.where(measured > 0.0, mean, torch.full_like(mean, torch.nan))
