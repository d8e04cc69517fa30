"""The graphs of the packages that need no training: plain subtraction, without an error band."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor, nn

from zeroloss.models.manifest import Output, Parameter
from zeroloss_export.networks.low_loss import outputs as describe
from zeroloss_export.networks.low_loss.align import rebin
from zeroloss_export.networks.low_loss.faults import (
    MEASURED,
    first_reason,
    given,
    or_else,
    peak_fault,
    spectra_reason,
)
from zeroloss_export.networks.low_loss.peak import SEARCH_EV, Peak, PeakFinder
from zeroloss_export.networks.low_loss.thickness import (
    THINNEST,
    log_ratio,
    range_above,
    thickness_reason,
    total_counts,
)
from zeroloss_export.networks.low_loss.untrained import mirrored_tail, power_law_tail

Tail = Literal["mirrored", "power law"]
GRID: Final = (-5.0, 0.05, 2001)
"""First energy, step and points of its spectra: -5 to 95 eV."""
_TAILS: Final[dict[Tail, Callable[[Tensor, Peak], tuple[Tensor, Tensor]]]] = {
    "mirrored": mirrored_tail,
    "power law": power_law_tail,
}
_CODES: Final = (*MEASURED, "no flank of the zero-loss peak")


class UntrainedGraph(nn.Module):
    """counts [batch, channel], offset_ev [batch], scale_ev [batch] to the tensors of ``outputs``.

    For any dispersion. Its spectra are rebinned to 0.05 eV, counts preserved.
    """

    further_inputs: tuple[Parameter, ...] = ()

    def __init__(self, tail: Tail, search_ev: tuple[float, float] = SEARCH_EV) -> None:
        super().__init__()
        self.find = PeakFinder(search_ev)
        self.zero_loss = _TAILS[tail]
        self.outputs: tuple[Output, ...] = (
            *describe.peak_outputs("zero_loss_reason", error=False),
            *describe.scalar("thickness", "t/λ", "thickness_reason", error=False),
            describe.spectrum("zero_loss", "counts", "spectra_reason", GRID, ()),
            describe.spectrum("subtracted", "counts", "spectra_reason", GRID, ()),
            describe.reason("reason", _CODES),
            describe.reason("spectra_reason", (*_CODES, describe.PARTLY)),
            describe.reason("zero_loss_reason", MEASURED),
            describe.reason("thickness_reason", (*_CODES, *describe.VACUUM)),
        )

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the order of ``outputs``, each float32 [batch, *shape]."""
        peak = self.find(counts, offset_ev, scale_ev)
        fault = peak_fault(counts, peak)
        zero_loss, there = self.zero_loss(counts, peak)
        code = or_else(fault, first_reason([~there], len(MEASURED)))
        thickness = log_ratio(total_counts(counts, peak, scale_ev), zero_loss.sum(1))
        reach, vacuum = range_above(counts, peak, scale_ev), thickness < THINNEST
        thick_code = thickness_reason(code, thickness, vacuum, reach, len(_CODES))
        zero_loss = torch.where(torch.isnan(counts), counts, zero_loss)
        curves = [rebin(item, peak.place, scale_ev, *GRID) for item in (counts, zero_loss)]
        values = {
            "zero_loss_shift": given(peak.position_ev, fault),
            "zero_loss_width": given(peak.width_ev, fault),
            "zero_loss_counts": given(peak.counts, fault),
            "thickness": given(thickness, thick_code),
            "zero_loss": given(curves[1], code),
            "subtracted": given(curves[0] - curves[1], code),
            "reason": code,
            "spectra_reason": spectra_reason(code, curves[0], len(_CODES)),
            "zero_loss_reason": fault,
            "thickness_reason": thick_code,
        }
        return tuple(values[item.name] for item in self.outputs)
