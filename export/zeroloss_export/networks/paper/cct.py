"""Compact convolutional transformer of Annys et al. (2023), 5 million parameters.

From the paper: convolutions in place of the patches of the vision transformer (A. Hassani et al.,
2021), layer normalisation, and the number of parameters; it remarks that the original's pooling
over the sequence suppresses the energies. Left open: sizes and reduction. Here, as in the authors'
published network: three convolutions of 32 bins with 32, 64 and 128 features, ReLU and a pooling
by two after each, a learned position, 8 layers of 8 heads of 128, dropout 0.1; and of the two
reductions the learnable weighted sum of the features, which keeps the energies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyBins
from zeroloss_export.networks.paper.blocks import KERNEL, halve
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid
from zeroloss_export.networks.paper.transformer import EncoderBlock


class PaperCct(nn.Module):
    """Features [batch, 1, bin] to logits [batch, 80]."""

    grid: ClassVar[type[EnergyBins]] = PaperGrid

    def __init__(
        self,
        bins: int = PAPER_BINS,
        widths: Sequence[int] = (32, 64, 128),
        layers: int = 8,
        heads: int = 8,
        labels: int = 80,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        tokenizer: list[nn.Module] = []
        tokens, width = bins, widths[-1]
        for before, after in pairwise([1, *widths]):
            tokenizer += [nn.Conv2d(before, after, (1, KERNEL), bias=False), nn.ReLU(), halve()]
            tokens = (tokens - KERNEL + 1) // 2
        self.tokenizer = nn.Sequential(*tokenizer)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(
            *(EncoderBlock(width, heads, width, dropout) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.sum = nn.Linear(width, 1)
        self.head = nn.Linear(tokens, labels)

    def forward(self, features: Tensor) -> Tensor:
        x = self.tokenizer(features[:, :, None])[:, :, 0].transpose(1, 2) + self.position
        logits: Tensor = self.head(self.sum(self.norm(self.blocks(x))).flatten(1))
        return logits
