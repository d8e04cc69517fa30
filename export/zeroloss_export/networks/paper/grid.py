"""The input of the networks of Annys et al.: normalised intensity on 0 to 3071 eV in 1 eV bins.

From the paper (Fig. 3, Table 1): resampled to 1 eV, zero padded to 0-3071 eV, normalised. Left
open: by what a spectrum is divided, and what a detector's dead channels become. Here a spectrum is
divided by its largest bin, and what is not measured is zero like the padding. Where the paper
resamples with a spline, counts are summed into the bins, as for every other network here.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from zeroloss_export.networks.grid import EnergyBins

PAPER_BINS: Final = 3072


class PaperGrid(EnergyBins):
    """Raw spectra to one feature [batch, 1, 3072] between 0 and 1; bin i is centred on i eV."""

    def __init__(self) -> None:
        super().__init__(torch.arange(PAPER_BINS + 1, dtype=torch.float64) - 0.5)

    def features(self, density: Tensor, valid: Tensor) -> Tensor:
        """Intensities over the largest; an empty spectrum stays zero."""
        held = density * valid
        return (held / held.amax(1, keepdim=True).clamp(min=1e-6))[:, None]
