"""Mends the energy axis of core-loss spectra by where their edges are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zeroloss.wire import EnergyRange

from ._evidence import Edge

LEAST_SNR = 10.0
"""Of the edges that are looked at."""
LEAST_DEPARTURE_EV = 4.0
"""Chemical shifts and near-edge structure move an onset by less."""
LEAST_SPAN_EV = 50.0
"""Between two edges from which a dispersion follows; of nearer ones only an offset."""
MOST_STRETCH = 0.1
LEAST_GAIN = 1.5
"""By how much the fit must be better."""


@dataclass(frozen=True, slots=True)
class MendedAxis:
    """The range with another axis, and the edges that it follows from."""

    range: EnergyRange
    edges: tuple[Edge, ...]

    def told(self, old: EnergyRange, chi2: tuple[float, float]) -> str:
        """What was done, in words; `chi2` of the fit of the sum before and after."""
        edges = ", ".join(
            f"{item.name} at {item.onset_ev:.0f} instead of {item.expected_ev:.0f} eV"
            for item in self.edges
        )
        return (
            f"energy axis mended, as the edges begin elsewhere ({edges}): "
            f"{self.range.offset_ev:.4g} eV + {self.range.scale_ev:.4g} eV a channel instead of "
            f"{old.offset_ev:.4g} + {old.scale_ev:.4g}; chi2 of the fit {chi2[1]:.3g} instead of "
            f"{chi2[0]:.3g}; --axis as-is leaves the axis alone"
        )


def mended(old: EnergyRange, edges: Sequence[Edge]) -> MendedAxis | None:
    """The axis on which clear edges begin where they should; None where they do, or none is clear.

    A straight line through what is tabulated over what is found, or a shift where the edges do
    not span 50 eV. None too where the dispersion would change by more than 10 %: whatever was found
    is something else then.
    """
    clear = tuple(item for item in edges if item.snr >= LEAST_SNR)
    found = np.array([item.onset_ev for item in clear])
    tabulated = np.array([item.expected_ev for item in clear])
    if not clear or np.abs(found - tabulated).max() <= LEAST_DEPARTURE_EV:
        return None
    if np.ptp(found) >= LEAST_SPAN_EV:
        stretch, shift = np.polyfit(found, tabulated, 1)
    else:
        stretch, shift = 1.0, float(np.mean(tabulated - found))
    if abs(stretch - 1.0) > MOST_STRETCH:
        return None
    changed = replace(
        old,
        offset_ev=float(shift + stretch * old.offset_ev),
        scale_ev=float(stretch * old.scale_ev),
    )
    return MendedAxis(changed, clear)
