"""The simulator that belongs to a recipe."""

from __future__ import annotations

from typing import Final, Protocol

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.paper import PaperRecipe, PaperSimulator
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator
from zeroloss_export.simulate.splits import Split

AnyRecipe = Recipe | PaperRecipe

RECIPES: Final[dict[str, AnyRecipe]] = {"measured": Recipe(), "paper": PaperRecipe()}


class Simulator(Protocol):
    """Draws labelled spectra; all that it will draw follows from ``draw``."""

    draw: Draw

    def batch(self, count: int) -> LabelledSpectra: ...


def simulator(
    table: CrossSectionTable,
    recipe: AnyRecipe,
    seed: int,
    device: str = "cpu",
    split: Split = "train",
) -> Simulator:
    """The simulator of a recipe; that of the paper holds the formulas of the splits apart.

    On another device than the CPU, make it and call it within ``torch.device(device)``.
    """
    if isinstance(recipe, PaperRecipe):
        return PaperSimulator(table, recipe, seed, device, split)
    return SpectrumSimulator(table, recipe, seed, device)


def name_of(recipe: AnyRecipe) -> str:
    """``measured`` or ``paper``."""
    return "paper" if isinstance(recipe, PaperRecipe) else "measured"
