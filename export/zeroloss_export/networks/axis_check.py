"""A network that only says whether a spectrum can lie on the axis it comes with."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.grid import FEATURES, LIMIT, EnergyGrid, local_mean

SLOPE_FEATURES: Final = FEATURES + 2
_HALF_BINS: Final = 8


class SlopeGrid(EnergyGrid):
    """The features of EnergyGrid, then two that tell how steeply the spectrum falls.

    4: logarithm of the intensity minus its mean, halved. 5: exponent of the power law, the slope of
    the local mean of the logarithm over 16 bins in log-log, over 3. Both are cut at +-4. Members
    see no slope, so that what they know of an edge does not hang on the background below it; but
    the background falls as E^-r with r of 1 to 6 (Egerton, Electron Energy-Loss Spectroscopy in
    the Electron Microscope, 3rd ed., sect. 4.4), and on a wrong axis it does not.
    """

    def features(self, density: Tensor, valid: Tensor) -> Tensor:
        """Features [batch, SLOPE_FEATURES, bin] of binned intensities whose mean is one."""
        log = self.logarithm(density, valid)
        count = valid.sum(1, keepdim=True).clamp(min=2.0)
        level = (log - log.sum(1, keepdim=True) / count) * valid
        mean = local_mean(level, valid) * valid
        both = valid[:, 2 * _HALF_BINS :] * valid[:, : -2 * _HALF_BINS]
        apart = self.log_centre[2 * _HALF_BINS :] - self.log_centre[: -2 * _HALF_BINS]
        exponent = (mean[:, 2 * _HALF_BINS :] - mean[:, : -2 * _HALF_BINS]) / apart * both
        exponent = nn.functional.pad(exponent, (_HALF_BINS, _HALF_BINS))
        added = torch.stack([level / 2, exponent / 3], 1).clamp(-LIMIT, LIMIT)
        return torch.cat([self.features_of(log, valid), added], 1)


class AxisCheck(ConvNext):
    """Features [batch, SLOPE_FEATURES, bin] to one logit [batch, 1]: the axis is wrong.

    Or the spectrum is nothing trained on in another way. A short ConvNeXt.
    """

    grid = SlopeGrid

    def __init__(self) -> None:
        super().__init__(depths=(1, 1, 2), labels=1, features=SLOPE_FEATURES)
