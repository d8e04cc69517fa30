"""The low loss of a pixel as the kernel that core losses are convolved with."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.align import rebin
from zeroloss_export.networks.low_loss.faults import peak_fault
from zeroloss_export.networks.low_loss.peak import SEARCH_EV, PeakFinder

BEFORE: Final = 8
"""Grid points of the kernel below the zero-loss maximum."""
REACH: Final = 192
"""Grid points of the kernel."""
BLOCK: Final = 64
_ANCHOR: Final = 8
"""Last measured grid points, whose mean the tail goes on from."""
_LEAST: Final = 24
"""Grid points above 0 that must have been measured for a tail to go on."""
_TAIL: Final = 3.0
"""Exponent of the energy loss that valence losses fall with far above the plasmon (R. F. Egerton,
Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (2011), section 3.3)."""
_PADDING: Final = 8


class Kernel(NamedTuple):
    """``shape`` [batch, REACH] of sum 1; ``total`` [batch] its counts; ``there`` [batch] bool.

    ``beyond`` [batch] is the share of it that was not measured but extrapolated. Where there is no
    usable low loss the shape is a single 1 at 0 eV.
    """

    shape: Tensor
    total: Tensor
    beyond: Tensor
    there: Tensor


class LowLossKernel(nn.Module):
    """Low-loss counts per eV around the zero-loss maximum."""

    def __init__(self, step_ev: float) -> None:
        super().__init__()
        self.step_ev = step_ev
        self.find = PeakFinder(SEARCH_EV)
        self.register_buffer("pad", torch.full((1, _PADDING), torch.nan))
        self.register_buffer("none", torch.eye(REACH)[BEFORE : BEFORE + 1])

    none: Tensor
    pad: Tensor

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Kernel:
        """counts [batch, channel], NaN where there are none; offset_ev [batch], scale_ev [batch].

        Above the measured range the kernel falls as a power law, below it is 0.
        """
        # Where there is no low loss two channels come, fewer than peaks are looked for in.
        counts = torch.cat([counts, self.pad.expand(counts.shape[0], -1)], 1)
        peak = self.find(counts, offset_ev, scale_ev)
        fault = peak_fault(counts, peak)
        first = -self.step_ev * BEFORE
        binned = rebin(counts, peak.place, scale_ev, first, self.step_ev, REACH)
        point = torch.arange(REACH)
        measured = ~torch.isnan(binned)
        last = torch.where(measured, point, 0).amax(1, keepdim=True)
        binned = torch.where(measured, binned, torch.zeros_like(binned))
        anchor = torch.where(point > last - _ANCHOR, binned, 0.0).sum(1, keepdim=True) / _ANCHOR
        middle = (last - BEFORE).float() - 0.5 * (_ANCHOR - 1)
        fallen = (middle.clamp(min=1.0) / (point - BEFORE).clamp(min=1)) ** _TAIL
        after = (point > last) & (last >= BEFORE + _LEAST)
        tail = torch.where(after, anchor.clamp(min=0.0) * fallen, 0.0)
        total = (binned + tail).sum(1)
        there = (fault == 0.0) & (total > 0.0)
        unit = torch.where(there, total, torch.ones_like(total))
        shape = (binned + tail) / unit[:, None]
        return Kernel(
            torch.where(there[:, None], shape, self.none), total, tail.sum(1) / unit, there
        )


class Convolution(nn.Module):
    """Convolves spectra on the grid with a kernel of every row, as products of matrices."""

    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        window, place = torch.arange(REACH + BLOCK)[:, None], torch.arange(BLOCK)[None]
        tap = REACH + place - window
        index = torch.where((tap >= 0) & (tap < REACH), tap, REACH)
        self.register_buffer("index", index.flatten())

    def forward(self, spectra: Tensor, kernel: Tensor) -> Tensor:
        """``spectra`` [batch, slot, point], points a multiple of BLOCK, with [batch, REACH]."""
        _, slots, points = spectra.shape
        padded = torch.cat([kernel, torch.zeros_like(kernel[:, :1])], 1)
        toeplitz = padded[:, self.index].reshape(-1, REACH + BLOCK, BLOCK)
        later = torch.cat([spectra[:, :, BEFORE:], spectra[:, :, -BEFORE:]], 2)
        later = torch.cat([torch.zeros_like(later[:, :, :REACH]), later], 2)
        blocks = points // BLOCK
        parts = [
            later[:, :, BLOCK * part : BLOCK * part + points].reshape(-1, slots * blocks, BLOCK)
            @ toeplitz[:, BLOCK * part : BLOCK * (part + 1)]
            for part in range(REACH // BLOCK + 1)
        ]
        return sum(parts[1:], start=parts[0]).reshape(-1, slots, points)
