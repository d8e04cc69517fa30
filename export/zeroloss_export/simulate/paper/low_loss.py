"""The generic low loss by which core losses are convolved.

A Lorentzian zero-loss peak and plasmons of the Drude model (R. F. Egerton, Electron Energy-Loss
Spectroscopy in the Electron Microscope, 3rd ed., 2011), scaled by the Poisson probabilities
P_n = (t/lambda)^n exp(-t/lambda) / n!. Left open by the paper: whether its two to five plasmon
peaks are one plasmon seen n times. They are here: the n-th peak is the n-fold self-convolution of
one Drude peak, which is what n collisions give.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.paper.recipe import PaperRecipe

SIZE: Final = 4096
"""Channels of the circular convolution: the axis and room for what wraps around."""


class PaperLowLoss:
    """Convolves with a random low loss; Drude peaks of all whole energies and widths are kept."""

    def __init__(self, recipe: PaperRecipe) -> None:
        self.recipe = recipe
        (low_energy, high_energy), (low, high) = recipe.plasmon_energy_ev, recipe.plasmon_width_ev
        plasmon = torch.arange(low_energy, high_energy + 1).double()[:, None, None]
        width = torch.arange(low, high + 1).double()[:, None]
        loss = torch.arange(SIZE // 4).double()
        drude = loss * width * plasmon**2 / ((loss**2 - plasmon**2) ** 2 + (loss * width) ** 2)
        drude = drude / drude.sum(2, keepdim=True)
        self.single = torch.fft.rfft(drude, n=SIZE).to(torch.complex64)
        omega = torch.arange(SIZE // 2 + 1) * (2 * math.pi / SIZE)
        self.from_nyquist = math.pi - omega

    def scatter(self, edges: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Edges [batch, SIZE] at 1 eV a channel after the low loss, and t/lambda [batch]."""
        recipe, count = self.recipe, len(edges)
        thickness = draw.uniform(*recipe.thickness, count)
        peaks = draw.integers(recipe.plasmons[0], recipe.plasmons[1] + 1, count)
        energy = draw.integers(0, self.single.shape[0], count)
        width = draw.integers(0, self.single.shape[1], count)
        single = self.single[energy, width] * thickness[:, None]
        transfer = torch.ones_like(single)
        # Horner's scheme of the sum over n of (t/lambda)^n S^n / n!, ended at each row's n.
        for n in range(recipe.plasmons[1], 0, -1):
            part = (peaks >= n).float() / n
            transfer.mul_(single).mul_(part[:, None]).add_(1)
        half = draw.uniform(*recipe.zero_loss_fwhm_ev, count)[:, None] / 2
        # A Lorentzian sampled once per channel has this transform, without ringing.
        zero_loss = torch.cosh(half * self.from_nyquist) / torch.cosh(math.pi * half)
        transfer *= zero_loss * torch.exp(-thickness)[:, None]
        scattered: Tensor = torch.fft.irfft(torch.fft.rfft(edges) * transfer, n=SIZE)
        return scattered, thickness
