"""Energy axis, scan geometry, coverage and the ledger of a run."""

from __future__ import annotations

from .axis import AxisError, EnergyAxis
from .coverage import Coverage
from .geometry import ScanGeometry
from .intervals import IntervalSet
from .ledger import Ledger, runs_of

__all__ = [
    "AxisError",
    "Coverage",
    "EnergyAxis",
    "IntervalSet",
    "Ledger",
    "ScanGeometry",
    "runs_of",
]
