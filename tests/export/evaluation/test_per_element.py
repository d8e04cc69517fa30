from __future__ import annotations

import numpy as np
import pytest

from zeroloss_export.evaluation.judged import Judged
from zeroloss_export.evaluation.per_element import confusions, element_scores
from zeroloss_export.physics.elements import ELEMENTS, element_index

TI, O, BA = (element_index(symbol) for symbol in ("Ti", "O", "Ba"))  # noqa: E741


def _nothing(spectra: int) -> Judged:
    shape = (spectra, len(ELEMENTS))
    return Judged(
        np.zeros(shape, np.float32),
        np.zeros(shape, bool),
        np.ones(shape, bool),
        np.zeros((spectra, 1), np.float32),
    )


def test_scores_of_a_worked_example() -> None:
    judged = _nothing(4)
    judged.present[:3, TI] = True
    judged.probability[:, TI] = [0.9, 0.8, 0.2, 0.7]
    judged.known[3, O] = False
    judged.probability[3, O] = 0.99
    rows = {row.element: row for row in element_scores(judged, 0.5)}
    titanium = rows["Ti"]
    assert (titanium.support, titanium.claimed) == (3, 3)
    assert titanium.precision == pytest.approx(2 / 3)
    assert titanium.recall == pytest.approx(2 / 3)
    assert titanium.f1 == pytest.approx(2 / 3)
    assert titanium.bias == pytest.approx((0.9 + 0.8 + 0.2 + 0.7 - 3) / 4)
    # The claim of oxygen is where nobody knows.
    assert (rows["O"].support, rows["O"].claimed) == (0, 0)
    assert np.isnan(rows["O"].f1)
    assert list(rows) == list(ELEMENTS)


def test_pairs_that_are_taken_for_each_other() -> None:
    judged = _nothing(30)
    judged.present[:20, TI] = True
    judged.probability[:8, TI] = 0.9
    judged.probability[5:15, BA] = 0.9
    judged.present[20:, O] = True
    judged.probability[20, TI] = 0.9
    # Titanium is missed in 8 to 19, barium added in 5 to 14: 8 to 14 are both.
    pairs = confusions(judged, 0.5)
    assert [(p.missed, p.added, p.count, p.support) for p in pairs] == [
        ("Ti", "Ba", 7, 20),
        ("O", "Ti", 1, 10),
    ]
    assert pairs[0].share == pytest.approx(7 / 20)
    assert len(confusions(judged, 0.5, most=1)) == 1
    assert [p.missed for p in confusions(judged, 0.5, least_support=11)] == ["Ti"]
