"""Signals of a file through RosettaSciIO, the optional extra `hyperspy`."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import SpectrumFileError
from ._signal import Signal

_UNPICKLING = frozenset({"PantaRhei"})
"""Formats whose readers unpickle parts of the file."""


def read_rosetta(path: Path) -> list[Signal]:
    """Every signal of the file; `SpectrumFileError` where no reader makes sense of it."""
    readers = _readers(path)
    failures: list[str] = []
    signals: list[Signal] = []
    for reader in readers:
        try:
            found = _read_with(reader, path)
        except SpectrumFileError as error:
            failures.append(str(error))
            continue
        if any(signal.energy is not None for signal in found):
            return found
        signals += found
    if signals or not failures:
        return signals
    raise SpectrumFileError(failures[0])


def _readers(path: Path) -> list[dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plugins = importlib.import_module("rsciio").IO_PLUGINS
    except ImportError:
        raise SpectrumFileError(
            "reading microscope files needs RosettaSciIO: pip install 'zeroloss[hyperspy]'"
        ) from None
    suffix = path.suffix.lower().lstrip(".")
    usable = [item for item in plugins if item["name"] not in _UNPICKLING]
    chosen = [
        item for item in usable if suffix in {name.lower() for name in item["file_extensions"]}
    ]
    if suffix == "h5":
        chosen += [item for item in usable if item["name"] == "HSPY"]
    if not chosen:
        known = sorted({name.lower() for item in usable for name in item["file_extensions"]})
        raise SpectrumFileError(
            f"unknown kind of file {path.suffix or '(no extension)'!r}: expected one of "
            + " ".join(known)
        )
    # Several readers claim .hdf5; HyperSpy's own is the one that most such files are for.
    return sorted(chosen, key=lambda item: item["name"] != "HSPY")


def _read_with(reader: dict[str, Any], path: Path) -> list[Signal]:
    name = reader["name"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = importlib.import_module(reader["api"]).file_reader(str(path))
    except ImportError as error:
        raise SpectrumFileError(
            f"the {name} reader needs another package ({error}): install 'rosettasciio[all]'"
        ) from None
    except MemoryError:
        raise SpectrumFileError("the file does not fit into memory") from None
    except Exception as error:  # noqa: BLE001 - readers of many authors raise whatever they like
        lines = str(error).splitlines() or [type(error).__name__]
        raise SpectrumFileError(
            f"cannot be read as {name} ({lines[0][:200]}); is the file whole?"
        ) from None
    return [
        Signal.of(np.asarray(item["data"]), item["axes"], item.get("metadata") or {})
        for item in loaded
    ]
