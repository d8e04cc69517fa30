"""Multilayer perceptron of Annys et al. (2023), 56 million parameters.

From the paper: a multilayer perceptron with batch or layer normalisation and its number of
parameters. Left open there: the layers. Here, as in the networks that the authors published with
it: seven layers of 2, 1, 1, 1/2, 1/2, 1/4 and 1/8 times the bins, batch normalisation, dropout 0.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Final

from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyBins
from zeroloss_export.networks.paper.blocks import dense_block
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid

WIDTHS: Final = (6144, 3072, 3072, 1536, 1536, 768, 384)


class PaperMlp(nn.Module):
    """Features [batch, 1, bin] to logits [batch, 80]."""

    grid: ClassVar[type[EnergyBins]] = PaperGrid

    def __init__(
        self,
        bins: int = PAPER_BINS,
        widths: Sequence[int] = WIDTHS,
        labels: int = 80,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        steps = list(pairwise([bins, *widths]))
        blocks = [dense_block(before, after, dropout) for before, after in steps[:-1]]
        self.blocks = nn.Sequential(*blocks, dense_block(*steps[-1]))
        self.head = nn.Linear(widths[-1], labels)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(features.flatten(1)))
        return logits
