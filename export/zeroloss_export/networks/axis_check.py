"""A network that says whether a spectrum can lie on its axis, and by how much that is off."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.grid import FEATURES, LIMIT, EnergyGrid, local_mean

SLOPE_FEATURES: Final = FEATURES + 2
_HALF_BINS: Final = 8
ERROR_EV: Final = 4.0
LEAST_ERROR_EV: Final = 3.0
"""What is smaller at both ends is left: chemical shifts are as likely a reason."""
MOST_SHIFT_EV: Final = 12.0
MOST_STRETCH: Final = 0.06
"""Little more than what usual axes are off by, and than what is simulated."""


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
    """Features [batch, SLOPE_FEATURES, bin] to [batch, 3]. A short ConvNeXt.

    0 and 1: by how much the axis is too high at the first and at the last measured channel, in
    units of ERROR_EV. 2: logit that the axis is wrong beyond such errors, or that the spectrum is
    nothing trained on in another way.
    """

    grid = SlopeGrid

    def __init__(self) -> None:
        super().__init__(depths=(1, 1, 2), labels=1, features=SLOPE_FEATURES)
        self.axis_error = nn.Linear(self.head.in_features, 2)
        nn.init.zeros_(self.axis_error.weight)
        nn.init.zeros_(self.axis_error.bias)

    def forward(self, features: Tensor) -> Tensor:
        seen = self.read(features)
        return torch.cat([self.axis_error(seen), self.head(seen)], 1)


def error_to_mend(answers: Tensor, range_ev: Tensor) -> Tensor:
    """Error in eV [batch, 2] that an AxisCheck's answers tell, as far as it is mended.

    0 where it is below LEAST_ERROR_EV at both ends; cut at MOST_SHIFT_EV in the middle and at
    MOST_STRETCH of the dispersion, that is of ``range_ev`` [batch] between the ends.
    """
    error = ERROR_EV * answers[:, :2]
    large = error.abs().amax(1) >= LEAST_ERROR_EV
    most = MOST_STRETCH * range_ev.clamp(min=0.0)
    half = torch.minimum(torch.maximum(error[:, 1] - error[:, 0], -most), most) / 2
    shift = error.mean(1).clamp(-MOST_SHIFT_EV, MOST_SHIFT_EV)
    return torch.stack([shift - half, shift + half], 1) * large[:, None]


def mended_axis(
    ends: tuple[Tensor, Tensor], offset_ev: Tensor, scale_ev: Tensor, error_ev: Tensor
) -> tuple[Tensor, Tensor]:
    """The axis without an error [batch, 2] at its ``ends``, as of `measured_ends`."""
    first, last = ends
    stretch = (error_ev[:, 1] - error_ev[:, 0]) / (last - first).clamp(min=1.0)
    return offset_ev - error_ev[:, 0] + stretch * first, scale_ev - stretch
