"""Vision transformer of Annys et al. (2023), 2 million parameters.

From the paper (Fig. 5b): patches of the spectrum, encoded with their position, a transformer
encoder (A. Dosovitskiy et al., 2021) with layer normalisation and GELU, the features of every token
reduced without an average over the energies, and a perceptron as the head. Left open: the sizes.
Here patches of 16 bins every 8 bins, 128 features, 8 layers of 16 heads of 16, a learnable weighted
sum of the features, a head of 512, 256 and 128, and dropout 0.1: with these the count is that of
the authors' published network, 2 009 937.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyBins
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid
from zeroloss_export.networks.paper.transformer import EncoderBlock, gelu_layers


class PaperVit(nn.Module):
    """Features [batch, 1, bin] to logits [batch, 80]."""

    grid: ClassVar[type[EnergyBins]] = PaperGrid

    def __init__(
        self,
        bins: int = PAPER_BINS,
        patch: int = 16,
        width: int = 128,
        layers: int = 8,
        heads: int = 16,
        head_widths: tuple[int, ...] = (512, 256, 128),
        labels: int = 80,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        tokens = (bins - patch) // (patch // 2) + 1
        self.patch = nn.Conv1d(1, width, patch, stride=patch // 2)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.blocks = nn.Sequential(
            *(EncoderBlock(width, heads, patch, dropout) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.sum = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.perceptron = gelu_layers(tokens, head_widths, dropout)
        self.head = nn.Linear(head_widths[-1], labels)

    def forward(self, features: Tensor) -> Tensor:
        x = self.patch(features).transpose(1, 2) + self.position
        summed = self.sum(self.norm(self.blocks(x))).flatten(1)
        logits: Tensor = self.head(self.perceptron(self.dropout(summed)))
        return logits
