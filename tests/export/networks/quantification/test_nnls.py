from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from zeroloss_export.networks.quantification.nnls import Solution, nonnegative, solve

Floats = NDArray[np.float64]


def problems(
    n: int, count: int, noise: float, correlation: float, seed: int
) -> tuple[Floats, Floats]:
    """Matrices [count, 40, n] of columns of length 1 and right sides [count, 40]."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((count, 40, 1))
    matrix = (1 - correlation) * rng.standard_normal((count, 40, n)) + correlation * common
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    truth = np.where(rng.random((count, n)) < 0.5, 0.0, rng.exponential(1.0, (count, n)))
    right = np.einsum("bij,bj->bi", matrix, truth) + noise * rng.standard_normal((count, 40))
    return matrix, right


def found(matrix: Floats, right: Floats) -> Solution:
    """The solutions, every variable free to begin with."""
    both = np.concatenate([matrix, right[:, :, None]], axis=2)
    tableau = torch.tensor(np.einsum("bij,bik->jkb", both, both))
    return nonnegative(tableau, range(matrix.shape[2]))


@pytest.mark.parametrize("n", [2, 8])
@pytest.mark.parametrize(("noise", "correlation"), [(0.15, 0.0), (0.15, 0.9), (0.8, 0.9)])
def test_agrees_with_scipy_on_random_problems(n: int, noise: float, correlation: float) -> None:
    matrix, right = problems(n, 800, noise, correlation, seed=n)
    answers = [nnls(a, b) for a, b in zip(matrix, right, strict=True)]
    expected = np.stack([answer[0] for answer in answers])
    solution = found(matrix, right)
    np.testing.assert_allclose(solution.value.numpy().T, expected, atol=1e-9 * expected.max())
    np.testing.assert_array_equal(solution.passive.numpy().T, expected > 0)
    rest = np.array([answer[1] ** 2 for answer in answers])
    np.testing.assert_allclose(solution.rest.numpy(), rest, rtol=1e-6, atol=1e-9)


def test_inverse_and_variance_are_those_of_the_free_variables() -> None:
    matrix, right = problems(4, 50, 0.8, 0.5, seed=3)
    normal = np.einsum("bij,bik->bjk", matrix, matrix)
    solution = found(matrix, right)
    for index, whole in enumerate(normal):
        free = solution.passive[:, index].numpy() > 0
        expected = np.zeros((4, 4))
        expected[np.ix_(free, free)] = np.linalg.inv(whole[np.ix_(free, free)])
        np.testing.assert_allclose(solution.inverse[:, :, index], expected, atol=1e-9)
        for held in np.flatnonzero(~free):
            with_it = free | (np.arange(4) == held)
            place = int(np.count_nonzero(with_it[:held]))
            variance = np.linalg.inv(whole[np.ix_(with_it, with_it)])[place, place]
            assert solution.variance[held, index] == pytest.approx(variance, rel=1e-6)


def test_where_it_begins_does_not_matter() -> None:
    matrix, right = problems(6, 300, 0.3, 0.8, seed=5)
    both = np.concatenate([matrix, right[:, :, None]], axis=2)
    tableau = torch.tensor(np.einsum("bij,bik->jkb", both, both))
    one, other = nonnegative(tableau, range(6)), nonnegative(tableau, (2, 4), rounds=12)
    torch.testing.assert_close(one.value, other.value)


def test_two_nearly_equal_columns_share_nothing_negative() -> None:
    rng = np.random.default_rng(7)
    matrix = rng.random((200, 40, 2))
    matrix[:, :, 1] = matrix[:, :, 0] * (1 + 1e-5 * rng.standard_normal((200, 40)))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    right = matrix.sum(2) + 0.01 * rng.standard_normal((200, 40))
    solution = found(matrix, right)
    assert (solution.value >= 0).all()
    np.testing.assert_allclose(solution.value.sum(0), 2.0, atol=0.1)


def test_a_column_of_nothing_has_the_answer_nothing() -> None:
    tableau = torch.eye(4, dtype=torch.float64)[:, :, None].repeat(1, 1, 2)
    tableau[0, 3] = tableau[3, 0] = 0.5
    tableau[3, :, 1] = tableau[:, 3, 1] = 0.0
    solution = nonnegative(tableau, (0, 1, 2))
    assert solution.value.T.tolist() == [[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_solves_several_right_sides() -> None:
    rng = np.random.default_rng(8)
    half = rng.standard_normal((5, 6, 6))
    matrix, right = half @ half.transpose(0, 2, 1) + np.eye(6), rng.standard_normal((5, 6, 3))
    answer = solve(torch.tensor(matrix).permute(1, 2, 0), torch.tensor(right).permute(1, 2, 0))
    np.testing.assert_allclose(answer.permute(2, 0, 1), np.linalg.solve(matrix, right), atol=1e-9)
