from __future__ import annotations

import pytest
import torch

from zeroloss_export.networks.replicas import HIDDEN, Replicas


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_parameters_are_those_of_the_layers(inputs: int) -> None:
    sizes = [inputs, *HIDDEN, 1]
    counted = sum((sizes[k] + 1) * sizes[k + 1] for k in range(len(sizes) - 1))
    network = Replicas(inputs)
    assert network.parameters == counted
    drawn = network.draw(3, torch.Generator().manual_seed(1))
    assert drawn.shape == (3, counted)


def test_values_are_those_of_one_network_after_the_other() -> None:
    network = Replicas(2)
    weights = network.draw(4, torch.Generator().manual_seed(2)).double()
    points = torch.rand(9, 2, generator=torch.Generator().manual_seed(3)).double() * 2 - 1
    together = network.values(weights, points)
    for replica, row in zip(weights, together, strict=True):
        flowing, first = points, 0
        for index, (size, width) in enumerate(network.layers):
            last = first + (size + 1) * width
            layer = replica[first:last].reshape(size + 1, width)
            flowing = flowing @ layer[:-1] + layer[-1]
            flowing = (torch.sigmoid, torch.sigmoid, torch.relu, lambda x: x)[index](flowing)
            first = last
        torch.testing.assert_close(row, flowing[:, 0])


@pytest.mark.parametrize("inputs", [1, 3])
def test_the_jacobian_is_that_of_automatic_differentiation(inputs: int) -> None:
    network = Replicas(inputs)
    rng = torch.Generator().manual_seed(5)
    weights = network.draw(3, rng).double()
    points = 2.0 * torch.rand(7, inputs, generator=rng, dtype=torch.float64) - 1.0
    values, jacobian = network.jacobian(weights, points)
    assert jacobian.shape == (3, 7, network.parameters)
    torch.testing.assert_close(values, network.values(weights, points))
    for index in range(3):

        def one(row: torch.Tensor) -> torch.Tensor:
            return network.values(row[None], points)[0]

        expected = torch.autograd.functional.jacobian(one, weights[index])
        torch.testing.assert_close(jacobian[index], expected, rtol=1e-9, atol=1e-12)


def test_starts_are_smooth_curves_of_order_one_that_differ() -> None:
    network = Replicas(1)
    weights = network.draw(200, torch.Generator().manual_seed(6))
    values = network.values(weights, torch.linspace(-1, 1, 101)[:, None])
    assert 0.2 < float(values.std(0).mean()) < 5.0
    # Smooth: one hundredth of the range changes a curve by far less than the curves differ.
    assert float(values.diff(dim=1).abs().mean()) < 0.1 * float(values.std(0).mean())
    again = network.draw(200, torch.Generator().manual_seed(6))
    assert torch.equal(weights, again)
