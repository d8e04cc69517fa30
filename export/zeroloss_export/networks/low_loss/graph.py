"""The whole graph of a trained zero-loss package: from raw spectra to every output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zeroloss.models.manifest import Output, Parameter
from zeroloss_export.networks.low_loss import outputs as describe
from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.faults import (
    MEASURED,
    MODELLED,
    UnlikeTraining,
    first_reason,
    given,
    or_else,
    peak_fault,
    spectra_reason,
)
from zeroloss_export.networks.low_loss.gap import GapFit
from zeroloss_export.networks.low_loss.peak import SEARCH_EV, Peak, PeakFinder, peak_errors
from zeroloss_export.networks.low_loss.subtract import Subtracted, Subtraction
from zeroloss_export.networks.low_loss.table import ZeroLossTable
from zeroloss_export.networks.low_loss.thickness import (
    SHORTEST_EV,
    THICKEST,
    THINNEST,
    counting_variance,
    counts_below,
    counts_beyond,
    log_ratio,
    range_above,
)

_NO_GAP = ("vacuum", "no gap found", "outside the fit range")


class LowLossGraph(nn.Module):
    """counts [batch, channel], offset_ev [batch], scale_ev [batch] to the tensors of ``outputs``.

    ``further_inputs`` follow, each [batch]. Every value is NaN where the label that it
    names as its reason is above 0.
    """

    outputs: tuple[Output, ...]
    further_inputs: tuple[Parameter, ...]
    energy: Tensor

    def __init__(self, table: ZeroLossTable, search_ev: tuple[float, float] = SEARCH_EV) -> None:
        super().__init__()
        self.grid = (table.first_ev, table.scale_ev, table.curves.shape[2])
        self.noise = table.noise
        self.match_end_ev = float(table.energy_ev[table.match.stop - 1]) + 0.5 * table.scale_ev
        self.register_buffer("energy", table.energy_ev.float(), persistent=False)
        self.find = PeakFinder(search_ev)
        self.unlike = UnlikeTraining(table)
        self.subtract = Subtraction(table)
        self.gap = None if table.gap_range_ev is None else GapFit(table)
        self.outputs = tuple(self._describe())
        self.further_inputs = ()

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the order of ``outputs``, each float32 [batch, *shape]."""
        peak = self.find(counts, offset_ev, scale_ev)
        fault = peak_fault(counts, peak, self.noise.gain)
        aligned = align(counts, peak.place, scale_ev, *self.grid)
        code = or_else(fault, first_reason([self.unlike(aligned, peak)], len(MEASURED)))
        subtracted = self.subtract(aligned, peak.counts)
        values = self._peak(peak, fault, scale_ev)
        thickness, vacuum = self._thickness(counts, peak, subtracted, scale_ev, code)
        values |= thickness
        if self.gap is not None:
            values |= self._gap(aligned, subtracted, peak, code, vacuum)
        values["zero_loss"] = given(subtracted.zero_loss, code)
        values["subtracted"] = given(subtracted.left, code)
        values["spectra_reason"] = spectra_reason(code, aligned, len(MODELLED))
        values["reason"] = code
        return tuple(values[item.name] for item in self.outputs)

    def _describe(self) -> list[Output]:
        described = describe.peak_outputs("zero_loss_reason", error=True)
        described += describe.scalar("thickness", "t/λ", "thickness_reason")
        if self.gap is not None:
            described += describe.scalar("gap", "eV", "gap_reason")
            described += describe.scalar("exponent", "", "gap_reason")
        described += [
            describe.spectrum("zero_loss", "counts", "spectra_reason", self.grid),
            describe.spectrum("subtracted", "counts", "spectra_reason", self.grid),
            describe.reason("reason", MODELLED),
            describe.reason("spectra_reason", (*MODELLED, describe.PARTLY)),
            describe.reason("zero_loss_reason", MEASURED),
            describe.reason("thickness_reason", (*MODELLED, *describe.VACUUM)),
        ]
        if self.gap is not None:
            described.append(describe.reason("gap_reason", (*MODELLED, *_NO_GAP)))
        return described

    def _peak(self, peak: Peak, fault: Tensor, scale_ev: Tensor) -> dict[str, Tensor]:
        errors = peak_errors(peak, self.noise, scale_ev)
        values = {
            "zero_loss_shift": peak.position_ev,
            "zero_loss_shift_error": errors.position_ev,
            "zero_loss_width": peak.width_ev,
            "zero_loss_width_error": errors.width_ev,
            "zero_loss_counts": peak.counts,
            "zero_loss_counts_error": errors.counts,
        }
        masked = {name: given(value, fault) for name, value in values.items()}
        return masked | {"zero_loss_reason": fault}

    def _thickness(
        self, counts: Tensor, peak: Peak, subtracted: Subtracted, scale_ev: Tensor, code: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The outputs on thickness, and where [batch] the beam met no specimen."""
        reach = range_above(counts, peak, scale_ev)
        modelled = (self.energy > self.match_end_ev) & (self.energy <= reach[:, None])
        # A curve says how much zero loss there is also in channels that were not measured.
        above = torch.where(modelled[:, None], subtracted.zero_loss, 0.0).sum(2)
        zero_loss = counts_below(counts, peak.place + self.match_end_ev / scale_ev)[:, None] + above
        total = torch.nan_to_num(counts, nan=0.0).sum(1) + counts_beyond(counts, peak, scale_ev)
        ratios = log_ratio(total[:, None], zero_loss)
        value = ratios[:, 1]
        band = 0.5 * (ratios[:, 0] - ratios[:, 2])
        error = (band.square() + counting_variance(total, zero_loss[:, 1], self.noise)).sqrt()
        vacuum = value < torch.maximum(2.0 * error, torch.full_like(error, THINNEST))
        why = first_reason([vacuum, value > THICKEST, reach < SHORTEST_EV], len(MODELLED))
        why = or_else(code, why)
        values = {
            "thickness": given(value, why),
            "thickness_error": given(error, why),
            "thickness_reason": why,
        }
        return values, vacuum

    def _gap(
        self, aligned: Tensor, subtracted: Subtracted, peak: Peak, code: Tensor, vacuum: Tensor
    ) -> dict[str, Tensor]:
        assert self.gap is not None
        fit = self.gap(aligned, subtracted.left[:, 0], peak.counts, peak.place)
        why = first_reason([vacuum & ~fit.found, ~fit.found, ~fit.inside], len(MODELLED))
        why = or_else(code, why)
        values = {
            "gap": fit.gap_ev,
            "gap_error": fit.gap_error,
            "exponent": fit.exponent,
            "exponent_error": fit.exponent_error,
        }
        masked = {name: given(value, why) for name, value in values.items()}
        return masked | {"gap_reason": why}


def build_graph(table: ZeroLossTable, search_ev: tuple[float, float] = SEARCH_EV) -> LowLossGraph:
    """The graph of a trained table, ready to export."""
    return LowLossGraph(table, search_ev).eval()
