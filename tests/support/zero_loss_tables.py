"""A zero-loss table and low-loss spectra of one analytic peak shape, the truth of both known."""

from __future__ import annotations

import torch
from torch import Tensor

from zeroloss_export.networks.low_loss.table import Noise, ZeroLossTable

SCALE_EV, FIRST_EV, WIDTH_EV = 0.025, -2.0, 0.4
MATCH_EV = (0.6, 1.0)


def peak_shape(energy: Tensor) -> Tensor:
    """A zero-loss peak of height 1: a Gaussian core on tails that fall with about E^-2.8."""
    x = (energy / (WIDTH_EV / 2)) ** 2
    return 0.85 * torch.exp(-0.6931472 * x) + 0.15 * (1 + 0.64 * x) ** -1.4


def make_table(
    points: int = 700, replicas: int = 32, spread: float = 0.3, noise: Noise | None = None
) -> ZeroLossTable:
    """Replicas fall around the true shape, by powers of E that depart by ``spread``."""
    energy = FIRST_EV + SCALE_EV * torch.arange(points, dtype=torch.float64)
    rng = torch.Generator().manual_seed(7)
    # Pairs of opposite departures: the true shape is the median.
    draw = torch.randn(replicas // 2, generator=rng, dtype=torch.float64)
    departure = spread * torch.cat([draw, -draw])[:, None]
    beyond = (energy / MATCH_EV[0]).clamp(min=1.0).log()
    log = peak_shape(energy).log() + departure * beyond
    window = (energy > MATCH_EV[0] - 1e-6) & (energy < MATCH_EV[1] + 1e-6)
    log = log - log[:, window].exp().mean(1, keepdim=True).log()
    nodes = torch.linspace(8.0, 18.0, 5)
    curves = torch.quantile(log, torch.tensor([0.16, 0.5, 0.84], dtype=torch.float64), dim=0)
    return ZeroLossTable(
        scale_ev=SCALE_EV,
        first_ev=FIRST_EV,
        match_ev=MATCH_EV,
        log_counts=nodes,
        curves=curves.float()[:, None].repeat(1, 5, 1),
        replicas=log.float()[:, None].repeat(1, 5, 1),
        trained_width_ev=(0.35, 0.5),
        trained_log_counts=(9.0, 17.0),
        noise=noise or Noise(),
        gap_range_ev=(1.0, 8.0),
        peaks=3,
    )


def spectra(
    position: Tensor, height: float, loss: Tensor | None = None, channels: int = 700
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Expected counts [position, channel], offset_ev, scale_ev, and energies from the peak.

    ``loss`` [channel] is added as it would lie behind a peak at 0 eV.
    """
    offset = torch.full_like(position, FIRST_EV - 1.0)
    scale = torch.full_like(position, SCALE_EV)
    axis = offset[:, None] + scale[:, None] * torch.arange(channels)
    energy = axis - position[:, None]
    counts = height * peak_shape(energy)
    if loss is not None:
        counts = counts + loss
    return counts, offset, scale, energy


def onset(energy: Tensor, gap_ev: float, exponent: float, amplitude: float) -> Tensor:
    """A (E - E_BG)^b, flattening out beyond 6 eV above the gap."""
    beyond = (energy - gap_ev).clamp(min=0.0)
    rise = torch.where(beyond > 0, beyond.clamp(min=1e-9) ** exponent, torch.zeros_like(beyond))
    return amplitude * rise / (1 + (beyond / 6) ** 3)
