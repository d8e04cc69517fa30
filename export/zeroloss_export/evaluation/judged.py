"""Simulated spectra, judged: probabilities beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.evaluation.calibration import uncalibrated
from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator

_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Judged:
    """probability, present and known, each [spectrum, 80]; labels that are not known do not count:

    an edge cut by the range or drowned in noise is neither there nor absent. ``unlike`` is
    [spectrum, 1].
    """

    probability: NDArray[np.float32]
    present: NDArray[np.bool_]
    known: NDArray[np.bool_]
    unlike: NDArray[np.float32]

    def decisions(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Probability and truth [decision] of every known label."""
        return self.probability[self.known].astype(np.float64), self.present[self.known]

    def without_calibration(self, temperature: float, bias: float) -> Judged:
        """The same spectra without the temperature and bias the probabilities were made with."""
        before = uncalibrated(self.probability, self.unlike, temperature, bias)
        return replace(self, probability=before.astype(np.float32))


def judge(
    predictor: Predictor, table: CrossSectionTable, recipe: Recipe, seed: int, count: int
) -> Judged:
    """Simulate ``count`` spectra in small batches and predict them."""
    simulator = SpectrumSimulator(table, recipe, seed)
    sizes = [min(_AT_ONCE, count - first) for first in range(0, count, _AT_ONCE)]
    return _joined([judge_spectra(predictor, simulator.batch(size)) for size in sizes])


@torch.no_grad()
def judge_spectra(predictor: Predictor, spectra: LabelledSpectra) -> Judged:
    """Predict simulated spectra in small batches."""
    parts: list[Judged] = []
    for first in range(0, len(spectra.counts), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        answers = predictor(spectra.counts[part], spectra.offset_ev[part], spectra.scale_ev[part])
        probability, _, unlike = (answer.numpy() for answer in answers)
        present, known = spectra.present[part].numpy() > 0, spectra.known[part].numpy() > 0
        parts.append(Judged(probability, present, known, unlike))
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
        np.concatenate([part.unlike for part in parts]),
    )
