"""Labelled spectra by the recipe of Annys et al. (2023), drawn in batches.

The order is the paper's: edges with generic fine structure are summed and convolved with the low
loss, a power law is added that gives one of the edges the drawn jump ratio, counts are Poisson
distributed, and all moves by the instrument's shift. An edge is drawn only where the range holds
it, from 10 eV before its first to 25 eV behind its last major onset; nothing reaches into the range
from outside. The range goes to 3272 eV in the table while the axis ends at 3071 eV: ends beyond the
axis are cut off there. Channels outside the range are not measured (NaN); the paper's networks see
them as zeros.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.compositions import Compositions, CompositionSampler
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.edge_bank import Microscope
from zeroloss_export.simulate.paper.edges import PaperEdges, place
from zeroloss_export.simulate.paper.low_loss import SIZE, PaperLowLoss
from zeroloss_export.simulate.paper.recipe import PaperRecipe
from zeroloss_export.simulate.paper.structure import CHANNELS, generic_structure
from zeroloss_export.simulate.spectra import ELEMENT_COUNT, LabelledSpectra
from zeroloss_export.simulate.splits import HeldSampler, Split

AXIS_CHANNELS: Final = 3072
"""0 to 3071 eV, one channel for each eV."""

_AT_ONCE: Final = 256
_EXACT_BELOW: Final = 64.0


@dataclass(frozen=True, slots=True)
class PaperSpectra:
    """Spectra with what they were drawn from.

    quantity [batch, 80]: atoms of an element per atom of all elements seen in the spectrum.
    conditions: name to [batch]; energies in eV, angles in mrad, ``query`` is an atomic number.
    """

    spectra: LabelledSpectra
    quantity: Tensor
    conditions: Mapping[str, Tensor]


class PaperSimulator:
    """Draws labelled spectra; the same seed gives the same spectra on the same kind of machine.

    ``split`` says from which formulas: no formula is in two splits. Spectra come on ``device``.
    """

    def __init__(
        self,
        table: CrossSectionTable,
        recipe: PaperRecipe,
        seed: int,
        device: str | torch.device = "cpu",
        split: Split = "train",
    ) -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.draw = Draw(seed, self.device)
        # Formulas are drawn on the CPU, few numbers each; what follows on the device.
        with self._formulas():
            self.sampler = HeldSampler(paper_formulas(recipe, split), split)
            self.edges = PaperEdges(table, self.device)
        with self._spectra():
            self.low_loss = PaperLowLoss(recipe)
            self.beams_kev = torch.tensor(recipe.beam_kev)
            self.amplitudes = torch.tensor(recipe.amplitude)
            self.energy_ev = torch.arange(AXIS_CHANNELS).float()

    def batch(self, count: int) -> LabelledSpectra:
        """Draw ``count`` spectra, each of a specimen of its own."""
        return self.spectra_of(self.specimens(count)).spectra

    def specimens(self, count: int, query: Tensor | None = None) -> Compositions:
        """Formulas of the split, around the atomic numbers ``query`` [count] if given."""
        with self._formulas():
            return self.sampler.sample(Draw(self._number()), count, query)

    def _formulas(self) -> contextlib.AbstractContextManager[object]:
        """Tensors are made on the CPU; there is nothing to say where all of them are."""
        return contextlib.nullcontext() if self.device.type == "cpu" else torch.device("cpu")

    def _spectra(self) -> contextlib.AbstractContextManager[object]:
        # On the CPU the context would only cost time, a fifth of the whole.
        return contextlib.nullcontext() if self.device.type == "cpu" else self.device

    def _number(self) -> int:
        return int(self.draw.integers(0, 1 << 62, 1))

    @torch.no_grad()
    def spectra_of(self, specimens: Compositions) -> PaperSpectra:
        """One spectrum of every specimen."""
        draw = Draw(self._number(), self.device)
        query = specimens.atomic_number.gather(1, specimens.query[:, None])[:, 0]
        inputs = (specimens.atomic_number, specimens.fraction, query)
        batches = [torch.split(item.to(self.device), _AT_ONCE) for item in inputs]
        with self._spectra():
            parts = [self._some(a, b, c, draw) for a, b, c in zip(*batches, strict=True)]
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _some(self, numbers: Tensor, fraction: Tensor, query: Tensor, draw: Draw) -> PaperSpectra:
        recipe, edges, count = self.recipe, self.edges, len(query)
        start, end = self._range(query, draw)
        scope = Microscope(
            self.beams_kev[draw.integers(0, len(self.beams_kev), count)],
            draw.uniform(*recipe.convergence_mrad, count),
            draw.uniform(*recipe.collection_mrad, count),
        )
        row, group, amount = self._edges_in_range(numbers, fraction, start, end)
        value = edges.draw(
            group, Microscope(scope.beam_kev[row], scope.alpha_mrad[row], scope.beta_mrad[row])
        )
        peak = value.amax(1)
        structure = generic_structure(len(row), recipe, draw)
        near = value[:, :CHANNELS]
        near.addcmul_(structure, peak[:, None]).clamp_(min=0.0)
        chosen = self._chosen(row, count, draw)
        value *= amount[:, None]
        largest = recipe.instrumental_shift_ev
        shift = draw.integers(-largest, largest + 1, count)
        largest = recipe.chemical_shift_ev
        chemical = draw.integers(-largest, largest + 1, len(row))
        onset = edges.onset[group].round().long() + chemical
        total = place(value, row, onset + shift[row], count, SIZE)
        total, thickness = self.low_loss.scatter(total, draw)
        total = total[:, :AXIS_CHANNELS]
        exponent = draw.uniform(*recipe.exponent, count)
        amplitude = self.amplitudes[draw.integers(0, len(self.amplitudes), count)]
        jump = draw.uniform(*recipe.jump_ratio, count)
        # The power law is 1 at the start of the range, on the true axis.
        below = amplitude * (onset[chosen] / start).pow(-exponent)
        gain = jump * below / (peak[chosen] * amount[chosen]).clamp(min=1e-30)
        true = (self.energy_ev - shift[:, None]).clamp(min=1.0)
        mean = torch.exp(-exponent[:, None] * (true / start[:, None]).log()) * amplitude[:, None]
        mean.addcmul_(total, gain[:, None]).clamp_(min=0.0)
        seen = (self.energy_ev >= (start + shift)[:, None]) & (
            self.energy_ev <= (end + shift)[:, None]
        )
        counts = torch.where(seen, poisson(mean * seen, draw), torch.nan)
        present = torch.zeros(count, ELEMENT_COUNT)
        present[row, edges.element[group]] = 1.0
        quantity = torch.zeros(count, ELEMENT_COUNT)
        quantity[row, edges.element[group]] = amount
        quantity /= quantity.sum(1, keepdim=True)
        zero = torch.zeros(count)
        conditions = {
            "query": query.float(),
            "beam_kev": scope.beam_kev,
            "convergence_mrad": scope.alpha_mrad,
            "collection_mrad": scope.beta_mrad,
            "start_ev": start,
            "end_ev": end.clamp(max=AXIS_CHANNELS - 1),
            "thickness": thickness,
            "exponent": exponent,
            "amplitude": amplitude,
            "jump_ratio": jump,
            "instrumental_shift_ev": shift.float(),
        }
        spectra = LabelledSpectra(counts, zero, zero + 1, present, torch.ones_like(present))
        return PaperSpectra(spectra, quantity, conditions)

    def _range(self, query: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """First and last energy [batch] of ranges that show one edge set of the query element."""
        recipe, edges, count = self.recipe, self.edges, len(query)
        groups = edges.groups_of[query]
        second = (groups[:, 1] >= 0) & draw.chance(0.5, count)
        group = torch.where(second, groups[:, 1], groups[:, 0])
        latest = edges.onset[group].floor() - recipe.before_edge_ev
        earliest = edges.last_onset[group].ceil() + recipe.after_edge_ev
        start = recipe.start_ev + _whole(latest - recipe.start_ev, draw)
        return start, earliest + _whole(recipe.end_ev - earliest, draw)

    def _edges_in_range(
        self, numbers: Tensor, fraction: Tensor, start: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Row, group and amount [n] of all edges that are drawn, by rising group."""
        recipe, edges = self.recipe, self.edges
        group = edges.groups_of[numbers].flatten(1)
        amount = fraction.repeat_interleave(2, 1)
        known = group.clamp(min=0)
        active = (group >= 0) & (amount > 0)
        active &= edges.onset[known] - recipe.before_edge_ev >= start[:, None]
        active &= edges.last_onset[known] + recipe.after_edge_ev <= end[:, None]
        row, column = torch.nonzero(active, as_tuple=True)
        group, amount = group[row, column], amount[row, column]
        order = torch.argsort(group, stable=True)
        return row[order], group[order], amount[order]

    @staticmethod
    def _chosen(row: Tensor, count: int, draw: Draw) -> Tensor:
        """For every spectrum one of its edges, evenly; every spectrum has one."""
        lot = draw.uniform(0.0, 1.0, len(row))
        order = torch.argsort(row + 0.999 * lot.double())
        held = torch.bincount(row, minlength=count)
        return order[held.cumsum(0) - 1]


def paper_formulas(recipe: PaperRecipe, split: Split) -> CompositionSampler:
    """Formulas around every element equally often; for the split ``single`` the element alone."""
    compounds = recipe.compounds
    share = (0.0, 0.0, 0.0, 1.0) if split == "single" else (compounds, 1 - compounds, 0.0, 0.0)
    return CompositionSampler(share, lanthanides=1.0)


def poisson(mean: Tensor, draw: Draw) -> Tensor:
    """Poisson counts of expected counts, any shape.

    From 64 on by a normal deviate z with the skewness corrected, mean + sqrt(mean) z +
    (z^2 - 1) / 6 (E. A. Cornish and R. A. Fisher, Rev. Inst. Int. Stat. 5, 307, 1938), ten times
    faster than exact draws.
    """
    z = draw.normal(*mean.shape)
    counts = (z * z - 1).div_(6).add_(mean).addcmul_(mean.sqrt(), z).round_()
    few = (mean < _EXACT_BELOW) & (mean > 0)
    counts[few] = draw.poisson(mean[few])
    return counts.mul_(mean > 0)


def _whole(most: Tensor, draw: Draw) -> Tensor:
    """Whole numbers [batch] from 0 to ``most`` [batch], both included."""
    return (draw.uniform(0.0, 1.0, len(most)) * (most + 1)).floor().clamp(max=most)


def _joined(parts: Sequence[PaperSpectra]) -> PaperSpectra:
    def together(name: str) -> Tensor:
        return torch.cat([getattr(part.spectra, name) for part in parts])

    names = ("counts", "offset_ev", "scale_ev", "present", "known")
    return PaperSpectra(
        LabelledSpectra(**{name: together(name) for name in names}),
        torch.cat([part.quantity for part in parts]),
        {
            name: torch.cat([part.conditions[name] for part in parts])
            for name in parts[0].conditions
        },
    )
