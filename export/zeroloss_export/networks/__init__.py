"""Network architectures and the ensemble that is exported."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from torch import nn

from zeroloss_export.networks.axis_check import AxisCheck
from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.networks.paper import PAPER

LEAN: Final[dict[str, Callable[[], nn.Module]]] = {
    "convnext": ConvNext,
    "convnext_short": partial(ConvNext, depths=(1, 1, 2)),
    "mixer": Mixer,
    "mixer_short": partial(Mixer, layers=2),
    "mixer_single": partial(Mixer, layers=1),
}
"""The short ones have fewer blocks, so that they can start from what is left of a long one."""
CHECKS: Final[dict[str, Callable[[], nn.Module]]] = {"convnext_axis": AxisCheck}
"""They do not identify elements: they say by how much the axis is off, or that it is wrong."""
ARCHITECTURES: Final[dict[str, Callable[[], nn.Module]]] = LEAN | CHECKS | PAPER


def build(name: str) -> nn.Module:
    """A network by name; ValueError lists the names."""
    if name not in ARCHITECTURES:
        raise ValueError(f"expected an architecture of {sorted(ARCHITECTURES)}, got {name!r}")
    return ARCHITECTURES[name]()
