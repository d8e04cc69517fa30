"""The wire protocol: messages, codec, limits, and nothing else. Specified in docs/protocol.md."""

from __future__ import annotations

from .acquisition import (
    COUNT_DTYPES,
    RUN_BYTES,
    EnergyRange,
    ExitStatus,
    Heartbeat,
    Modality,
    Pattern,
    RunEnd,
    RunStart,
    ScanPlan,
    SpectraBlock,
)
from .codec import Message, Part, decode, encode, topic
from .errors import Fault, WireError
from .layers import OutputInfo, PackageInfo, ParameterInfo, SelectionInfo, SpectrumAxis, layer_key
from .limits import PROTOCOL_VERSION
from .maps import DAEMON_BYTES, LedgerTotals, LedgerUpdate, MapClose, MapOpen, MapUpdate
from .requests import Gaps, Refusal, Request, Snapshot
from .spectra import RAW, Spectra, SpectrumInfo

__all__ = [
    "COUNT_DTYPES",
    "DAEMON_BYTES",
    "PROTOCOL_VERSION",
    "RAW",
    "RUN_BYTES",
    "EnergyRange",
    "ExitStatus",
    "Fault",
    "Gaps",
    "Heartbeat",
    "LedgerTotals",
    "LedgerUpdate",
    "MapClose",
    "MapOpen",
    "MapUpdate",
    "Message",
    "Modality",
    "OutputInfo",
    "PackageInfo",
    "ParameterInfo",
    "Part",
    "Pattern",
    "Refusal",
    "Request",
    "RunEnd",
    "RunStart",
    "ScanPlan",
    "SelectionInfo",
    "Snapshot",
    "Spectra",
    "SpectraBlock",
    "SpectrumAxis",
    "SpectrumInfo",
    "WireError",
    "decode",
    "encode",
    "layer_key",
    "topic",
]
