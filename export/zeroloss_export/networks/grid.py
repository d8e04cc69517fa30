"""The energy bins that the networks see, and what a raw spectrum becomes on them.

All of it runs inside the exported graph: any number of channels, any offset, any dispersion.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

SEGMENTS: Final = ((64.0, 1.0, 256), (320.0, 1.5, 384), (896.0, 2.5, 320), (1696.0, 4.0, 352))
"""First edge in eV, bin width in eV, number of bins; together 64 to 3104 eV in 1312 bins."""

FEATURES: Final = 4
_LOCAL_BINS: Final = 33
_FLOOR: Final = 0.02
LIMIT: Final = 4.0
"""Features are cut there."""


def bin_edges() -> Tensor:
    """Edges of the energy bins in eV, float64, shape [1313]."""
    parts = [first + width * torch.arange(n, dtype=torch.float64) for first, width, n in SEGMENTS]
    first, width, n = SEGMENTS[-1]
    return torch.cat([*parts, torch.tensor([first + width * n], dtype=torch.float64)])


class EnergyBins(nn.Module, ABC):
    """Raw spectra on energy bins with the given edges in eV (float64, ascending).

    Counts are preserved: the cumulative sum over the channels, in float64, is interpolated at the
    bin edges. NaN channels are not measured; bins less than half measured are invalid (zero).
    What a network makes of the binned intensities is for a subclass to say in ``features``.
    """

    edges: Tensor

    def __init__(self, edges: Tensor) -> None:
        super().__init__()
        self.register_buffer("edges", edges, persistent=False)

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Tensor:
        """counts [batch, channel], offset_ev [batch], scale_ev [batch]."""
        density, valid = self.rebin(counts, offset_ev, scale_ev)
        return self.features(density, valid)

    @abstractmethod
    def features(self, density: Tensor, valid: Tensor) -> Tensor:
        """What a network sees, [batch, feature, bin], of what ``rebin`` returns."""

    def rebin(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, Tensor]:
        """Mean counts per eV of every bin [batch, bin], and 1 where the bin is measured."""
        measured = ~torch.isnan(counts)
        held = torch.where(measured, counts, torch.zeros_like(counts)).double()
        zero = torch.zeros_like(held[:, :1])
        total = torch.cat([zero, held.cumsum(1)], 1)
        cover = torch.cat([zero, measured.double().cumsum(1)], 1)
        channels = torch.ones_like(held).sum(1, keepdim=True)
        scale = scale_ev.double()[:, None]
        start = offset_ev.double()[:, None] - 0.5 * scale
        place = ((self.edges[None] - start) / scale).clamp(min=0.0)
        place = torch.minimum(place, channels)
        low = torch.minimum(place.floor(), channels - 1)
        part = place - low
        index = low.long()
        total = torch.lerp(total.gather(1, index), total.gather(1, index + 1), part)
        cover = torch.lerp(cover.gather(1, index), cover.gather(1, index + 1), part)
        covered = (cover[:, 1:] - cover[:, :-1]) * scale
        counted = total[:, 1:] - total[:, :-1]
        width = (self.edges[1:] - self.edges[:-1])[None]
        valid = (covered >= 0.5 * width).float()
        density = counted / torch.where(covered > 0, covered, torch.ones_like(covered))
        mean = (density * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1.0)
        density = density / torch.where(mean > 0, mean, torch.ones_like(mean))
        return density.float() * valid, valid


class EnergyGrid(EnergyBins):
    """Raw spectra to features [batch, FEATURES, bin] on the bins of SEGMENTS.

    Features: 0 logarithm of the intensity with a straight line in log-log (a power law) taken out,
    in units of its standard deviation; 1 logarithm minus its mean over 33 bins, times 4; 2 the
    same in units of the standard deviation over 33 bins; 3 validity. 0-2 are cut at +-4. Nothing
    depends on the units of the counts.
    """

    log_centre: Tensor

    def __init__(self) -> None:
        edges = bin_edges()
        super().__init__(edges)
        centre = (edges[1:] + edges[:-1]) / 2
        self.register_buffer("log_centre", centre.log().float(), persistent=False)

    def features(self, density: Tensor, valid: Tensor) -> Tensor:
        """Features of binned intensities [batch, bin] whose mean is one."""
        return self.features_of(self.logarithm(density, valid), valid)

    def logarithm(self, density: Tensor, valid: Tensor) -> Tensor:
        """Of the intensities [batch, bin], floored at 2 % of their local mean; 0 where invalid."""
        around = local_mean(density, valid)
        return torch.maximum(density, _FLOOR * around).clamp(min=1e-7).log() * valid

    def features_of(self, log: Tensor, valid: Tensor) -> Tensor:
        """The features of a logarithm."""
        count = valid.sum(1, keepdim=True).clamp(min=2.0)
        x = (self.log_centre[None] * valid).sum(1, keepdim=True) / count
        x = (self.log_centre[None] - x) * valid
        level = log.sum(1, keepdim=True) / count
        slope = (x * log).sum(1, keepdim=True) / (x * x).sum(1, keepdim=True).clamp(min=1e-6)
        rest = (log - level - slope * x) * valid
        spread = ((rest * rest).sum(1, keepdim=True) / count).sqrt().clamp(min=0.01)
        local = (log - local_mean(log, valid)) * valid
        deviation = local_mean(local * local, valid).sqrt().clamp(min=1e-3)
        stack = torch.stack([rest / spread, 4.0 * local, local / deviation], 1)
        return torch.cat([stack.clamp(-LIMIT, LIMIT), valid[:, None]], 1)


def local_mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean of the valid bins among the 33 around each bin, zero where there is none."""
    both = torch.stack([value * valid, valid], 1)
    half = _LOCAL_BINS // 2
    both = nn.functional.pad(both, (half, half))
    # Sums of 11 sums of 3: a tenth of the time that ONNX Runtime's average pooling takes.
    threes = both[:, :, :-2] + both[:, :, 1:-1] + both[:, :, 2:]
    bins = value.shape[1]
    total = threes[:, :, :bins]
    for first in range(3, _LOCAL_BINS, 3):
        total = total + threes[:, :, first : first + bins]
    return total[:, 0] / total[:, 1].clamp(min=_LOCAL_BINS * 1e-4)


def grid_of(network: nn.Module) -> Callable[[], EnergyBins]:
    """Makes the bins that a network declares as its class attribute ``grid``, else EnergyGrid."""
    declared: Callable[[], EnergyBins] = getattr(network, "grid", EnergyGrid)
    return declared
