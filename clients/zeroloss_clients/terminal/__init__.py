"""Maps in a terminal: pictures of half blocks in a perceptual colour ramp."""

from __future__ import annotations

from . import ramp
from .picture import picture
from .view import MapsView, final_report

__all__ = ["MapsView", "final_report", "picture", "ramp"]
