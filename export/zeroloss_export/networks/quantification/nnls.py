"""Small least-squares problems of many spectra at once; batch last, which vectorises best.

Exact up to rounding: a fixed number of rounds of block principal pivoting (L. F. Portugal,
J. J. Judice & L. N. Vicente, Math. Comput. 63 (1994) 625), which exchanges all variables that are
infeasible as long as their number falls, and else the last of them only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

ROUNDS: Final = 5
_TOLERANCE: Final = 1e-6
_NOTHING: Final = 1e-6
_PATIENCE: Final = 3.0
"""Rounds with as many infeasible variables as ever until single ones are exchanged."""


class Solution(NamedTuple):
    """``value`` [n, batch]; ``passive`` [n, batch], 1 where it is free and 0 where it is held at 0;

    ``inverse`` [n, n, batch] of the matrix of the free ones, 0 elsewhere; ``variance`` [n, batch]
    the diagonal that the inverse has, or would have if that variable were free too.
    """

    value: Tensor
    passive: Tensor
    inverse: Tensor
    variance: Tensor


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


def with_unit_diagonal(matrix: Tensor) -> Tensor:
    """``matrix`` [n, n, batch] with 1 on the diagonal of empty columns: their answer is 0."""
    unit = torch.eye(matrix.shape[0], dtype=matrix.dtype)[:, :, None]
    empty = ((matrix * unit).sum(1) <= _NOTHING).to(matrix.dtype)
    return matrix + unit * empty[:, None]


def nonnegative(matrix: Tensor, right: Tensor, rounds: int = ROUNDS) -> Solution:
    """Minimum of x matrix x / 2 - right x over x >= 0.

    ``matrix`` [n, n, batch] positive definite with a diagonal of ones, ``right`` [n, batch].
    """
    size = matrix.shape[0]
    unit = torch.eye(size, dtype=matrix.dtype)[:, :, None]
    small = _TOLERANCE * right.abs().amax(0, keepdim=True)
    number = torch.arange(1.0, size + 1.0, dtype=matrix.dtype)[:, None]
    passive = torch.ones_like(right)
    fewest = torch.full_like(small, size + 1.0)
    patience = torch.full_like(small, _PATIENCE)
    for _ in range(rounds):
        value = solve(_free(matrix, passive, unit), (passive * right)[:, None])[:, 0]
        slope = (matrix * value[None]).sum(1) - right
        wrong = (torch.where(passive > 0.0, value, slope) < -small).to(matrix.dtype)
        count = wrong.sum(0, keepdim=True)
        better = count < fewest
        fewest = torch.minimum(count, fewest)
        single = ~better & (patience < 0.5)
        patience = torch.where(better, torch.full_like(patience, _PATIENCE), patience - 1.0)
        last = (wrong * number).amax(0, keepdim=True)
        exchanged = torch.where(single, wrong * (number == last).to(matrix.dtype), wrong)
        passive = (passive - exchanged).abs()
    free = _free(matrix, passive, unit)
    identity = unit.expand(-1, -1, right.shape[1])
    answer = solve(free, torch.cat([(passive * right)[:, None], identity], 1))
    both = passive[:, None] * passive[None]
    inverse = answer[:, 1:] * both
    # Schur complement of a variable that is held: its diagonal less what the free ones explain.
    crossed = (inverse[:, :, None] * matrix[None]).sum(1)
    schur = 1.0 - (matrix * crossed).sum(0)
    diagonal = (inverse * unit).sum(1)
    variance = torch.where(passive > 0.0, diagonal, 1.0 / schur.clamp(min=_TOLERANCE))
    return Solution(answer[:, 0].clamp(min=0.0), passive, inverse, variance)


def _free(matrix: Tensor, passive: Tensor, unit: Tensor) -> Tensor:
    """The matrix of the free variables; the others have the rows of the identity."""
    return matrix * (passive[:, None] * passive[None]) + unit * (1.0 - passive[:, None])
