"""Takes the zero-loss peak out of an aligned spectrum, with its error band."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.faults import given
from zeroloss_export.networks.low_loss.peak import or_nothing
from zeroloss_export.networks.low_loss.table import ZeroLossTable

_SAME: Final = 1e-5
"""Largest relative difference of two values of one curve: rounding."""


class Subtracted(NamedTuple):
    """Zero-loss peak and what is left, each [batch, 3, grid] as 16, 50 and 84 %.

    What is left is not cut at zero, so that its noise stays unbiased. NaN where the spectrum is;
    beyond the matching window the zero-loss peak is also given where the spectrum is not.
    """

    zero_loss: Tensor
    left: Tensor
    model: Tensor
    """The part of the zero-loss peak that is a curve of the table, 0 up to the matching window, as
    84, 50 and 16 %: what leaves the least first."""


class Interpolated(nn.Module):
    """Values at the nodes of the table, interpolated linearly in ln N; constant beyond its ends.

    With a setting of the instrument, linearly in that too. A mean that is the same at all nodes is
    the same between them.
    """

    rows: Tensor

    def __init__(self, nodes: Tensor, values: Tensor, settings: Tensor | None = None) -> None:
        """``nodes`` [node], ``values`` [curve, node, point]; with ``settings`` [setting] the nodes
        of one after those of the other.
        """
        super().__init__()
        self.shape = (values.shape[0], values.shape[2])
        rows = values.transpose(0, 1).flatten(1).contiguous()
        # A peak that only scales has the same curves at all nodes.
        self.scales = bool(((rows - rows[:1]).abs() <= _SAME * rows[:1].abs()).all())
        self.register_buffer("rows", rows[:1] if self.scales else rows, persistent=False)
        self.nodes = _Hats(nodes)
        self.settings = None if settings is None else _Hats(settings)

    def forward(
        self, log_counts: Tensor, setting: Tensor | None = None, level: Tensor | None = None
    ) -> Tensor:
        """[batch] to [batch, curve, point], times ``level`` [batch] if that is given.

        ``setting`` [batch] where the table has one.
        """
        if self.scales:
            weight = torch.ones_like(log_counts)[:, None]
        else:
            weight = self.nodes(log_counts)
            if self.settings is not None and setting is not None:
                weight = (self.settings(setting)[:, :, None] * weight[:, None]).flatten(1)
        if level is not None:
            weight = weight * level[:, None]
        return (weight @ self.rows).reshape(-1, *self.shape)


class _Hats(nn.Module):
    """Weights of the nodes [node] for linear interpolation, held at the ends."""

    first: Tensor
    last: Tensor
    rise: Tensor
    fall: Tensor

    def __init__(self, nodes: Tensor) -> None:
        super().__init__()
        self.ends = (float(nodes[0]), float(nodes[-1]))
        first = torch.cat([nodes[:1] - 1.0, nodes[:-1]])
        last = torch.cat([nodes[1:], nodes[-1:] + 1.0])
        buffers = {"first": first, "last": last}
        buffers |= {"rise": 1.0 / (nodes - first), "fall": 1.0 / (last - nodes)}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """[batch] to [batch, node]; two neighbours at most are above 0."""
        held = values.clamp(*self.ends)[:, None]
        rising, falling = (held - self.first) * self.rise, (self.last - held) * self.fall
        return torch.minimum(rising, falling).clamp(0.0, 1.0)


class Subtraction(nn.Module):
    """Matches the curves of the table to spectra on its grid.

    Up to the upper end of the matching window the counts are the zero-loss peak. Above, the curve
    that the table has for the zero-loss counts of the pixel is scaled to the pixel's mean in the
    window. That is monotone in the curve, so the percentiles of the curves give those of what is
    left.
    """

    own: Tensor
    beyond: Tensor

    def __init__(self, table: ZeroLossTable) -> None:
        super().__init__()
        self.window = table.match
        own = torch.arange(table.curves.shape[2]) < table.match.stop
        self.register_buffer("own", own, persistent=False)
        self.register_buffer("beyond", (~own).float(), persistent=False)
        curves = table.curves.exp() * self.beyond
        # In the order of what they leave.
        self.curves = Interpolated(table.log_counts, curves.flip(0), table.settings)

    def forward(
        self,
        aligned: Tensor,
        counts: Tensor,
        setting: Tensor | None = None,
        code: Tensor | None = None,
    ) -> Subtracted:
        """``aligned`` [batch, grid] counts on the grid, ``counts`` [batch] of the zero-loss.

        All comes out NaN where the reason ``code`` [batch] is above 0.
        """
        level = window_mean(aligned[:, self.window])
        if code is not None:
            level = given(level, code)
        model = self.curves(counts.clamp(min=1.0).log(), setting, level)
        # On [batch, grid], not three times over. A product keeps NaN, also where it adds nothing.
        left = (aligned * self.beyond)[:, None] - model
        zero_loss = torch.where(self.own, aligned, 0.0)[:, None] + model.flip(1)
        return Subtracted(zero_loss, left, model)


def percentiles(count: int) -> Tensor:
    """Weights [count, 3] that make 16, 50 and 84 % of as many ranked numbers.

    Placed so that one further number falls below each in just that share of all cases; of fewer
    than six the least and the largest are nearest to that.
    R. J. Hyndman and Y. Fan, Am. Stat. 50, 361 (1996), definition 6.
    """
    places = [min(max(0.0, share * (count + 1) - 1), count - 1) for share in (0.16, 0.5, 0.84)]
    return torch.tensor(
        [[max(0.0, 1.0 - abs(row - place)) for place in places] for row in range(count)]
    )


def window_mean(counts: Tensor) -> Tensor:
    """Mean of the measured channels of a matching window [..., channel], at least 0 or NaN."""
    measured = (~torch.isnan(counts)).float().sum(-1)
    # Nothing by nothing is NaN.
    return or_nothing(counts).sum(-1).clamp(min=0.0) / measured
