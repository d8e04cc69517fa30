"""Several networks as one module with the inputs and outputs of a model package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import grid_of


class Ensemble(nn.Module):
    """counts, offset_ev, scale_ev to probability and spread [batch, 80].

    The probability is that of the members' mean logit, so that a member that is sure counts for
    more than one that wavers. The spread is the standard deviation of the members' probabilities.
    Members may see different energy bins; those that see the same ones share them.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("expected at least one member, got none")
        kinds = list(dict.fromkeys(grid_of(member) for member in members))
        self.grids = nn.ModuleList(kind() for kind in kinds)
        self.grid_of_member = [kinds.index(grid_of(member)) for member in members]
        self.members = nn.ModuleList(members)

    @property
    def window_ev(self) -> tuple[float, float]:
        """Lowest and highest energy loss in eV that any member sees."""
        edges = torch.cat([grid.get_buffer("edges") for grid in self.grids])
        return float(edges.min()), float(edges.max())

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, Tensor]:
        features = [grid(counts, offset_ev, scale_ev) for grid in self.grids]
        pairs = zip(self.grid_of_member, self.members, strict=True)
        logits = torch.stack([member(features[kind]) for kind, member in pairs])
        each = torch.sigmoid(logits)
        spread = ((each - each.mean(0)) ** 2).mean(0).sqrt()
        return torch.sigmoid(logits.mean(0)), spread
