"""Seeded random draws for the simulator."""

from __future__ import annotations

import torch
from torch import Tensor


class Draw:
    """Random tensors from one ``torch.Generator``; the same seed gives the same numbers."""

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        unit = torch.rand(*shape, generator=self.generator, device=self.device)
        return low + (high - low) * unit

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in the logarithm between two positive numbers."""
        ends = torch.tensor([low, high], dtype=torch.float64).log().tolist()
        return self.uniform(ends[0], ends[1], *shape).exp()

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Boolean tensor, True with the given probability."""
        return torch.rand(*shape, generator=self.generator, device=self.device) < probability

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers from ``low`` to ``high - 1``."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def pick(self, weights: Tensor, count: int) -> Tensor:
        """``count`` indices drawn with replacement in proportion to ``weights``."""
        return torch.multinomial(weights, count, replacement=True, generator=self.generator)

    def beta_1_2(self, *shape: int) -> Tensor:
        """Beta(1, 2): density falling linearly from 0 to 1."""
        return 1 - torch.sqrt(self.uniform(0.0, 1.0, *shape))

    def poisson(self, mean: Tensor) -> Tensor:
        return torch.poisson(mean, generator=self.generator)
