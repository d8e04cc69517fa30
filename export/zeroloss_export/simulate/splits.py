"""Training, validation and test: which formula belongs where.

A formula belongs to one split for ever, by a hash of its elements and fractions, whatever the seed
and however many spectra are drawn: nothing that a network is tested on was in its training. Pure
elements are in all splits, because there are only 80 of them.
"""

from __future__ import annotations

import math
from typing import Final, Literal, Protocol

import torch
from torch import Tensor

from zeroloss_export.simulate.compositions import Compositions
from zeroloss_export.simulate.draw import Draw

Split = Literal["train", "validation", "test", "single"]
"""``single``: spectra of one element each, for pairs that are confused; it shares nothing."""

SHARES: Final[dict[str, int]] = {"train": 1400, "validation": 300, "test": 300}
"""Formulas per element in the paper; the hash divides in the same proportion."""


class Sampler(Protocol):
    """Draws compositions, around given query elements if they are given."""

    def sample(self, draw: Draw, count: int, query: Tensor | None = None) -> Compositions: ...


def formula_hash(specimens: Compositions) -> Tensor:
    """A whole number from 0 to 1999 for every formula [batch], whatever the order of elements.

    Fractions count to three decimals.
    """
    thousandths = (specimens.fraction.double() * 1000).round().long()
    # Multiplications modulo 2^64 and a shift mix the bits (after SplitMix64, G. Steele et al.,
    # OOPSLA 2014); a sum does not depend on the order.
    mixed = specimens.atomic_number * 1009 + thousandths * 15485863 + 1
    mixed = mixed * -7046029254386353131
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687
    mixed = (mixed ^ (mixed >> 32)) * (specimens.atomic_number > 0)
    return mixed.sum(1).remainder(sum(SHARES.values()))


class HeldSampler:
    """A sampler that gives the formulas of one split only.

    How often an element is the query, and how often it is alone, is that of the sampler inside.
    """

    def __init__(self, sampler: Sampler, split: Split) -> None:
        self.sampler = sampler
        self.split = split
        whole = sum(SHARES.values())
        shares = list(SHARES.values())
        place = list(SHARES).index(split) if split in SHARES else 0
        self.first = sum(shares[:place])
        self.last = self.first + shares[place] if split in SHARES else whole
        self.share = (self.last - self.first) / whole

    def sample(self, draw: Draw, count: int, query: Tensor | None = None) -> Compositions:
        """Draw ``count`` formulas, around the atomic numbers ``query`` [count] if given."""
        drawn = self.sampler.sample(draw, count, query)
        if self.share == 1:
            return drawn
        each = math.ceil(2 / self.share)
        wrong = torch.nonzero(~self._fits(drawn, draw))[:, 0]
        while len(wrong):
            # Several formulas for every one that is missing: hardly more work than one.
            wanted = drawn.atomic_number[wrong, drawn.query[wrong]].repeat_interleave(each)
            fresh = self.sampler.sample(draw, len(wanted), wanted)
            fits = self._fits(fresh, draw).view(-1, each)
            found = fits.any(1)
            source = torch.arange(len(wrong)) * each + fits.int().argmax(1)
            for old, new in zip(_parts(drawn), _parts(fresh), strict=True):
                old[wrong[found]] = new[source[found]]
            wrong = wrong[~found]
        return drawn

    def _fits(self, specimens: Compositions, draw: Draw) -> Tensor:
        """True where a formula belongs to the split [batch]; for pure elements as often by lot."""
        alone = (specimens.atomic_number > 0).sum(1) == 1
        value = formula_hash(specimens)
        fits = (value >= self.first) & (value < self.last)
        return torch.where(alone, draw.chance(self.share, len(alone)), fits)


def _parts(specimens: Compositions) -> tuple[Tensor, Tensor, Tensor]:
    return specimens.atomic_number, specimens.fraction, specimens.query
