from __future__ import annotations

import pytest
import torch

from zeroloss_export.simulate.compositions import CompositionSampler
from zeroloss_export.simulate.draw import Draw

COMPOUND, ALLOY, PAIR, SINGLE = torch.eye(4).tolist()


def test_every_composition_is_normalised_and_shows_its_query_element() -> None:
    sampler = CompositionSampler((0.6, 0.1, 0.15, 0.15), lanthanides=1.5)
    drawn = sampler.sample(Draw(3), 2000)
    numbers = drawn.atomic_number
    assert numbers[numbers > 0].min() == 4
    assert numbers.max() == 83
    torch.testing.assert_close(drawn.fraction.sum(1), torch.ones(2000))
    assert (drawn.fraction[numbers == 0] == 0).all()
    assert (drawn.fraction[torch.arange(2000), drawn.query] > 0).all()
    for row in numbers.tolist():
        present = [z for z in row if z]
        assert len(present) == len(set(present))


def test_every_element_is_a_query_and_lanthanides_more_often() -> None:
    drawn = CompositionSampler((1, 1, 1, 1), lanthanides=3.0).sample(Draw(4), 20000)
    counts = torch.bincount(drawn.atomic_number[:, 0], minlength=84)[4:]
    assert counts.min() > 100
    lanthanides = float(counts[57 - 4 : 72 - 4].float().mean())
    assert lanthanides == pytest.approx(3.0 * float(counts[: 57 - 4].float().mean()), rel=0.1)


def test_charges_of_compounds_cancel() -> None:
    sampler = CompositionSampler(tuple(COMPOUND), lanthanides=1.0)
    drawn = sampler.sample(Draw(5), 4000)
    numbers, fraction = drawn.atomic_number, drawn.fraction
    # An oxide of one metal: metal in column 0, oxygen in column 3, nothing else.
    oxide = (numbers[:, 3] == 8) & ((numbers > 0).sum(1) == 2)
    oxide &= sampler.anion_valence[numbers[:, 0]] == 0
    oxide &= fraction[:, 3] > 0
    plus = fraction[:, 0] * sampler.cation_valence[numbers[:, 0]]
    ratio = (plus / (2 * fraction[:, 3]))[oxide]
    assert oxide.sum() > 50
    # 15 % of the specimens are made dilute on purpose.
    assert ((ratio - 1).abs() < 1e-3).float().mean() > 0.7


@pytest.mark.parametrize(("share", "most"), [(SINGLE, 1), (PAIR, 2), (ALLOY, 4), (COMPOUND, 5)])
def test_kinds_have_their_number_of_elements(share: list[float], most: int) -> None:
    drawn = CompositionSampler(tuple(share), lanthanides=1.0).sample(Draw(6), 500)
    count = (drawn.atomic_number > 0).sum(1)
    assert count.min() >= 1
    assert count.max() == most
