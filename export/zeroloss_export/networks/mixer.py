"""MLP mixer over energy tokens (I. Tolstikhin et al., MLP-Mixer, 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zeroloss_export.networks.grid import FEATURES
from zeroloss_export.networks.labels import LABELS, LOGIT_AT_START


class MixerBlock(nn.Module):
    """Mixes across tokens (which know their energy by position), then across features."""

    def __init__(self, tokens: int, width: int, token_hidden: int, hidden: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width)
        self.token_in = nn.Linear(tokens, token_hidden)
        self.token_out = nn.Linear(token_hidden, tokens)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.token_in(self.token_norm(x).transpose(1, 2))
        x = x + self.token_out(self.gelu(mixed)).transpose(1, 2)
        added: Tensor = self.outer(self.gelu(self.inner(self.norm(x))))
        return x + added


class Mixer(nn.Module):
    """Features [batch, FEATURES, bin] to logits [batch, LABELS]; every token keeps its energy."""

    def __init__(
        self,
        bins: int = 1312,
        patch: int = 16,
        width: int = 128,
        layers: int = 4,
        labels: int = LABELS,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        tokens = bins // patch
        self.stem = nn.Conv1d(FEATURES, 24, 7, padding=3)
        self.patch = nn.Conv1d(24, width, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(tokens, width))
        self.blocks = nn.ModuleList(
            MixerBlock(tokens, width, 128, 2 * width) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.squeeze = nn.Linear(width, 24)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(24 * tokens, labels)
        nn.init.constant_(self.head.bias, LOGIT_AT_START)
        self.gelu = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        x = self.patch(self.gelu(self.stem(features))).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        x = self.gelu(self.squeeze(self.norm(x))).flatten(1)
        logits: Tensor = self.head(self.dropout(x))
        return logits
