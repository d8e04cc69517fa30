"""One-dimensional ConvNeXt (Z. Liu et al., A ConvNet for the 2020s, 2022) on the energy bins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import FEATURES
from zeroloss_export.networks.labels import LABELS, LOGIT_AT_START


class ConvNextBlock(nn.Module):
    """Depthwise convolution over the energy, then a perceptron over the features."""

    def __init__(self, width: int, kernel: int = 9, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, expansion * width)
        self.outer = nn.Linear(expansion * width, width)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, bin, width]."""
        mixed = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        added: Tensor = self.outer(self.gelu(self.inner(self.norm(mixed))))
        return x + added


class ConvNext(nn.Module):
    """Features [batch, FEATURES, bin] to logits [batch, LABELS], unless told otherwise.

    The last map keeps its energies: it is flattened into the head, not averaged.
    """

    def __init__(
        self,
        bins: int = 1312,
        widths: Sequence[int] = (64, 128, 192),
        depths: Sequence[int] = (1, 3, 3),
        labels: int = LABELS,
        features: int = FEATURES,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv1d(features, 24, 7, padding=3)
        self.patch = nn.Conv1d(24, widths[0], 8, stride=8)
        self.position = nn.Parameter(torch.zeros(bins // 8, widths[0]))
        stages: list[nn.Module] = []
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if level:
                stages.append(_Halve(widths[level - 1], width))
            stages.extend(ConvNextBlock(width) for _ in range(depth))
        self.stages = nn.Sequential(*stages)
        tokens = bins // 8 // 2 ** (len(widths) - 1)
        self.norm = nn.LayerNorm(widths[-1])
        self.squeeze = nn.Linear(widths[-1], 48)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(48 * tokens, labels)
        nn.init.constant_(self.head.bias, LOGIT_AT_START)
        self.gelu = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.read(features))
        return logits

    def read(self, features: Tensor) -> Tensor:
        """What heads see [batch, value]."""
        x = self.patch(self.gelu(self.stem(features))).transpose(1, 2) + self.position
        seen: Tensor = self.dropout(self.gelu(self.squeeze(self.norm(self.stages(x)))).flatten(1))
        return seen


class _Halve(nn.Module):
    """Halve the number of positions."""

    def __init__(self, width: int, new_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv1d(width, new_width, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.mix(self.norm(x).transpose(1, 2))
        return mixed.transpose(1, 2)
