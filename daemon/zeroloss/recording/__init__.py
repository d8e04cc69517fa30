"""Recording of the raw stream, and the reader that recovers it whatever happened to the disk."""

from __future__ import annotations

from ._errors import RecordingError
from ._location import BlockReader, Location
from .block_index import BlockIndex, IndexedBlock, IndexedSpectra
from .folder_lock import FolderHeldError, FolderLock
from .recorded_run import RecordedMessage, RecordedRun, find_runs
from .recorder import Recorder, prepare_folder

__all__ = [
    "BlockIndex",
    "BlockReader",
    "FolderHeldError",
    "FolderLock",
    "IndexedBlock",
    "IndexedSpectra",
    "Location",
    "RecordedMessage",
    "RecordedRun",
    "Recorder",
    "RecordingError",
    "find_runs",
    "prepare_folder",
]
