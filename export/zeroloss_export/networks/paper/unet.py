"""U-Net with a perceptron as its head of Annys et al. (2023), 20 million parameters.

From the paper (Fig. 5a): a one-dimensional U-Net (O. Ronneberger et al., 2015), batch
normalisation, ReLU, the features of every energy summed with learnable weights because an average
over the energies would lose what identifies an element, then a multilayer perceptron. Left open:
the widths. Here kernels of 32 bins, 16 to 256 features at five levels with one convolution each
on the way down, and a head of 1, 1/2, 1/4 and 1/8 times the bins with dropout 0.3: with these the
count is that of the authors' published network, 19 843 377.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyBins
from zeroloss_export.networks.paper.blocks import (
    convolution_block,
    dense_block,
    halve,
    weighted_sum,
)
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid

WIDTHS: Final = (16, 32, 64, 128, 256)
HEAD_WIDTHS: Final = (3072, 1536, 768, 384)


class PaperUnet(nn.Module):
    """Features [batch, 1, bin] to logits [batch, 80]; bins a multiple of 16."""

    grid: ClassVar[type[EnergyBins]] = PaperGrid

    def __init__(
        self,
        bins: int = PAPER_BINS,
        widths: Sequence[int] = WIDTHS,
        head_widths: Sequence[int] = HEAD_WIDTHS,
        labels: int = 80,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(convolution_block(*step) for step in pairwise([1, *widths]))
        self.halve = halve()
        rising = list(pairwise(reversed(widths)))
        self.enlarge = nn.Upsample(scale_factor=(1.0, 2.0), mode="nearest")
        self.up = nn.ModuleList(convolution_block(*step) for step in rising)
        # The last joint map goes to the head as it is.
        joined = [convolution_block(2 * width, width) for _, width in rising[:-1]]
        self.join = nn.ModuleList([*joined, nn.Identity()])
        self.sum = weighted_sum(2 * widths[0])
        steps = list(pairwise([bins, *head_widths]))
        blocks = [dense_block(before, after, dropout) for before, after in steps[:-1]]
        self.blocks = nn.Sequential(*blocks, dense_block(*steps[-1]))
        self.head = nn.Linear(head_widths[-1], labels)

    def forward(self, features: Tensor) -> Tensor:
        x = features[:, :, None]
        levels: list[Tensor] = []
        for block in self.down:
            x = block(self.halve(x) if levels else x)
            levels.append(x)
        for up, join, level in zip(self.up, self.join, reversed(levels[:-1]), strict=True):
            x = join(torch.cat([up(self.enlarge(x)), level], 1))
        logits: Tensor = self.head(self.blocks(self.sum(x)))
        return logits
