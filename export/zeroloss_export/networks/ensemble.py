"""Several networks as one module with the inputs and outputs of a model package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyGrid


class Ensemble(nn.Module):
    """counts, offset_ev, scale_ev to the members' mean probability and its spread [batch, 80].

    The spread is the standard deviation of the members' probabilities.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("expected at least one member, got none")
        self.grid = EnergyGrid()
        self.members = nn.ModuleList(members)

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, Tensor]:
        features = self.grid(counts, offset_ev, scale_ev)
        each = torch.stack([torch.sigmoid(member(features)) for member in self.members])
        mean = each.mean(0)
        return mean, ((each - mean) ** 2).mean(0).sqrt()
