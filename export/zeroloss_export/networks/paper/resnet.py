"""Residual network of 35 layers of Annys et al. (2023), 41 million parameters.

From the paper: 35 layers (K. He et al., 2016), ReLU, batch or layer normalisation, the number of
parameters; an average over the energies loses what identifies an element. Left open: widths and
reduction. Here, as in the authors' published network: a stem, sixteen blocks of two convolutions
with 16 to 512 features and kernels of 32 bins, shortcuts without parameters (every second bin,
padded with zero features), a learnable weighted sum of the features, and one fully connected layer:
1 + 32 + 1 + 1 = 35.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyBins
from zeroloss_export.networks.paper.blocks import Convolution, convolution_block, weighted_sum
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid

WIDTHS: Final = (16, 32, 64, 128, 256, 512)
DEPTHS: Final = (2, 3, 4, 3, 2, 2)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; halves the bins where the number of features changes."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride = 1 if before == after else 2
        self.new_features = after - before
        self.body = nn.Sequential(
            Convolution(before, after, self.stride),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            Convolution(after, after),
            nn.BatchNorm2d(after),
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, before, 1, bin]."""
        shortcut = x
        if self.new_features:
            low = self.new_features // 2
            pad = (0, 0, 0, 0, low, self.new_features - low)
            shortcut = nn.functional.pad(x[..., :: self.stride], pad)
        result: Tensor = self.relu(shortcut + self.body(x))
        return result


class PaperResnet(nn.Module):
    """Features [batch, 1, bin] to logits [batch, 80]; bins a multiple of 32."""

    grid: ClassVar[type[EnergyBins]] = PaperGrid

    def __init__(
        self,
        bins: int = PAPER_BINS,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        labels: int = 80,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        width = widths[0]
        for new_width, depth in zip(widths, depths, strict=True):
            for _ in range(depth):
                blocks.append(ResidualBlock(width, new_width))
                width = new_width
        self.stem = convolution_block(1, widths[0])
        self.blocks = nn.Sequential(*blocks)
        self.sum = weighted_sum(width)
        self.head = nn.Linear(bins // 2 ** (len(widths) - 1), labels)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.sum(self.blocks(self.stem(features[:, :, None]))))
        return logits
