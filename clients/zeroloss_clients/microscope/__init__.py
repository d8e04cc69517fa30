"""A simulated microscope: a specimen, a timed acquisition, faults on the way, and the sender."""

from __future__ import annotations

from .acquisition import Acquisition
from .faults import FaultError, FaultPlan, SourceAbortedError
from .readout import Readout, Timed, block_size
from .report import SenderState, SendReport
from .sender import StreamSender
from .specimen import Specimen, SpecimenError
from .streaming import stream

__all__ = [
    "Acquisition",
    "FaultError",
    "FaultPlan",
    "Readout",
    "SendReport",
    "SenderState",
    "SourceAbortedError",
    "Specimen",
    "SpecimenError",
    "StreamSender",
    "Timed",
    "block_size",
    "stream",
]
