"""Several networks as one module with the inputs and outputs of a model package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.measured_range import measured_ends
from zeroloss_export.networks.axis_check import error_to_mend, mended_axis
from zeroloss_export.networks.evidence import EdgeEvidence
from zeroloss_export.networks.grid import grid_of
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


@dataclass(frozen=True, slots=True)
class Margin:
    """Logit of a check below which a spectrum is none of its business: the longer its range, the

    more the check takes a good one for a wrong one.
    """

    base: float = 0.0
    per_kev: float = 0.0

    def of(self, range_ev: Tensor) -> Tensor:
        """Of measured ranges in eV [batch]."""
        return self.base + self.per_kev * range_ev / 1000


class Ensemble(nn.Module):
    """counts, offset_ev, scale_ev to probability and spread [batch, 80] and unlike [batch, 1].

    The probability is that of the members' joined logits (`Joining`), the spread the standard
    deviation of the members' probabilities with the same temperature and bias. Probability and
    spread are multiplied by 1 - unlike. Unlike is the largest of three: members of 81 logits say
    with the last one how likely the spectrum is nothing that they were trained on, and their mean
    counts; ``check`` (`AxisCheck`) gives one logit for that alone, of which
    sigmoid(6 (logit - ``margin``)) is taken (`Margin`); and 1 where `SpectrumGates` lets nothing
    pass. The members see the spectrum on the axis that is left when what the check takes for its
    error is taken off. They may see different energy bins; those that see the same ones share them.
    Raises ValueError without members.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        joining: Joining | None = None,
        check: nn.Module | None = None,
        margin: Margin | None = None,
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("expected at least one member, got none")
        wanted = [grid_of(network) for network in members]
        kinds = list(dict.fromkeys(wanted))
        self.grids = nn.ModuleList(kind() for kind in kinds)
        self.grid_of_member = [kinds.index(kind) for kind in wanted]
        self.members = nn.ModuleList(members)
        self.check = check
        self.check_grid = grid_of(check)() if check else None
        self.margin = margin or Margin()
        self.gates = SpectrumGates(self.window_ev)
        self.joining = joining or Joining()

    @property
    def window_ev(self) -> tuple[float, float]:
        """Lowest and highest energy loss in eV that any member sees."""
        edges = torch.cat([grid.get_buffer("edges") for grid in self.grids])
        return float(edges.min()), float(edges.max())

    def opinions(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of every member [member, batch, 80], unlike [batch, 1] and the error of the axis

        that was taken off at the first and at the last measured channel [batch, 2].
        """
        axis_error_ev = torch.zeros_like(offset_ev)[:, None].expand(-1, 2)
        unlike: Tensor = self.gates(counts, offset_ev, scale_ev).float()[:, None]
        if self.check is not None and self.check_grid is not None:
            checked = self.check(self.check_grid(counts, offset_ev, scale_ev))
            ends = first, last = measured_ends(counts)
            range_ev = (last - first) * scale_ev
            beyond = checked[:, 2] - self.margin.of(range_ev)
            unlike = torch.maximum(unlike, torch.sigmoid(CHECK_SHARPNESS * beyond)[:, None])
            axis_error_ev = error_to_mend(checked, range_ev)
            offset_ev, scale_ev = mended_axis(ends, offset_ev, scale_ev, axis_error_ev)
        features = [grid(counts, offset_ev, scale_ev) for grid in self.grids]
        logits = torch.stack(
            [
                member(features[place])
                for member, place in zip(self.members, self.grid_of_member, strict=True)
            ]
        )
        if logits.shape[-1] > len(ELEMENTS):
            learnt = torch.sigmoid(logits[..., len(ELEMENTS) :].mean(0))
            unlike = torch.maximum(unlike, learnt)
        return logits[..., : len(ELEMENTS)], unlike, axis_error_ev

    def forward(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, unlike, _ = self.opinions(counts, offset_ev, scale_ev)
        return (*self.judged(logits, unlike), unlike)

    def judged(self, logits: Tensor, unlike: Tensor) -> tuple[Tensor, Tensor]:
        """Probability and spread [batch, 80] of members' logits of the elements."""
        each = self.joining.probability(logits)
        spread = ((each - each.mean(0)) ** 2).mean(0).sqrt()
        alike = 1 - unlike
        probability = self.joining.probability(self.joining.joined(logits))
        return alike * probability, alike * spread


class ElementGraph(nn.Module):
    """What a package holds: the answers of an ensemble, then the evidence for every edge.

    Between them, where the ensemble checks the axis, the error of it that it has taken off
    [batch, 2].
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.evidence = EdgeEvidence()

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, ...]:
        logits, unlike, axis_error_ev = self.ensemble.opinions(counts, offset_ev, scale_ev)
        answers = (*self.ensemble.judged(logits, unlike), unlike)
        found = (axis_error_ev,) if self.ensemble.check is not None else ()
        return (*answers, *found, *self.evidence(counts, offset_ev, scale_ev))
