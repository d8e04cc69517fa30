"""Transformer encoder of the two transformers of the paper (A. Vaswani et al., 2017), pre-norm."""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention whose heads may be wider together than the tokens."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width, self.dropout = heads, head_width, dropout
        self.project = nn.Linear(width, 3 * heads * head_width)
        self.merge = nn.Linear(heads * head_width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, token, width]."""
        parts = self.project(x).unflatten(2, (3, self.heads, self.head_width))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        merged: Tensor = self.merge(mixed.transpose(1, 2).flatten(2))
        return merged


class EncoderBlock(nn.Module):
    """Attention, then a perceptron of twice the width; each normalised before, added after."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width, dropout)
        self.norm = nn.LayerNorm(width)
        self.perceptron = gelu_layers(width, (2 * width, width), dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, token, width]."""
        x = x + self.attention(self.attention_norm(x))
        added: Tensor = self.perceptron(self.norm(x))
        return x + added


def gelu_layers(before: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Fully connected layers with GELU and dropout after each."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(before, width), nn.GELU(), nn.Dropout(dropout)]
        before = width
    return nn.Sequential(*layers)
