"""Simulated core-loss spectra with element labels, drawn in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.background import power_laws, scatter, waves
from zeroloss_export.simulate.compositions import Compositions, CompositionSampler
from zeroloss_export.simulate.detector import Window, detect, draw_window
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.edge_bank import EdgeBank, Microscope
from zeroloss_export.simulate.fine_structure import Edges, FineStructure
from zeroloss_export.simulate.heavy_edges import heavy_edges
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.splits import Sampler

FIRST_EV: Final = 48.0
SIZE: Final = 3072
ELEMENT_COUNT: Final = 80
_LOWEST_Z: Final = 4
_SNR_EV: Final = 60
_BEAMS: Final = (60.0, 80.0, 100.0, 120.0, 200.0, 300.0)


@dataclass(frozen=True, slots=True)
class LabelledSpectra:
    """counts [batch, channel] (NaN: not measured), offset_ev [batch], scale_ev [batch],

    present [batch, 80] (1: an edge of the element is in the range) and known [batch, 80] (0: an
    edge is cut by the range or drowns in noise, so that the label is neither right nor wrong).
    axis_error_ev [batch, 2]: by how much the axis is too high at the first and at the last measured
    channel; None where every axis is right.
    """

    counts: Tensor
    offset_ev: Tensor
    scale_ev: Tensor
    present: Tensor
    known: Tensor
    axis_error_ev: Tensor | None = None


class SpectrumSimulator:
    """Draws labelled spectra from a recipe; the same seed gives the same spectra."""

    def __init__(
        self, table: CrossSectionTable, recipe: Recipe, seed: int, device: str = "cpu"
    ) -> None:
        """On another device than the CPU, make it and call it within ``torch.device(device)``."""
        self.recipe = recipe
        self.draw = Draw(seed, device)
        self.bank = EdgeBank(table)
        self.sampler: Sampler = CompositionSampler(
            recipe.share, recipe.lanthanide_weight, recipe.neighbour_chance
        )
        self.fine_structure = FineStructure(self.bank, FIRST_EV, recipe)
        self.axis_ev = FIRST_EV + torch.arange(SIZE).float()

    def batch(self, count: int) -> LabelledSpectra:
        """Draw ``count`` spectra."""
        return self.described(count)[0]

    @torch.no_grad()
    def described(self, count: int) -> tuple[LabelledSpectra, Tensor, dict[str, Tensor]]:
        """Draw ``count`` spectra, with quantities and conditions.

        Quantities [count, 80] are atoms of an element per atom of all elements present in the
        spectrum; conditions are named, each of shape [count].
        """
        draw, recipe = self.draw, self.recipe
        specimen = self._contaminate(self.sampler.sample(draw, count))
        window = self._window(specimen)
        edges, row, scope = self._edges(specimen, window)
        value = self.fine_structure.apply(edges, draw)
        total = torch.zeros(count, SIZE).index_add_(0, row, value)
        total = scatter(total, recipe, draw).clamp_(min=0.0)
        rate, taken, gain = self._add_background(specimen, total, edges, row, window)
        counts, offset, scale = detect(rate, taken, FIRST_EV, window, recipe, draw)
        present, known = self._labels(
            specimen, window, edges, row, value * gain[row][:, None], rate
        )
        conditions = {
            "beam_kev": scope.beam_kev,
            "convergence_mrad": scope.alpha_mrad,
            "collection_mrad": scope.beta_mrad,
            "start_ev": window.start_ev,
            "end_ev": window.end_ev,
            "channels": window.channels,
        }
        quantity = _quantity(specimen, present)
        error = window.axis_error_ev(counts, offset, scale)
        spectra = LabelledSpectra(counts, offset, scale, present, known, error)
        return spectra, quantity, conditions

    def _contaminate(self, specimen: Compositions) -> Compositions:
        """Add carbon, oxygen or a support (Si, Cu) in the last two columns."""
        draw, recipe = self.draw, self.recipe
        numbers, fraction = specimen.atomic_number.clone(), specimen.fraction.clone()
        count = len(numbers)
        carbon = draw.chance(recipe.carbon_chance, count)
        oxygen = draw.chance(recipe.oxygen_chance, count)
        support = draw.chance(recipe.support_chance, count)
        silicon = draw.chance(0.5, count)
        extra = torch.where(oxygen, 8, 0)
        extra = torch.where(support, torch.where(silicon, 14, 29), extra)
        for column, added in ((5, torch.where(carbon, 6, 0)), (6, extra)):
            new = (added > 0) & ~(numbers == added[:, None]).any(1)
            numbers[:, column] = torch.where(new, added, 0)
            amount = draw.log_uniform(0.05, 3.0, count)
            fraction[:, column] = torch.where(new, amount, 0.0)
        return Compositions(numbers, fraction, specimen.query)

    def _window(self, specimen: Compositions) -> Window:
        draw = self.draw
        count = len(specimen.query)
        query = specimen.atomic_number[torch.arange(count), specimen.query]
        group = self.bank.groups_of[query]
        second = (group[:, 1] >= 0) & draw.chance(0.42, count)
        group = torch.where(second, group[:, 1], group[:, 0])
        onset = self.bank.group_onset[group]
        return draw_window(onset, FIRST_EV + SIZE - 1, self.recipe, draw)

    def _edges(self, specimen: Compositions, window: Window) -> tuple[Edges, Tensor, Microscope]:
        """All edges that start before the window's end, with their rows in the batch."""
        draw, recipe, bank = self.draw, self.recipe, self.bank
        count = len(specimen.query)
        group = bank.groups_of[specimen.atomic_number].reshape(count, -1)
        amount = specimen.fraction.repeat_interleave(2, 1)
        onset = bank.group_onset[group.clamp(min=0)]
        active = (group >= 0) & (amount > 0) & (onset < window.end_ev[:, None] + 5)
        row, column = torch.nonzero(active, as_tuple=True)
        group, amount = group[row, column], amount[row, column]
        n = len(row)
        amount = amount * torch.exp(recipe.amplitude_spread * draw.normal(n))
        sharp = (bank.group_z[group] >= 57) & (bank.group_z[group] <= 71)
        shift_ev = torch.where(sharp, recipe.lanthanide_shift_ev, recipe.chemical_shift_ev)
        shift = shift_ev * draw.normal(n)
        scope = Microscope(
            torch.tensor(_BEAMS)[draw.integers(0, len(_BEAMS), count)],
            draw.log_uniform(1.0, 36.0, count),
            draw.log_uniform(1.0, 105.0, count),
        )
        member = bank.member[group]
        edge, place = torch.nonzero(member >= 0, as_tuple=True)
        subshell = member[edge, place]
        source = row[edge]
        here = Microscope(scope.beam_kev[source], scope.alpha_mrad[source], scope.beta_mrad[source])
        mix = draw.beta_1_2(n)[edge]
        nodes = bank.nodes(subshell, mix, here) * amount[edge][:, None]
        channel = (bank.onset[subshell] + shift[edge] - FIRST_EV).round().long()
        value = torch.zeros(n, SIZE)
        bank.add_to(value, edge, nodes, channel)
        value.clamp_(min=0.0)
        return Edges(value, group, bank.group_onset[group] + shift), row, scope

    def _add_background(
        self, specimen: Compositions, total: Tensor, edges: Edges, row: Tensor, window: Window
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scale edges and background to the drawn jump ratio and dose.

        Returns the expected counts, what is subtracted from them (the background of spectra that
        come without it), and the edges' factor.
        """
        draw, recipe = self.draw, self.recipe
        count = len(total)
        batch = torch.arange(count)
        # The jump ratio is set on one random edge of those that start inside the window.
        inside = (edges.onset_ev > window.start_ev[row]) & (
            edges.onset_ev < window.end_ev[row] - 10
        )
        score = torch.full((count, len(row)), -1.0)
        score[row, torch.arange(len(row))] = draw.uniform(0.0, 1.0, len(row)) + inside
        chosen = score.argmax(1)
        has_edge = torch.zeros(count, dtype=torch.bool).index_fill_(0, row, True)
        onset = torch.where(
            has_edge, edges.onset_ev[chosen], 0.5 * (window.start_ev + window.end_ev)
        )
        onset = torch.minimum(torch.maximum(onset, window.start_ev), window.end_ev).clamp(min=62.0)
        at = (onset - FIRST_EV).long().clamp(0, SIZE - 1)
        near = (at[:, None] + torch.arange(60)).clamp(max=SIZE - 1)
        peak = total.gather(1, near).amax(1).clamp(min=1e-20)
        gain = draw.log_uniform(*recipe.jump_ratio, count) / peak
        background = power_laws(self.axis_ev, onset, recipe, draw)
        background = background * waves(self.axis_ev, count, recipe, draw)
        background = background * heavy_edges(self.axis_ev, specimen.atomic_number, recipe, draw)
        subtracted = draw.chance(recipe.subtracted_chance, count)
        part = draw.uniform(0.96, 1.02, count) * subtracted
        mean = total * gain[:, None] + background
        low = (window.start_ev - FIRST_EV).long().clamp(0, SIZE - 2)
        high = (window.end_ev - FIRST_EV).long().clamp(1, SIZE - 1)
        middle = ((low + high) / 2).long()
        dose = draw.log_uniform(*recipe.counts_per_ev, count) / mean[batch, middle].clamp(min=1e-12)
        taken = (dose * part)[:, None] * background
        return dose[:, None] * mean, taken, gain * dose

    def _labels(
        self,
        specimen: Compositions,
        window: Window,
        edges: Edges,
        row: Tensor,
        counts: Tensor,
        rate: Tensor,
    ) -> tuple[Tensor, Tensor]:
        count = len(specimen.query)
        shape = (count, ELEMENT_COUNT)
        element = self.bank.group_z[edges.group] - _LOWEST_Z
        nominal = self.bank.group_onset[edges.group]
        start, end = window.signal_start_ev[row], window.signal_end_ev[row]
        inside = (nominal >= start + 10) & (nominal <= end - 25)
        border = ~inside & (nominal >= start - 6) & (nominal <= end + 5)
        begin = (edges.onset_ev - FIRST_EV).long()
        near = (begin[:, None] + torch.arange(_SNR_EV)).clamp(0, SIZE - 1)
        seen = near <= (end - FIRST_EV)[:, None]
        signal = (counts.gather(1, near) * seen).sum(1)
        noise = (rate[row[:, None], near] * seen).sum(1)
        # Fluctuations of the fitted background and unmodelled structure (0.3 %) come on top.
        snr = signal / torch.sqrt(4 * noise + (0.003 * noise) ** 2).clamp(min=1e-9)
        visible = inside & (snr >= self.recipe.visible_snr)
        doubtful = (inside & ~visible) | border
        present = torch.zeros(shape)
        present[row[visible], element[visible]] = 1.0
        known = torch.ones(shape)
        known[row[doubtful], element[doubtful]] = 0.0
        return present, torch.maximum(known, present)


def _quantity(specimen: Compositions, present: Tensor) -> Tensor:
    """Atoms of an element per atom of all elements present [batch, 80]."""
    column = (specimen.atomic_number - _LOWEST_Z).clamp(min=0)
    amount = torch.where(specimen.atomic_number > 0, specimen.fraction, 0.0)
    total = torch.zeros_like(present).scatter_add_(1, column, amount) * present
    return total / total.sum(1, keepdim=True).clamp(min=1e-12)
