"""The graph of the quantification package."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from zeroloss.models.manifest import Output, Parameter
from zeroloss_export.networks.low_loss.faults import first_reason
from zeroloss_export.networks.quantification.cross_sections import BEAM_KEV, Compressed
from zeroloss_export.networks.quantification.design import (
    CUT,
    EXPONENTS,
    NO_EDGE,
    NOT_APART,
    SLOTS,
    Design,
    Prepared,
)
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
_COMMON: Final = (
    "given",
    "beam energy or angles not known",
    "no edge in the range",
    "edge cut by an end of the range",
    "not separable from another element",
    "too few channels",
    "no counts",
    "the fit failed",
    "edge not measured",
)
FRACTION_CODES: Final = (*_COMMON, "none of the elements found", "held at 0")
"""Of ``why``, where the last one never comes, and of ``element_why``."""
CODE_OF_WHY: Final = "code of why"
DENSITY_CODES: Final = (
    *_COMMON[:2],
    "no low loss with a zero-loss peak",
    "exposure ratio not known",
    *_COMMON[2:],
)
"""What all elements lack comes before what one of them does."""
PREPARED: Final = Prepared._fields
_FEWEST: Final = 20.0
"""Channels that a fit needs beside its columns."""
_SHARE: Final = 0.6
"""Of the channels that a fit wants, measured at least."""
_FOUND: Final = 3.0
"""Standard deviations by which the elements together are above nothing."""
_TAIL: Final = 0.5
"""Relative standard deviation of what is extrapolated of the low loss."""


class QuantifyGraph(nn.Module):
    """Inputs of the package to the tensors of ``outputs``; see ``Design.forward`` for their shapes.

    ``prepare`` and ``answer`` are its two halves.
    """

    def __init__(
        self,
        table: Compressed,
        exponents: tuple[float, ...] = EXPONENTS,
        left_out: LeftOut | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.prepare = Design(table, exponents, left_out, **options)
        self.outputs: tuple[Output, ...] = (
            *_selected("areal_density", "atoms/nm^2", "areal_density_why"),
            *_selected("atomic_fraction", "%", "why"),
            Output(name="fit_chi2", kind="scalar", reason="why"),
            Output(
                name="element_why", kind="scalar", unit=CODE_OF_WHY, shape=(SLOTS,), selected=True
            ),
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
        n = counts.shape[0]
        lacks = [(prepared.lack == code).expand(n, -1) for code in (NO_EDGE, CUT, NOT_APART)]
        used = prepared.selected > 0.0
        taken = used & (prepared.lack != NO_EDGE) & (prepared.lack != CUT)
        unseen = taken & (fitted.seen == 0.0)
        lost = [lack.any(1) for lack in lacks]
        lost[0] = lost[0] | (prepared.selected.sum(1) == 0.0)
        few = fitted.measured < _SHARE * fitted.channels
        few = few | (fitted.channels < _FEWEST + prepared.columns.shape[1])
        empty = fitted.level <= 0.0
        # What cannot be told apart is in the sum all the same; what was not measured is not.
        scale = prepared.scale * fitted.seen
        amount = fitted.amount * scale
        covariance = fitted.covariance * (scale[:, :, None] * scale[:, None])
        deviation = fitted.deviation * scale
        total = amount.sum(1, keepdim=True)
        doubt = covariance.sum((1, 2)).clamp(min=0.0).sqrt()
        failed = ~torch.isfinite(total[:, 0] + doubt + fitted.chi2)
        nothing = total[:, 0] <= _FOUND * doubt
        bad = [*lost, few, empty, failed, unseen.any(1)]
        code = first_reason([unknown, *bad, nothing])
        density_code = first_reason([unknown, no_low_loss, no_ratio, *bad])
        of_pixel = [item[:, None] for item in (unknown, few, empty, failed, nothing)]
        element_code = first_reason(
            [of_pixel[0], *lacks, *of_pixel[1:4], unseen, of_pixel[4], used & (amount <= 0.0)]
        )
        stands = used & ((element_code == 0.0) | (element_code >= len(_COMMON)))
        held = stands & ~nothing[:, None]
        share = amount / torch.where(total > 0.0, total, torch.ones_like(total))
        # df = (dN - f sum dN) / sum N with all covariances; what is held at 0 has its own error.
        held_back = torch.where((amount <= 0.0) & stands, deviation.square(), 0.0)
        whole = covariance + held_back[:, :, None] * torch.eye(SLOTS)
        along = whole.sum(2)
        variance = (whole * torch.eye(SLOTS)).sum(2) - 2.0 * share * along
        variance = variance + share.square() * along.sum(1, keepdim=True)
        error = variance.clamp(min=0.0).sqrt() / torch.where(total > 0.0, total, 1.0)
        area = stands & ~(no_low_loss | no_ratio)[:, None]
        tail = _TAIL * prepared.beyond[:, None] * amount
        doubt = (deviation.square() + tail.square()).sqrt()
        spoilt = unknown | few | empty | failed | ~taken.any(1)
        return (
            _where(area, amount * prepared.per_area[:, None]),
            _where(area, doubt * prepared.per_area[:, None]),
            _where(held, 100.0 * share),
            _where(held, 100.0 * error),
            torch.where(spoilt, torch.nan, fitted.chi2),
            element_code,
            code,
            density_code,
        )


def _where(stands: Tensor, value: Tensor) -> Tensor:
    return torch.where(stands, value, torch.nan)


def _selected(name: str, unit: str, why: str) -> tuple[Output, Output]:
    common = {"kind": "scalar", "unit": unit, "reason": why, "shape": (SLOTS,), "selected": True}
    return (
        Output(name=name, uncertainty=f"{name}_error", **common),
        Output(name=f"{name}_error", **common),
    )
