"""From received spectra to values on a map: queue, workers, backlog, runs."""

from __future__ import annotations

from .analysis import Analysis, choose_analyses
from .answers import Handed
from .backlog import Backlog
from .batcher import Batcher
from .executor import LocalExecutor
from .run import Run
from .work import Work, mask_invalid

__all__ = [
    "Analysis",
    "Backlog",
    "Batcher",
    "Handed",
    "LocalExecutor",
    "Run",
    "Work",
    "choose_analyses",
    "mask_invalid",
]
