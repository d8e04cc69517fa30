"""Many small networks at once: the replicas of a zero-loss peak, as grouped matrix products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

HIDDEN: Final = (10, 15, 5)
"""Sigmoid, sigmoid and rectified linear units: Roest et al., Ultramicroscopy 222, 113202 (2021)."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """R networks of one shape, every one with its own weights; no state beside the shape.

    The weights of all replicas are one tensor [R, parameters], so that a solver can treat them as
    vectors. Inputs are expected in about -1 ... 1, the output is a departure of about that size.
    """

    inputs: int

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Sizes (in, out) of the layers, the output layer last."""
        sizes = (self.inputs, *HIDDEN, 1)
        return list(pairwise(sizes))

    @property
    def parameters(self) -> int:
        """Weights and biases of one network."""
        return sum((size + 1) * width for size, width in self.layers)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random weights [count, parameters]: a draw from the prior over smooth curves.

        The first layer places its steps inside -1 ... 1, so that each network bends elsewhere;
        biases take away what the sigmoids give on average.
        """

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        drawn = []
        for index, (size, width) in enumerate(self.layers):
            if index == 0:
                weight = 1.5 * normal(count, size, width) / math.sqrt(size)
                centre = 2.0 * torch.rand(count, size, width, generator=generator) - 1.0
                bias = -(weight * centre).sum(1, keepdim=True)
            elif index == 1:
                weight = 2.5 / math.sqrt(size) * normal(count, size, width)
                bias = -0.5 * weight.sum(1, keepdim=True) + 0.5 * normal(count, 1, width)
            elif index == 2:
                weight = 1.5 / math.sqrt(size) * normal(count, size, width)
                bias = -0.5 * weight.sum(1, keepdim=True) + 1.0 + 0.5 * normal(count, 1, width)
            else:
                weight = normal(count, size, width)
                bias = -weight.sum(1, keepdim=True)
            drawn.append(torch.cat([weight, bias], 1).reshape(count, -1))
        return torch.cat(drawn, 1)

    def values(self, weights: Tensor, points: Tensor) -> Tensor:
        """Outputs [R, N] of weights [R, parameters] at points [N, inputs], or [R, N, inputs]."""
        return self._forward(weights, points)[0]

    def jacobian(self, weights: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs [R, N] and their derivatives by every weight [R, N, parameters].

        At points as ``values`` takes them.
        """
        values, states = self._forward(weights, points)
        layers = self._split(weights)
        count, size = values.shape
        back = values.new_ones(count, size, 1)
        jacobian = values.new_empty(count, size, self.parameters)
        blocks = torch.split(jacobian, [part.shape[1] * part.shape[2] for part in layers], -1)
        for index in reversed(range(len(layers))):
            entered, activated = states[index]
            if index < 2:
                back = back * activated * (1.0 - activated)
            elif index == 2:
                back = back * (activated > 0)
            block = blocks[index].view(count, size, *layers[index].shape[1:])
            torch.mul(entered.unsqueeze(-1), back.unsqueeze(-2), out=block[..., :-1, :])
            block[..., -1, :] = back
            if index:
                back = torch.bmm(back, layers[index][:, :-1].transpose(1, 2))
        return values, jacobian

    def _forward(
        self, weights: Tensor, points: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        states = []
        flowing = points.expand(len(weights), *points.shape[-2:])
        for index, layer in enumerate(self._split(weights)):
            entered = flowing
            flowing = torch.baddbmm(layer[:, -1:], entered, layer[:, :-1])
            if index < 2:
                flowing = torch.sigmoid(flowing)
            elif index == 2:
                flowing = torch.relu(flowing)
            states.append((entered, flowing))
        return flowing[..., 0], states

    def _split(self, weights: Tensor) -> list[Tensor]:
        parts, first = [], 0
        for size, width in self.layers:
            last = first + (size + 1) * width
            parts.append(weights[:, first:last].reshape(-1, size + 1, width))
            first = last
        return parts
