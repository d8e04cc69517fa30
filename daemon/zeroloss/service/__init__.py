"""The daemon: receives, records, accounts, maps and publishes until it is told to stop."""

from __future__ import annotations

from .closing import MAPS_NAME, Finished
from .daemon import Daemon
from .library import ModelChoiceError

__all__ = ["MAPS_NAME", "Daemon", "Finished", "ModelChoiceError"]
