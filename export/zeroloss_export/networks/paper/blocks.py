"""Layers that the convolutional and the fully connected networks of the paper share.

Convolutions run over the last dimension of [batch, feature, 1, bin]: ONNX Runtime has its fast
(NCHWc) kernels on the CPU for two-dimensional convolutions only, a quarter faster for the U-Net.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

KERNEL: Final = 32
"""Width of every convolution in bins (eV, at the first level)."""


class Convolution(nn.Module):
    """[batch, before, 1, bin] to [batch, after, 1, bin / stride], zero padded to keep the bins."""

    def __init__(self, before: int, after: int, stride: int = 1, kernel: int = KERNEL) -> None:
        super().__init__()
        # An even kernel has no middle: the odd zero goes to the right.
        left = (kernel - stride) // 2
        self.pad = (left, kernel - stride - left)
        self.weights = nn.Conv2d(before, after, (1, kernel), stride=(1, stride))
        _he_normal(self.weights)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.weights(nn.functional.pad(x, self.pad))
        return result


def convolution_block(before: int, after: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(Convolution(before, after), nn.BatchNorm2d(after), nn.ReLU())


def dense_block(before: int, after: int, dropout: float = 0.0) -> nn.Sequential:
    """Fully connected layer, batch normalisation, ReLU, and dropout if any."""
    layer = nn.Linear(before, after)
    _he_normal(layer)
    parts = [layer, nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*parts, nn.Dropout(dropout)) if dropout else nn.Sequential(*parts)


def weighted_sum(features: int) -> nn.Sequential:
    """Learnable weighted sum over the features: [batch, features, 1, bin] to [batch, bin]."""
    layer = nn.Conv2d(features, 1, 1)
    # A sum that starts below zero everywhere would never learn.
    nn.init.constant_(layer.weight, 1 / features)
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten())


def halve() -> nn.MaxPool2d:
    """The larger one of every two bins."""
    return nn.MaxPool2d((1, 2))


def _he_normal(layer: nn.Conv2d | nn.Linear) -> None:
    """Initial weights for ReLU (K. He et al., Delving deep into rectifiers, 2015)."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
