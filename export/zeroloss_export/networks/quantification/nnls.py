"""Small least-squares problems of many spectra at once; batch last, which vectorises best.

The normal equations of a problem are kept as one symmetric tableau, its right side included. A
sweep of a variable solves for it (J. H. Goodnight, Am. Stat. 33 (1979) 149): swept variables are
free, the others are held at 0, and at any time the tableau holds their values, the slopes of the
others, the inverse, the Schur complements, and the sum of squares that is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

ROUNDS: Final = 8
_SINGULAR: Final = 1e-9
"""Share of its length that a column must have beyond what the free ones explain."""
_ROUNDING: Final = 1e-13
"""Share of the sum of squares below which an exchange gains nothing."""
_NOTHING: Final = 1e-200


class Solution(NamedTuple):
    """``value`` [n, batch]; ``passive`` [n, batch], 1 where it is free and 0 where it is held at 0;

    ``inverse`` [n, n, batch] of the matrix of the free ones, 0 elsewhere; ``variance`` [n, batch]
    the diagonal that the inverse has, or would have if that variable were free too; ``rest``
    [batch] the sum of squares that is left.
    """

    value: Tensor
    passive: Tensor
    inverse: Tensor
    variance: Tensor
    rest: Tensor


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solutions [n, k, batch] for positive definite ``matrix`` [n, n, batch]: Gauss and Jordan."""
    size = matrix.shape[0]
    unit = torch.eye(size, dtype=matrix.dtype)[:, :, None]
    tableau = torch.cat([matrix, right], 1)
    for index in range(size):
        row = tableau[index : index + 1] / tableau[index : index + 1, :1]
        column = tableau[:, :1] - unit[:, index : index + 1]
        # The finished columns are not needed any more: the tableau gets smaller.
        tableau = tableau[:, 1:] - column * row[:, 1:]
    return tableau


def nonnegative(tableau: Tensor, first: Sequence[int], rounds: int = ROUNDS) -> Solution:
    """Minimum of |A x - y|^2 over x >= 0.

    ``tableau`` [n + 1, n + 1, batch] is [A y]^T [A y], the columns of A of length 1; what is held
    at 0 anyway has a row and column of the identity. The variables ``first`` are free to begin
    with; then, in each round, the one whose exchange lowers the sum of squares most, or most of all
    that makes it negative, is exchanged. What is below 0 when the rounds are over comes as 0.
    """
    size = tableau.shape[0]
    unit = torch.eye(size, dtype=tableau.dtype)[:, :, None]
    least = (_ROUNDING * tableau[-1, -1]).clamp(min=_NOTHING)
    bound = torch.full((size, 1), _SINGULAR, dtype=tableau.dtype)
    bound[-1] = torch.inf  # The right side is never exchanged.
    # Of a swept variable the tableau keeps 2 more on its diagonal: a sweep is one product then.
    for index in first:
        row = tableau[index]
        part = row[index].clamp(min=_SINGULAR).reciprocal()
        row = row - unit[index]
        tableau = tableau - row[:, None] * (row * part)[None]
    free = torch.zeros(size, 1, dtype=tableau.dtype)
    free[list(first)] = 1.0
    # Negative where a variable is free.
    diagonal = (tableau * unit).sum(1) - 2.0 * free
    for _ in range(rounds):
        value = tableau[-1]
        gain = value.abs() * (value / diagonal).clamp(min=0.0)
        gain = torch.where(diagonal.abs() > bound, gain, 0.0)
        best = torch.maximum(gain.amax(0), least)
        chosen = (gain >= best).to(tableau.dtype)
        pivot = (chosen * diagonal).sum(0)
        sign = pivot.sign()
        row = (chosen[:, None] * tableau).sum(0)
        row = torch.where(chosen > 0.0, pivot - sign, row)
        part = row / torch.where(sign == 0.0, 1.0, pivot)
        tableau = tableau - row[:, None] * part[None]
        diagonal = diagonal - row * part - 2.0 * sign * chosen
    value, rest, diagonal = tableau[-1, :-1], tableau[-1, -1], diagonal[:-1]
    passive = (diagonal < 0.0).to(tableau.dtype)
    both = passive[:, None] * passive[None]
    inverse = both * (2.0 * unit[:-1, :-1] - tableau[:-1, :-1])
    variance = torch.where(diagonal < 0.0, -diagonal, 1.0 / diagonal.clamp(min=_SINGULAR))
    return Solution((passive * value).clamp(min=0.0), passive, inverse, variance, rest)
