"""The columns of the fit: laws for the background, cross sections of the elements."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.quantification.bins import into_bins
from zeroloss_export.networks.quantification.cross_sections import Compressed, CrossSections
from zeroloss_export.networks.quantification.kernel import (
    BEFORE,
    BLOCK,
    REACH,
    Convolution,
    LowLossKernel,
)
from zeroloss_export.networks.quantification.near_edge import NOWHERE_EV, LeftOut, counting, zones
from zeroloss_export.networks.quantification.nnls import solve

SLOTS: Final = 8
GRID: Final = (48.0, 1.0, 48 * BLOCK)
"""First energy, step in eV and points on which cross sections are convolved."""
WINDOW_EV: Final = (75.0, 3100.0)
EXPONENTS: Final = (1.0, 2.075, 3.15, 4.225, 5.3)
"""Of the laws of the background."""
USUAL: Final = (1, 3)
"""Those of them that a background is mostly made of."""
CURVATURE: Final = 1.075**2 / 8.0
"""How much the laws fall below power laws, in ln per square of ln E: as much as the mean of two
neighbouring ones lies above."""
BELOW: Final = 0.7
"""The fit begins at this share of the lowest onset of the selected elements in the range."""
ROOM_EV: Final = (15.0, 15.0)
"""What an edge needs in the range before its onset and behind what is left out."""
STRUCTURE: Final = (0.05, 0.08)
"""Relative standard deviation of an edge about its cross section right behind the onset; with a low
loss, and without, where nobody knows what plural scattering took there."""
STRUCTURE_EV: Final = (100.0, 10.0)
"""How it falls with energy, and over what energies it is correlated."""
SPILL: Final = 0.5
"""Relative standard deviation of an edge about its cross section within what is left out, in the
mean over SPILL_EV: plural scattering takes it to where the fit looks."""
SPILL_EV: Final = 25.0
MISFIT: Final = 0.001
"""Relative standard deviation of a background about what the laws can do."""
MISFIT_LOG: Final = 0.1
"""Over what ln E it is correlated."""
APART: Final = 0.003
"""Of what a column has beyond the background, the share that no other element's has, at least."""
_BUMPS: Final = 16
_RIDGE: Final = 1e-7
_REFERENCE_EV: Final = 500.0
_FALL: Final = 3.0
_NM2: Final = 1e-10
"""Square nanometres of a barn."""
NO_EDGE, CUT, NOT_APART = 1, 2, 3
"""Why an element cannot be told."""


class Prepared(NamedTuple):
    """What the fit needs beside the counts.

    nominal   [batch, channel]             nominal counts where the fit looks, else 0
    full      [batch, bin]                 their sums
    size      [batch, bin]                 how many of its channels the fit looks at
    columns   [batch, column, bin]         background and elements, float64
    products  [batch, pair, bin]           of two columns, the lower triangle row by row, float64
    scale     [batch, slot]                1 / norm of the element columns in barn/eV
    selected  [batch, slot]                1 where the slot is used
    lack      [batch, slot]                why an element cannot be told: 0 where it can, else one
                                           of NO_EDGE, CUT, NOT_APART
    structure [batch, slot, pair of slots]  what structure of one element's edge, in units of its
                                           amount squared, adds to the covariance of the amounts
    misfit    [batch, pair of slots]       what the background adds, for one count a channel
    per_area  [batch]                      1 / (counts of the low loss in nm^-2), NaN without
    beyond    [batch]                      share of the low loss that is extrapolated
    fault     [batch, 3]                   angles not known, no low loss, ratio not known: 1 or 0
    """

    nominal: Tensor
    full: Tensor
    size: Tensor
    columns: Tensor
    products: Tensor
    scale: Tensor
    selected: Tensor
    lack: Tensor
    structure: Tensor
    misfit: Tensor
    per_area: Tensor
    beyond: Tensor
    fault: Tensor


class Design(nn.Module):
    """Builds the columns from the axis, the microscope and the low loss; never sees the counts."""

    grid: Tensor
    zones: Tensor
    counting: Tensor
    exponents: Tensor

    def __init__(
        self,
        table: Compressed,
        exponents: tuple[float, ...] = EXPONENTS,
        left_out: LeftOut | None = None,
        below: float = BELOW,
        structure: tuple[float, float] = STRUCTURE,
        misfit: float = MISFIT,
        spill: float = SPILL,
    ) -> None:
        super().__init__()
        self.cross_sections = CrossSections(table)
        self.kernel = LowLossKernel(GRID[1])
        self.convolve = Convolution()
        self.below = below
        self.structure = structure
        self.misfit = misfit
        self.spill = spill
        self.before = (left_out or LeftOut()).before
        first, step, points = GRID
        self.register_buffer("grid", first + step * torch.arange(points))
        self.register_buffer("zones", zones(left_out or LeftOut()))
        self.register_buffer("counting", counting())
        self.register_buffer("exponents", torch.tensor(exponents))

    def forward(
        self,
        counts: Tensor,
        offset_ev: Tensor,
        scale_ev: Tensor,
        beam_kev: Tensor,
        convergence_mrad: Tensor,
        collection_mrad: Tensor,
        exposure_ratio: Tensor,
        selection: Tensor,
        low_loss_counts: Tensor,
        low_loss_offset_ev: Tensor,
        low_loss_scale_ev: Tensor,
    ) -> Prepared:
        """Of ``counts`` [batch, channel] only the shape is used."""
        # Of the shape, which the daemon can tell apart from a use of the counts.
        channel = torch.arange(counts.shape[1], dtype=torch.float32)
        energy = offset_ev[:, None] + scale_ev[:, None] * channel
        unknown = torch.isnan(beam_kev) | torch.isnan(convergence_mrad)
        unknown = unknown | torch.isnan(collection_mrad)
        scope = [
            torch.where(unknown, torch.full_like(value, usual), value)
            for value, usual in (
                (beam_kev, 200.0),
                (convergence_mrad, 1.0),
                (collection_mrad, 10.0),
            )
        ]
        chosen = selection.long().clamp(min=0)
        used = (selection >= 0.0).float()[None]
        zone = self.zones[chosen]
        begin = energy[:, :1].clamp(min=WINDOW_EV[0])
        end = energy[:, -1:].clamp(max=WINDOW_EV[1])
        inside = (zone[None, :, :, 0] >= begin[:, None] + ROOM_EV[0]) & (
            zone[None, :, :, 1] <= end[:, None] - ROOM_EV[1]
        )
        inside = inside & (self.counting[chosen] > 0.0)[None]
        fitted = inside.any(2).float() * used
        lowest = (
            torch.where(
                inside & (used > 0.0)[:, :, None],
                zone[None, :, :, 0],
                torch.full_like(zone[None, :, :, 0], 1e6),
            )
            .amin(2)
            .amin(1, keepdim=True)
        )
        allowed = (energy >= begin) & (energy <= end) & (energy >= self.below * lowest)
        for slot in range(SLOTS):
            for group in range(zone.shape[1]):
                low, high = zone[slot, group, 0], zone[slot, group, 1]
                hidden = (energy >= low) & (energy <= high) & (used[:, slot : slot + 1] > 0.0)
                allowed = allowed & ~hidden
        seen = allowed.float()
        size = into_bins(seen)
        nominal = seen * (energy.clamp(min=WINDOW_EV[0]) / _REFERENCE_EV) ** -_FALL
        full = into_bins(nominal)
        weight = torch.where(size > 0.0, 1.0 / full.clamp(min=1e-12), 0.0)
        kernel = self.kernel(low_loss_counts, low_loss_offset_ev, low_loss_scale_ev)
        rows = self._atoms(selection, scope)
        atoms = self._convolved(rows, kernel.shape, energy)
        whole = torch.cat([self._background(energy, allowed), atoms], 1) * seen[:, None]
        laws = len(self.exponents)
        kept = torch.cat([torch.ones_like(fitted[:, :1]).expand(-1, laws), fitted], 1)
        binned = into_bins(whole.flatten(0, 1)).reshape(-1, laws + SLOTS, size.shape[1])
        binned = binned * kept[:, :, None]
        norm = (binned.square() * weight[:, None]).sum(2).sqrt()
        columns = (binned / torch.where(norm > 0.0, norm, 1.0)[:, :, None]).double()
        row, column = torch.tril_indices(laws + SLOTS, laws + SLOTS)
        products = columns.index_select(1, row) * columns.index_select(1, column)
        onset = torch.where(inside, zone[None, :, :, 0], NOWHERE_EV).amin(2) + self.before
        middle = into_bins(seen * energy) / size.clamp(min=1.0)
        single = columns.float()
        known, alone = self.structure
        depart = torch.where(kernel.there, known, alone)[:, None, None]
        bumps = self._edge_bumps(middle, depart * single[:, laws:], onset)
        spill = self._spill(middle, rows, kernel.shape, onset) * size[:, None]
        spill = spill / torch.where(norm > 0.0, norm, 1.0)[:, laws:, None]
        level = full.sum(1, keepdim=True) / size.sum(1, keepdim=True).clamp(min=1.0)
        below = self._background_bumps(middle, full / level.clamp(min=1e-12))
        (moved, spilt, below), apart = _moved((bumps.flatten(1, 2), spill, below), single, weight)
        moved = torch.cat([moved.reshape(-1, SLOTS, _BUMPS, SLOTS), spilt[:, :, None]], 2)
        structure = (moved.transpose(2, 3) @ moved).flatten(2)
        misfit = (below.transpose(1, 2) @ below).flatten(1)
        begun = zone[None, :, :, 0] + self.before
        begun = (begun >= begin[:, None]) & (begun <= end[:, None])
        begun = (begun & (self.counting[chosen] > 0.0)[None]).any(2)
        hidden = (apart < APART) | (norm[:, laws:] == 0.0)
        lack = torch.where(hidden, float(NOT_APART), 0.0)
        lack = torch.where(fitted > 0.0, lack, torch.where(begun, float(CUT), float(NO_EDGE)))
        norm = norm[:, laws:]
        ratio = exposure_ratio * kernel.total * scale_ev * _NM2
        fault = torch.stack(
            [unknown.float(), (~kernel.there).float(), torch.isnan(exposure_ratio).float()], 1
        )
        return Prepared(
            nominal,
            full,
            size,
            columns,
            products,
            torch.where(norm > 0.0, 1.0 / norm, torch.zeros_like(norm)),
            used.expand_as(lack),
            lack * used,
            structure,
            misfit,
            1.0 / ratio,
            kernel.beyond,
            fault,
        )

    def _background(self, energy: Tensor, allowed: Tensor) -> Tensor:
        """Laws [batch, law, channel], 1 in the middle of the fit."""
        log = energy.clamp(min=WINDOW_EV[0]).log()
        first = torch.where(allowed, log, 1e3).amin(1, keepdim=True)
        last = torch.where(allowed, log, 0.0).amax(1, keepdim=True)
        away = log - 0.5 * (first.clamp(max=9.0) + last)
        bent = CURVATURE * away.square()
        return (-self.exponents[:, None] * away[:, None] - bent[:, None]).exp()

    def _edge_bumps(self, energy: Tensor, edges: Tensor, onset: Tensor) -> Tensor:
        """How edges [batch, slot, bin] may vary behind the onset [batch, slot]: [..., bump, bin].

        By as much as they are: a Gaussian process of independent bumps that follow one another.
        energy [batch, bin].
        """
        above = energy[:, None] - onset[:, :, None]
        fall, width = STRUCTURE_EV
        size = edges * (-above.clamp(min=0.0) / fall).exp()
        distance = (above / width)[:, :, None] - torch.arange(_BUMPS)[:, None] - 0.5
        return size[:, :, None] * (-distance.square()).exp()

    def _spill(self, energy: Tensor, rows: Tensor, kernel: Tensor, onset: Tensor) -> Tensor:
        """What one more edge within SPILL_EV of the onset scatters to, [batch, slot, bin].

        In barn/eV, ``spill`` times; energy [batch, bin], rows [batch, slot, point] not convolved.
        """
        first, step, points = GRID
        width = round(SPILL_EV / step)
        behind = ((onset - first) / step).ceil().clamp(0.0, points - width).long()
        behind = (behind[:, :, None] + torch.arange(width)).expand(rows.shape[0], -1, -1)
        height = rows.gather(2, behind).mean(2, keepdim=True)
        within = torch.cat([torch.zeros_like(kernel[:, :1]), kernel.cumsum(1)], 1)

        def scattered(above: Tensor) -> Tensor:
            """Share [batch, slot, bin] that loses less than this."""
            place = (above / step + (BEFORE + 0.5)).clamp(0.0, REACH - 0.001)
            low = place.floor()
            index = low.long().flatten(1)
            before, after = within.gather(1, index), within.gather(1, index + 1)
            return before.reshape(low.shape) + (place - low) * (after - before).reshape(low.shape)

        above = energy[:, None] - onset[:, :, None]
        return self.spill * height * (scattered(above) - scattered(above - SPILL_EV))

    def _background_bumps(self, energy: Tensor, background: Tensor) -> Tensor:
        """How a background [batch, bin] may vary, [batch, bump, bin]: as edges do, over ln E."""
        first, last = (math.log(end) / MISFIT_LOG for end in WINDOW_EV)
        place = energy.clamp(min=WINDOW_EV[0]).log() / MISFIT_LOG
        distance = place[:, None] - torch.arange(round(last - first))[:, None] - first - 0.5
        return self.misfit * background[:, None] * (-distance.square()).exp()

    def _atoms(self, selection: Tensor, scope: list[Tensor]) -> Tensor:
        """Cross sections [batch, slot, point] on the grid in barn/eV."""
        coeff = self.cross_sections(selection, *scope)
        spectra = self.cross_sections.on_grid(selection, self.grid)
        rows: Tensor = (coeff.transpose(0, 1) @ spectra).transpose(0, 1)
        return rows

    def _convolved(self, rows: Tensor, kernel: Tensor, energy: Tensor) -> Tensor:
        """Cross sections on the grid at the energies of channels, [batch, slot, channel]."""
        smooth = self.convolve(rows, kernel)
        first, step, points = GRID
        place = ((energy - first) / step).clamp(0.0, points - 1.001)
        low = place.floor()
        part = (place - low)[:, None]
        index = low.long()[:, None].expand(-1, SLOTS, -1)
        before, after = smooth.gather(2, index), smooth.gather(2, index + 1)
        between: Tensor = before + part * (after - before)
        return between


def _moved(
    bumps: tuple[Tensor, ...], columns: Tensor, weight: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """What bumps [batch, bump, bin] do to the amounts, each [batch, bump, slot].

    In a fit under the nominal weights with the usual laws. And of what every element has beyond
    these laws, the share [batch, slot] that it has beyond the other elements too: 1 over the
    inflation of its variance (D. W. Marquardt, Technometrics 12, 591 (1970)).
    """
    free = torch.cat([columns[:, list(USUAL)], columns[:, -SLOTS:]], 1)
    heavy = (free * weight[:, None]).transpose(1, 2)
    seen = torch.cat([item @ heavy for item in bumps], 1)
    matrix = free @ heavy
    # Of an element without an edge the column is empty: its answer is 0.
    unit = torch.eye(matrix.shape[1])
    empty = 1.0 - (matrix * unit).sum(2).clamp(max=1.0)
    matrix = matrix + unit * (empty + _RIDGE)[:, None]
    matrix = matrix.permute(1, 2, 0).double()
    slot = torch.eye(SLOTS, dtype=torch.float64)[:, :, None]
    none = torch.zeros(len(USUAL), SLOTS, 1, dtype=torch.float64)
    unit = torch.cat([none, slot]).expand(-1, -1, matrix.shape[2])
    moved = solve(matrix, torch.cat([seen.permute(2, 1, 0).double(), unit], 1))[-SLOTS:]
    variance = (moved[:, -SLOTS:] * slot).sum(1)
    laws, edges = slice(len(USUAL)), slice(-SLOTS, None)
    explained = solve(matrix[laws, laws], matrix[laws, edges]) * matrix[laws, edges]
    apart = 1.0 / (variance * (1.0 + _RIDGE - explained.sum(0)).clamp(min=_RIDGE))
    sizes = [*(item.shape[1] for item in bumps), SLOTS]
    parts = torch.split(moved.float().permute(2, 1, 0), sizes, 1)
    return parts[:-1], apart.float().transpose(0, 1)
