"""What becomes of each element, and which are taken for each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from zeroloss_export.evaluation.judged import Judged
from zeroloss_export.physics.elements import ELEMENTS

CONTESTED: Final = 0.01
"""Decisions from this probability on are contested; the other ones are plain absences."""


@dataclass(frozen=True, slots=True)
class ElementScore:
    """One row: ``support`` spectra show the element, ``claimed`` spectra are said to.

    ``bias`` is the mean probability minus the share of true labels over contested decisions: above
    zero the network claims too much. NaN where a ratio has nothing to divide by.
    """

    element: str
    support: int
    claimed: int
    precision: float
    recall: float
    f1: float
    bias: float


@dataclass(frozen=True, slots=True)
class Confusion:
    """In ``count`` of the ``support`` spectra of ``missed`` it was, and ``added`` was claimed."""

    missed: str
    added: str
    count: int
    support: int

    @property
    def share(self) -> float:
        return self.count / self.support


def element_scores(judged: Judged, threshold: float) -> list[ElementScore]:
    """One score for each of the 80 elements, in the order of atomic numbers."""
    claimed = (judged.probability >= threshold) & judged.known
    true = judged.present & judged.known
    rows = []
    for index, element in enumerate(ELEMENTS):
        hits = int((claimed[:, index] & true[:, index]).sum())
        said, support = int(claimed[:, index].sum()), int(true[:, index].sum())
        contested = judged.known[:, index] & (judged.probability[:, index] >= CONTESTED)
        gap = judged.probability[contested, index] - true[contested, index]
        rows.append(
            ElementScore(
                element,
                support,
                said,
                hits / said if said else np.nan,
                hits / support if support else np.nan,
                2 * hits / (said + support) if said + support else np.nan,
                float(gap.mean()) if contested.any() else np.nan,
            )
        )
    return rows


def confusions(
    judged: Judged, threshold: float, most: int = 20, least_support: int = 10
) -> list[Confusion]:
    """The pairs of elements most often taken for each other, by the share of spectra.

    Meant for spectra of single elements: one was missed and another was claimed instead. Elements
    that fewer than ``least_support`` spectra show are left out.
    """
    claimed = (judged.probability >= threshold) & judged.known
    true = judged.present & judged.known
    missed, added = (true & ~claimed).astype(np.int64), (claimed & ~true).astype(np.int64)
    support = true.sum(0)
    count = missed.T @ added
    share = np.where(support >= least_support, 1 / np.maximum(support, 1), 0.0)[:, None] * count
    order = np.argsort(-share, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, count.shape) for place in order]
    return [
        Confusion(ELEMENTS[one], ELEMENTS[other], int(count[one, other]), int(support[one]))
        for one, other in pairs
        if share[one, other] > 0
    ]
