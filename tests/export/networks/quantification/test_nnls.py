from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from zeroloss_export.networks.quantification.nnls import nonnegative, solve, with_unit_diagonal

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


@pytest.mark.parametrize("n", [2, 8])
@pytest.mark.parametrize(("noise", "correlation"), [(0.15, 0.0), (0.15, 0.9), (0.8, 0.9)])
def test_agrees_with_scipy_on_random_problems(n: int, noise: float, correlation: float) -> None:
    matrix, right = problems(n, 800, noise, correlation, seed=n)
    expected = np.stack([nnls(a, b)[0] for a, b in zip(matrix, right, strict=True)])
    normal = torch.tensor(np.einsum("bij,bik->jkb", matrix, matrix)).float()
    moments = torch.tensor(np.einsum("bij,bi->jb", matrix, right)).float()
    found = nonnegative(normal, moments)
    value = found.value.numpy().T
    assert (value >= 0).all()
    np.testing.assert_allclose(value, expected, atol=2e-3 * expected.max())
    clear = np.abs(expected) > 1e-3
    assert (found.passive.numpy().T[clear] == 1).all()


def test_inverse_and_variance_are_those_of_the_free_variables() -> None:
    matrix, right = problems(4, 50, 0.8, 0.5, seed=3)
    normal = np.einsum("bij,bik->bjk", matrix, matrix)
    found = nonnegative(
        torch.tensor(normal.transpose(1, 2, 0)).float(),
        torch.tensor(np.einsum("bij,bi->jb", matrix, right)).float(),
    )
    for index, whole in enumerate(normal):
        free = found.passive[:, index].numpy() > 0
        expected = np.zeros((4, 4))
        expected[np.ix_(free, free)] = np.linalg.inv(whole[np.ix_(free, free)])
        np.testing.assert_allclose(found.inverse[:, :, index], expected, atol=1e-4)
        for held in np.flatnonzero(~free):
            with_it = free | (np.arange(4) == held)
            place = int(np.count_nonzero(with_it[:held]))
            variance = np.linalg.inv(whole[np.ix_(with_it, with_it)])[place, place]
            assert found.variance[held, index] == pytest.approx(variance, rel=1e-3)


def test_an_empty_column_has_the_answer_nothing() -> None:
    matrix = torch.eye(3)[:, :, None].repeat(1, 1, 2)
    matrix[1, 1] = 0.0
    right = torch.tensor([[2.0], [0.0], [3.0]])[:, :, None].repeat(1, 1, 2)
    answer = solve(with_unit_diagonal(matrix), right)[:, 0]
    torch.testing.assert_close(answer, right[:, 0])
