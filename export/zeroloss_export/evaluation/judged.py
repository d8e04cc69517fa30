"""Simulated spectra, judged: probabilities beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import SpectrumSimulator

_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Judged:
    """probability, present and known, each [spectrum, 80]; labels that are not known do not count:

    an edge cut by the range or drowned in noise is neither there nor absent.
    """

    probability: NDArray[np.float32]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def decisions(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Probability and truth [decision] of every known label."""
        return self.probability[self.known].astype(np.float64), self.present[self.known]


@torch.no_grad()
def judge(
    predictor: Predictor, table: CrossSectionTable, recipe: Recipe, seed: int, count: int
) -> Judged:
    """Simulate ``count`` spectra in small batches and predict them."""
    simulator = SpectrumSimulator(table, recipe, seed)
    parts: list[Judged] = []
    for first in range(0, count, _AT_ONCE):
        spectra = simulator.batch(min(_AT_ONCE, count - first))
        probability, _ = predictor(spectra.counts, spectra.offset_ev, spectra.scale_ev)
        present, known = spectra.present.numpy() > 0, spectra.known.numpy() > 0
        parts.append(Judged(probability.numpy(), present, known))
    return _joined(parts)


def single_elements(recipe: Recipe) -> Recipe:
    """The recipe with one element in each spectrum, all elements equally often."""
    return recipe.changed(
        share=(0.0, 0.0, 0.0, 1.0),
        lanthanide_weight=1.0,
        neighbour_chance=0.0,
        carbon_chance=0.0,
        oxygen_chance=0.0,
        support_chance=0.0,
    )


def _joined(parts: Sequence[Judged]) -> Judged:
    return Judged(
        np.concatenate([part.probability for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.known for part in parts]),
    )
