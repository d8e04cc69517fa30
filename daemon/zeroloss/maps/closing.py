"""How a map ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zeroloss.wire import ExitStatus


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of a map: how its run ended, why, and the labels found per probability layer."""

    status: ExitStatus
    reason: str = ""
    detected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
