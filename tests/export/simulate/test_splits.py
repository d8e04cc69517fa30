from __future__ import annotations

import pytest
import torch

from zeroloss_export.simulate.compositions import Compositions, CompositionSampler
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.splits import SHARES, HeldSampler, Split, formula_hash

SHARE = (0.7, 0.1, 0.1, 0.1)


def _formulas(specimens: Compositions) -> set[frozenset[tuple[int, int]]]:
    numbers = specimens.atomic_number.tolist()
    thousandths = (specimens.fraction.double() * 1000).round().long().tolist()
    return {
        frozenset((z, part) for z, part in zip(*row, strict=True) if z)
        for row in zip(numbers, thousandths, strict=True)
    }


def _held(split: Split, count: int, query: torch.Tensor | None = None) -> Compositions:
    return HeldSampler(CompositionSampler(SHARE, lanthanides=1.0), split).sample(
        Draw(1), count, query
    )


def test_no_formula_is_in_two_splits() -> None:
    drawn = {split: _formulas(_held(split, 6000)) for split in ("train", "validation", "test")}
    compounds = {
        split: {formula for formula in formulas if len(formula) > 1}
        for split, formulas in drawn.items()
    }
    assert not compounds["train"] & compounds["validation"]
    assert not compounds["train"] & compounds["test"]
    assert not compounds["validation"] & compounds["test"]
    assert len(compounds["test"]) > 2000
    # Without the hash they would share many: plain oxides are drawn again and again.
    free = CompositionSampler(SHARE, lanthanides=1.0)
    assert len(_formulas(free.sample(Draw(2), 6000)) & _formulas(free.sample(Draw(3), 6000))) > 100


@pytest.mark.parametrize("split", ["train", "test"])
def test_holding_changes_neither_query_nor_the_share_of_pure_elements(split: Split) -> None:
    query = torch.arange(4, 84).repeat_interleave(50)
    drawn = _held(split, len(query), query)
    assert torch.equal(drawn.atomic_number[:, 0], query)
    free = CompositionSampler(SHARE, lanthanides=1.0).sample(Draw(4), len(query), query)
    alone = ((drawn.atomic_number > 0).sum(1) == 1).float().mean()
    expected = ((free.atomic_number > 0).sum(1) == 1).float().mean()
    assert float(alone) == pytest.approx(float(expected), abs=0.03)


def test_the_hash_is_even_and_knows_no_order() -> None:
    drawn = CompositionSampler(SHARE, lanthanides=1.0).sample(Draw(5), 20000)
    value = formula_hash(drawn)
    assert int(value.min()) >= 0
    assert int(value.max()) < sum(SHARES.values())
    several = (drawn.atomic_number > 0).sum(1) > 2
    share = (value[several] < 1400).float().mean()
    assert float(share) == pytest.approx(0.7, abs=0.03)
    turned = Compositions(drawn.atomic_number.flip(1), drawn.fraction.flip(1), drawn.query)
    assert torch.equal(formula_hash(turned), value)
