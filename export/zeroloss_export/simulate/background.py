"""Low loss (plural scattering) and the background under core-loss edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.recipe import Recipe

_LOW_LOSS_CHANNELS = 128
_MAX_PLASMONS = 5


def scatter(edges: Tensor, recipe: Recipe, draw: Draw) -> Tensor:
    """Convolve core losses [batch, channel] (1 eV a channel) with a random low loss.

    The low loss is a Lorentzian zero-loss peak and Drude plasmons, multiplied by Poisson
    statistics of t/lambda (Egerton, Electron Energy-Loss Spectroscopy, 3rd ed., eq. 4.8-4.10).
    """
    batch, channels = edges.shape
    size = 1 << (channels + _LOW_LOSS_CHANNELS - 1).bit_length()
    energy = torch.arange(_LOW_LOSS_CHANNELS).float()
    centre = draw.uniform(3.0, 30.0, batch, _MAX_PLASMONS, 1)
    width = draw.uniform(2.0, 22.0, batch, _MAX_PLASMONS, 1)
    weight = draw.uniform(0.0, 1.0, batch, _MAX_PLASMONS, 1)
    weight = weight * (torch.arange(_MAX_PLASMONS) < draw.integers(1, 6, batch, 1))[..., None]
    drude = energy * width * centre**2 / ((energy**2 - centre**2) ** 2 + (energy * width) ** 2)
    single = (drude * weight).sum(1)
    single = single / single.sum(1, keepdim=True)
    thickness = draw.uniform(*recipe.thickness, batch)
    thickness = torch.where(draw.chance(recipe.deconvolved_chance, batch), 0.0, thickness)
    omega = torch.arange(size // 2 + 1) / size * 2 * math.pi
    fwhm = draw.log_uniform(*recipe.zero_loss_fwhm_ev, batch)
    zero_loss = torch.exp(-omega * (fwhm / 2)[:, None])
    # exp(t/lambda * S) keeps the elastic part at one, so thick specimens gain intensity.
    transfer = zero_loss * torch.exp(thickness[:, None] * torch.fft.rfft(single, n=size))
    scattered: Tensor = torch.fft.irfft(torch.fft.rfft(edges, n=size) * transfer, n=size)
    return scattered[:, :channels]


def power_laws(axis_ev: Tensor, reference_ev: Tensor, recipe: Recipe, draw: Draw) -> Tensor:
    """Sum of two power laws [batch, channel], 1 at ``reference_ev`` [batch]."""
    batch = len(reference_ev)
    log_ratio = (axis_ev[None] / reference_ev[:, None]).log()
    first = draw.uniform(*recipe.exponent, batch)[:, None]
    second = draw.uniform(*recipe.exponent, batch)[:, None]
    share = draw.uniform(0.0, 0.5, batch)[:, None] * draw.chance(0.5, batch)[:, None]
    return (1 - share) * torch.exp(-first * log_ratio) + share * torch.exp(-second * log_ratio)


def waves(axis_ev: Tensor, batch: int, recipe: Recipe, draw: Draw) -> Tensor:
    """Factors [batch, channel] near one: slow undulations that belong to no edge.

    They stand for what is not modelled: edges outside the tables, gain drift, plural scattering.
    """
    log_axis = axis_ev.log()
    total = torch.zeros(batch, len(axis_ev))
    for _ in range(2):
        rate = draw.log_uniform(4.0, 60.0, batch, 1)
        phase = draw.uniform(0.0, 2 * math.pi, batch, 1)
        total += torch.sin(rate * log_axis + phase)
    height = draw.log_uniform(*recipe.waves, batch) * draw.chance(recipe.waves_chance, batch)
    return 1 + 0.7 * height[:, None] * total
