"""The graph of the quantification package."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from zeroloss.models.manifest import Output, Parameter
from zeroloss_export.networks.low_loss.faults import first_reason
from zeroloss_export.networks.quantification.cross_sections import BEAM_KEV, Compressed
from zeroloss_export.networks.quantification.design import EXPONENTS, SLOTS, Design, Prepared
from zeroloss_export.networks.quantification.fit import fit
from zeroloss_export.networks.quantification.near_edge import LeftOut

PARAMETERS: Final = (
    Parameter(
        name="beam_kev",
        unit="keV",
        description="beam energy",
        source="beam_kev",
        low=BEAM_KEV[0],
        high=BEAM_KEV[1],
    ),
    Parameter(
        name="convergence_mrad",
        unit="mrad",
        description="convergence semi-angle, 0 for a parallel beam",
        source="convergence_mrad",
        low=0.0,
        high=100.0,
    ),
    Parameter(
        name="collection_mrad",
        unit="mrad",
        description="collection semi-angle of the spectrometer",
        source="collection_mrad",
        low=0.2,
        high=200.0,
    ),
    Parameter(
        name="exposure_ratio",
        description="exposure of the core loss over that of the low loss",
        source="given",
        low=1e-6,
        high=1e6,
    ),
)
FRACTION_CODES: Final = (
    "given",
    "beam energy or angles not known",
    "no edge of an element in the range",
    "too few channels",
    "no counts",
    "the fit failed",
    "none of the elements found",
)
DENSITY_CODES: Final = (
    *FRACTION_CODES[:6],
    "no low loss with a zero-loss peak",
    "exposure ratio not known",
)
PREPARED: Final = Prepared._fields
_FEWEST: Final = 20.0
"""Channels that a fit needs beside its columns."""
_SHARE: Final = 0.6
"""Of the channels that a fit wants, measured at least."""
_FOUND: Final = 3.0
"""Standard deviations by which the elements together are above nothing."""


class QuantifyGraph(nn.Module):
    """Inputs of the package to the tensors of ``outputs``; see ``Design.forward`` for their shapes.

    ``prepare`` and ``answer`` are its two halves.
    """

    def __init__(
        self,
        table: Compressed,
        exponents: tuple[float, ...] = EXPONENTS,
        left_out: LeftOut | None = None,
        **options: float,
    ) -> None:
        super().__init__()
        self.prepare = Design(table, exponents, left_out, **options)
        self.outputs: tuple[Output, ...] = (
            *_selected("areal_density", "atoms/nm^2", "areal_density_why"),
            *_selected("atomic_fraction", "%", "why"),
            Output(name="fit_chi2", kind="scalar", reason="why"),
            Output(name="why", kind="label", labels=FRACTION_CODES),
            Output(name="areal_density_why", kind="label", labels=DENSITY_CODES),
        )

    def forward(self, counts: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """The outputs in the order of ``outputs``, then the prepared tensors."""
        prepared = self.prepare(counts, *others)
        return (*self.answer(counts, prepared), *prepared)

    def answer(self, counts: Tensor, prepared: Prepared) -> tuple[Tensor, ...]:
        """counts [batch, channel] with prepared tensors of batch or 1 rows."""
        fitted = fit(counts, prepared)
        unknown, no_low_loss, no_ratio = (
            (prepared.fault[:, index] > 0.0).expand(counts.shape[0]) for index in range(3)
        )
        lacking = prepared.selected - prepared.quantified
        lost = (lacking.sum(1) > 0.0) | (prepared.selected.sum(1) == 0.0)
        few = fitted.measured < _SHARE * fitted.channels
        few = few | (fitted.channels < _FEWEST + prepared.columns.shape[1])
        empty = fitted.level <= 0.0
        amount = fitted.amount * prepared.scale
        spread = prepared.scale[:, :, None] * prepared.scale[:, None]
        covariance = fitted.covariance * spread
        deviation = fitted.deviation * prepared.scale
        total = amount.sum(1, keepdim=True)
        doubt = covariance.sum((1, 2)).clamp(min=0.0).sqrt()
        failed = ~torch.isfinite(total[:, 0] + doubt + fitted.chi2)
        nothing = total[:, 0] <= _FOUND * doubt
        bad = [unknown, lost.expand(counts.shape[0]), few, empty, failed]
        code = first_reason([*bad, nothing])
        density_code = first_reason([*bad, no_low_loss, no_ratio])
        stands = torch.where(
            (unknown | few | empty | failed)[:, None], torch.zeros_like(amount), prepared.quantified
        )
        held = torch.where(nothing[:, None], torch.zeros_like(stands), stands)
        share = amount / torch.where(total > 0.0, total, torch.ones_like(total))
        # df = (dN - f sum dN) / sum N with all covariances; what is held at 0 has its own error.
        held_back = torch.where(amount > 0.0, 0.0, deviation.square() * prepared.quantified)
        whole = covariance + held_back[:, :, None] * torch.eye(SLOTS)
        along = whole.sum(2)
        variance = (whole * torch.eye(SLOTS)).sum(2) - 2.0 * share * along
        variance = variance + share.square() * along.sum(1, keepdim=True)
        error = variance.clamp(min=0.0).sqrt() / torch.where(total > 0.0, total, 1.0)
        area = torch.where((no_low_loss | no_ratio)[:, None], torch.zeros_like(stands), stands)
        chi2 = torch.where(
            unknown | few | empty | failed, torch.full_like(fitted.chi2, torch.nan), fitted.chi2
        )
        chi2 = torch.where(
            lost.expand(counts.shape[0])
            & (prepared.quantified.sum(1) == 0.0).expand(counts.shape[0]),
            torch.full_like(chi2, torch.nan),
            chi2,
        )
        return (
            _where(area, amount * prepared.per_area[:, None]),
            _where(area, deviation * prepared.per_area[:, None]),
            _where(held, 100.0 * share),
            _where(held, 100.0 * error),
            chi2,
            code,
            density_code,
        )


def _where(stands: Tensor, value: Tensor) -> Tensor:
    return torch.where(stands > 0.0, value, torch.full_like(value, torch.nan))


def _selected(name: str, unit: str, why: str) -> tuple[Output, Output]:
    common = {"kind": "scalar", "unit": unit, "reason": why, "shape": (SLOTS,), "selected": True}
    return (
        Output(name=name, uncertainty=f"{name}_error", **common),
        Output(name=f"{name}_error", **common),
    )
