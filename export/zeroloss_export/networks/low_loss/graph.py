"""The whole graph of a trained zero-loss package: from raw spectra to every output."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from zeroloss.models.manifest import Output, Parameter
from zeroloss_export.networks.low_loss import outputs as describe
from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.faults import (
    MEASURED,
    MODELLED,
    UnlikeTraining,
    all_given,
    first_reason,
    given,
    or_else,
    peak_fault,
    spectra_reason,
)
from zeroloss_export.networks.low_loss.gap import GapFit
from zeroloss_export.networks.low_loss.kramers_kronig import (
    PARAMETERS,
    KramersKronig,
    LossCurves,
    LossGrid,
    SingleScattering,
    band_of,
)
from zeroloss_export.networks.low_loss.peak import SEARCH_EV, Peak, PeakFinder, peak_errors
from zeroloss_export.networks.low_loss.peaks import PeakSearch
from zeroloss_export.networks.low_loss.subtract import Subtracted, Subtraction
from zeroloss_export.networks.low_loss.table import Setting, ZeroLossTable
from zeroloss_export.networks.low_loss.thickness import (
    THINNEST,
    counting_variance,
    counts_below,
    log_ratio,
    range_above,
    thickness_reason,
    total_counts,
)

_NO_GAP: Final = ("vacuum", "no gap found", "outside the fit range")
_NO_PEAK: Final = ("vacuum", "no peak found", "fewer peaks")
_BEYOND: Final = "beyond the trained settings"
_NO_OPTICS: Final = "no refractive index, beam energy or collection angle"
_DIELECTRIC: Final = {
    "eps_real": "",
    "eps_imag": "",
    "surface_loss": "1/eV",
    "single_scattering": "1/eV",
}


class LowLossGraph(nn.Module):
    """counts [batch, channel], offset_ev [batch], scale_ev [batch] to the tensors of ``outputs``.

    ``further_inputs`` follow, each [batch], NaN where not known. Every value is NaN where the
    label that it names as its reason is above 0; of loss peaks those that are there are given.
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
        self.search = None if table.peaks == 0 else PeakSearch(table)
        self.peaks = table.peaks
        grid = LossGrid(table)
        self.losses = LossCurves(table, grid, table.curves)
        self.replica_losses = LossCurves(table, grid, table.replicas)
        self.single = SingleScattering(grid.points)
        self.kramers_kronig = KramersKronig(grid.energy, grid.step_ev)
        self.loss_grid = (float(grid.energy[0]), grid.step_ev, grid.points)
        self.setting = table.setting
        self.outputs = tuple(self._describe())
        self.further_inputs = (*PARAMETERS, *_setting_input(table.setting))

    def forward(
        self,
        counts: Tensor,
        offset_ev: Tensor,
        scale_ev: Tensor,
        refractive_index: Tensor,
        beam_kev: Tensor,
        collection_mrad: Tensor,
        setting: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """The outputs in the order of ``outputs``, each float32 [batch, *shape]."""
        peak = self.find(counts, offset_ev, scale_ev)
        fault = peak_fault(counts, peak, self.noise.gain)
        aligned = align(counts, peak.place, scale_ev, *self.grid)
        if self.setting is not None and self.setting.name == "beam_kev":
            setting = beam_kev
        unlike = [self.unlike(aligned, peak)]
        if self.setting is not None and setting is not None:
            ends = (float(self.setting.nodes[0]), float(self.setting.nodes[-1]))
            unlike = [unlike[0] | _outside(setting, ends), torch.isnan(setting)]
        code = or_else(fault, first_reason(unlike, len(MEASURED)))
        subtracted = self.subtract(aligned, peak.counts, setting, code)
        below = counts_below(counts, peak.place + self.match_end_ev / scale_ev)
        values = self._peak(peak, fault, scale_ev)
        thickness, vacuum = self._thickness(counts, peak, subtracted, below, scale_ev, code)
        values |= thickness
        if self.gap is not None:
            values |= self._gap(aligned, subtracted, peak, setting, code, vacuum)
        if self.search is not None:
            values |= self._loss_peaks(aligned, subtracted, code, vacuum)
        optics = (refractive_index, beam_kev, collection_mrad)
        values |= self._dielectric(aligned, peak, below, setting, optics, values)
        values["zero_loss"] = subtracted.zero_loss
        values["subtracted"] = subtracted.left
        values["spectra_reason"] = spectra_reason(code, aligned, len(MODELLED))
        if self.setting is not None and setting is not None:
            # The values stand, with the wide band that they have there; the pixel is flagged.
            code = or_else(
                code, first_reason([_outside(setting, self.setting.trained)], len(MODELLED))
            )
        values["reason"] = code
        return tuple(values[item.name] for item in self.outputs)

    def _describe(self) -> list[Output]:
        described = describe.peak_outputs("zero_loss_reason", error=True)
        described += describe.scalar("thickness", "t/λ", "thickness_reason")
        if self.gap is not None:
            described += describe.scalar("gap", "eV", "gap_reason")
            described += describe.scalar("exponent", "", "gap_reason")
        if self.search is not None:
            for name, unit in (("energy", "eV"), ("height", "counts"), ("width", "eV")):
                described += describe.scalar(
                    f"peak_{name}", unit, "peak_reason", shape=(self.peaks,)
                )
        described += describe.scalar("thickness_nm", "nm", "dielectric_reason")
        for name, unit in _DIELECTRIC.items():
            described.append(describe.spectrum(name, unit, "dielectric_reason", self.loss_grid))
        described += [
            describe.spectrum("zero_loss", "counts", "spectra_reason", self.grid),
            describe.spectrum("subtracted", "counts", "spectra_reason", self.grid),
            describe.reason("reason", (*MODELLED, *([] if self.setting is None else [_BEYOND]))),
            describe.reason("spectra_reason", (*MODELLED, describe.PARTLY)),
            describe.reason("zero_loss_reason", MEASURED),
            describe.reason("thickness_reason", (*MODELLED, *describe.VACUUM)),
            describe.reason("dielectric_reason", (*MODELLED, *describe.VACUUM, _NO_OPTICS)),
        ]
        if self.gap is not None:
            described.append(describe.reason("gap_reason", (*MODELLED, *_NO_GAP)))
        if self.search is not None:
            described.append(describe.reason("peak_reason", (*MODELLED, *_NO_PEAK)))
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
        return all_given(values, fault) | {"zero_loss_reason": fault}

    def _thickness(
        self,
        counts: Tensor,
        peak: Peak,
        subtracted: Subtracted,
        below: Tensor,
        scale_ev: Tensor,
        code: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The outputs on thickness, and where [batch] the beam met no specimen."""
        reach = range_above(counts, peak, scale_ev)
        # A curve says how much zero loss there is also in channels that were not measured.
        inside = (self.energy <= reach[:, None]).float()[:, :, None]
        zero_loss = below[:, None] + (subtracted.model @ inside)[..., 0]
        total = total_counts(counts, peak, scale_ev)
        ratios = log_ratio(total[:, None], zero_loss)
        value = ratios[:, 1]
        band = 0.5 * (ratios[:, 2] - ratios[:, 0])
        error = (band.square() + counting_variance(total, zero_loss[:, 1], self.noise)).sqrt()
        vacuum = value < (2.0 * error).clamp(min=THINNEST)
        why = thickness_reason(code, value, vacuum, reach, len(MODELLED))
        values = {"thickness": value, "thickness_error": error}
        return all_given(values, why) | {"thickness_reason": why}, vacuum

    def _gap(
        self,
        aligned: Tensor,
        subtracted: Subtracted,
        peak: Peak,
        setting: Tensor | None,
        code: Tensor,
        vacuum: Tensor,
    ) -> dict[str, Tensor]:
        assert self.gap is not None
        fit = self.gap(aligned, subtracted.left[:, 0], peak.counts, peak.place, setting)
        why = first_reason([vacuum & ~fit.found, ~fit.found, ~fit.inside], len(MODELLED))
        why = or_else(code, why)
        values = {}
        for name, interval in (("gap", fit.gap_ev), ("exponent", fit.exponent)):
            values[name] = interval[:, 1]
            values[f"{name}_error"] = 0.5 * (interval[:, 2] - interval[:, 0])
        return all_given(values, why) | {"gap_reason": why}

    def _loss_peaks(
        self, aligned: Tensor, subtracted: Subtracted, code: Tensor, vacuum: Tensor
    ) -> dict[str, Tensor]:
        assert self.search is not None
        found = self.search(aligned, subtracted.left)
        there = ~torch.isnan(found.energy_ev)
        # A peak without a width counts as given only in part.
        whole = (there & ~torch.isnan(found.width_ev)).all(1)
        none = ~there.any(1)
        why = or_else(code, first_reason([vacuum & none, none, ~whole], len(MODELLED)))
        values = {
            "peak_energy": found.energy_ev,
            "peak_energy_error": found.energy_error,
            "peak_height": found.height,
            "peak_height_error": found.height_error,
            "peak_width": found.width_ev,
            "peak_width_error": found.width_error,
        }
        return all_given(values, code) | {"peak_reason": why}

    def _dielectric(
        self,
        aligned: Tensor,
        peak: Peak,
        below: Tensor,
        setting: Tensor | None,
        optics: tuple[Tensor, Tensor, Tensor],
        known: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Thickness from the three curves of the band, for it is a map; spectra from replicas."""
        before = known["thickness_reason"]
        unknown = torch.isnan(optics[0]) | torch.isnan(optics[1]) | torch.isnan(optics[2])
        why = or_else(before, first_reason([unknown], len(MODELLED) + len(describe.VACUUM)))
        losses = self.losses(aligned, peak.counts, below, setting)
        nm = self.kramers_kronig(self.single(losses), *optics).thickness_nm
        # What is counting noise of t/λ is in the same proportion noise of the thickness.
        relative = known["thickness_error"] / known["thickness"].clamp(min=THINNEST)
        error = ((0.5 * (nm[:, 2] - nm[:, 0])).square() + (relative * nm[:, 1]).square()).sqrt()
        single = self.single(self.replica_losses(aligned, peak.counts, below, setting))
        found = self.kramers_kronig(single, *optics)
        step = self.loss_grid[1]
        return {
            "thickness_nm": given(nm[:, 1], why),
            "thickness_nm_error": given(error, why),
            "single_scattering": given(band_of(single) / step, before),
            "eps_real": given(band_of(found.eps_real), why),
            "eps_imag": given(band_of(found.eps_imag), why),
            "surface_loss": given(band_of(found.surface_loss), why),
            "dielectric_reason": why,
        }


def _outside(setting: Tensor, limits: tuple[float, float]) -> Tensor:
    return (setting < limits[0]) | (setting > limits[1])


def _setting_input(setting: Setting | None) -> tuple[Parameter, ...]:
    """The further input of a table whose curves depend on a setting; the beam energy is there."""
    if setting is None or setting.name == "beam_kev":
        return ()
    low, high = float(setting.nodes[0]), float(setting.nodes[-1])
    trained = f"{setting.trained[0]:g} to {setting.trained[1]:g}"
    parameter = Parameter(
        name=setting.name,
        unit="s" if setting.name == "dwell_s" else "",
        description=f"setting that the zero-loss peak depends on, trained from {trained}",
        source="dwell_s" if setting.name == "dwell_s" else "given",
        low=low,
        high=high,
    )
    return (parameter,)


def build_graph(table: ZeroLossTable, search_ev: tuple[float, float] = SEARCH_EV) -> LowLossGraph:
    """The graph of a trained table, ready to export."""
    return LowLossGraph(table, search_ev).eval()
