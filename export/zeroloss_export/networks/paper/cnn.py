"""One-dimensional VGG-11 of Annys et al. (2023), 45 million parameters.

From the paper: a one-dimensional VGG-11 (K. Simonyan and A. Zisserman, 2015), ReLU, batch or layer
normalisation, and its number of parameters. VGG-11 fixes eight convolutions of 64 to 512 features
and five poolings. Left open: kernel and fully connected layers. Here kernels of 32 bins, two
layers of 256 after dropout 0.5 as in the authors' published network, and batch normalisation after
every convolution as the paper's text says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from torch import Tensor, nn

from zeroloss_export.networks.grid import EnergyBins
from zeroloss_export.networks.paper.blocks import convolution_block, halve
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid

STAGES: Final = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class PaperCnn(nn.Module):
    """Features [batch, 1, bin] to logits [batch, 80]; bins a multiple of 32."""

    grid: ClassVar[type[EnergyBins]] = PaperGrid

    def __init__(
        self,
        bins: int = PAPER_BINS,
        stages: Sequence[Sequence[int]] = STAGES,
        hidden: int = 256,
        labels: int = 80,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for stage in stages:
            for new_width in stage:
                layers.append(convolution_block(width, new_width))
                width = new_width
            layers.append(halve())
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(width * (bins // 2 ** len(stages)), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, labels),
        )

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(features[:, :, None]))
        return logits
