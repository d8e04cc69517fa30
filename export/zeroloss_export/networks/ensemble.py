"""Several networks as one module with the inputs and outputs of a model package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.axis_check import SlopeGrid
from zeroloss_export.networks.evidence import EdgeEvidence
from zeroloss_export.networks.grid import FEATURES, EnergyGrid, grid_of
from zeroloss_export.networks.unlike import SpectrumGates
from zeroloss_export.physics.elements import ELEMENTS

UNLIKE_LABEL: Final = "unlike training"
UNLIKE_THRESHOLD: Final = 0.5


@dataclass(frozen=True, slots=True)
class Joining:
    """How members' logits become one probability, sigmoid(joined / temperature + bias).

    Joined is their mean less ``caution`` standard deviations, so that what they do not agree on
    counts for less. Temperature and bias make the probability mean what it says (C. Guo et al., On
    Calibration of Modern Neural Networks, 2017; J. Platt, Probabilistic Outputs for Support Vector
    Machines, 1999).
    """

    caution: float = 0.75
    temperature: float = 1.0
    bias: float = 0.0

    def joined(self, logits: Tensor) -> Tensor:
        """One logit [batch, label] of those of the members [member, batch, label]."""
        mean = logits.mean(0)
        return mean - self.caution * ((logits - mean) ** 2).mean(0).sqrt()

    def probability(self, logit: Tensor) -> Tensor:
        """Of a joined logit, or of that of one member."""
        return torch.sigmoid(logit / self.temperature + self.bias)


CHECK_SHARPNESS: Final = 6.0
"""Factor on the check's logit beyond its margin: spectra below it lose next to nothing."""


class Ensemble(nn.Module):
    """counts, offset_ev, scale_ev to probability and spread [batch, 80] and unlike [batch, 1].

    The probability is that of the members' joined logits (`Joining`), the spread the standard
    deviation of the members' probabilities with the same temperature and bias. Probability and
    spread are multiplied by 1 - unlike. Unlike is the largest of three: members of 81 logits say
    with the last one how likely the spectrum is nothing that they were trained on, and their mean
    counts; ``check`` (`AxisCheck`) gives one logit for that alone, of which
    sigmoid(6 (logit - ``margin``)) is taken; and 1 where `SpectrumGates` lets nothing pass.
    Members may see different energy bins; those that see the same ones share them. Raises
    ValueError without members.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        joining: Joining | None = None,
        check: nn.Module | None = None,
        margin: float = 0.0,
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("expected at least one member, got none")
        wanted = [grid_of(network) for network in (*members, *([check] if check else []))]
        if SlopeGrid in wanted:  # it holds what EnergyGrid gives, and costs little more
            wanted = [SlopeGrid if kind is EnergyGrid else kind for kind in wanted]
        kinds = list(dict.fromkeys(wanted))
        self.grids = nn.ModuleList(kind() for kind in kinds)
        self.grid_of_network = [kinds.index(kind) for kind in wanted]
        self.members = nn.ModuleList(members)
        self.check = check
        self.margin = margin
        self.gates = SpectrumGates(self.window_ev)
        self.joining = joining or Joining()

    @property
    def window_ev(self) -> tuple[float, float]:
        """Lowest and highest energy loss in eV that any member sees."""
        edges = torch.cat([grid.get_buffer("edges") for grid in self.grids])
        return float(edges.min()), float(edges.max())

    def opinions(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of every member [member, batch, 80], and unlike [batch, 1]."""
        features = [grid(counts, offset_ev, scale_ev) for grid in self.grids]
        seen = [features[place] for place in self.grid_of_network]
        logits = torch.stack(
            [
                member(item if grid_of(member) is not EnergyGrid else item[:, :FEATURES])
                for member, item in zip(self.members, seen, strict=False)
            ]
        )
        unlike: Tensor = self.gates(counts, offset_ev, scale_ev).float()[:, None]
        if logits.shape[-1] > len(ELEMENTS):
            learnt = torch.sigmoid(logits[..., len(ELEMENTS) :].mean(0))
            unlike = torch.maximum(unlike, learnt)
        if self.check is not None:
            checked = CHECK_SHARPNESS * (self.check(seen[-1]) - self.margin)
            unlike = torch.maximum(unlike, torch.sigmoid(checked))
        return logits[..., : len(ELEMENTS)], unlike

    def forward(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, unlike = self.opinions(counts, offset_ev, scale_ev)
        return (*self.judged(logits, unlike), unlike)

    def judged(self, logits: Tensor, unlike: Tensor) -> tuple[Tensor, Tensor]:
        """Probability and spread [batch, 80] of members' logits of the elements."""
        each = self.joining.probability(logits)
        spread = ((each - each.mean(0)) ** 2).mean(0).sqrt()
        alike = 1 - unlike
        probability = self.joining.probability(self.joining.joined(logits))
        return alike * probability, alike * spread


class ElementGraph(nn.Module):
    """What a package holds: the answers of an ensemble, then the evidence for every edge."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.evidence = EdgeEvidence()

    def forward(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        answers: tuple[Tensor, Tensor, Tensor] = self.ensemble(counts, offset_ev, scale_ev)
        edges: tuple[Tensor, Tensor, Tensor] = self.evidence(counts, offset_ev, scale_ev)
        return (*answers, *edges)
