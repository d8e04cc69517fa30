"""Simulated spectrum images of whole specimens, with maps of what is true about them."""

from __future__ import annotations

from zeroloss_export.simulate.specimens.files import write_specimen
from zeroloss_export.simulate.specimens.scan import (
    Conditions,
    EnergyRange,
    SpecimenScan,
    pure_spectra,
    simulate,
)
from zeroloss_export.simulate.specimens.shapes import SPECIMENS, Design

__all__ = [
    "SPECIMENS",
    "Conditions",
    "Design",
    "EnergyRange",
    "SpecimenScan",
    "pure_spectra",
    "simulate",
    "write_specimen",
]
