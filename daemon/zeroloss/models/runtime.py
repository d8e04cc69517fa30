"""The guarded import of ONNX Runtime.

Its CPU and GPU wheels own the same import name and pip does not notice when both are installed:
the later one overwrites the earlier, and removing either leaves a broken rest behind.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
from threading import Lock
from typing import Any

from .errors import InstallError

WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)
"""Distributions that install the import name `onnxruntime`."""
INSTALL = 'pip install "zeroloss[cpu]" or, with an NVIDIA GPU, pip install "zeroloss[gpu]"'
CPU_ARENA_BYTES = 4 << 30
"""All CPU sessions of the process share one arena of at most this size."""

_FATAL = 4
_lock = Lock()
_ready = False


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, silenced and with a bounded CPU arena.

    Raises `InstallError` with one sentence when it is missing, doubled or broken.
    """
    global _ready
    with _lock:
        ort = _import()
        if not _ready:
            _prepare(ort)
            _ready = True
    return ort


def installed_wheels() -> list[str]:
    """The installed distributions that own the import name, by normalised name."""
    return [name for name in WHEELS if any(importlib.metadata.distributions(name=name))]


def preload_gpu_libraries(ort: Any) -> str:
    """Load CUDA and cuDNN from their wheels; what the runtime said of those it did not find."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return " ".join(said.getvalue().split())


def _import() -> Any:
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise InstallError(
            f"{' and '.join(wheels)} are installed together and overwrite each other's files: run "
            f"pip uninstall -y {' '.join(wheels)}, then {INSTALL}"
        )
    try:
        ort = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            raise InstallError(f"ONNX Runtime is not installed: {INSTALL}") from None
        raise InstallError(_broken(wheels, str(error))) from error
    # A damaged binary may raise anything.
    except Exception as error:
        raise InstallError(_broken(wheels, f"{type(error).__name__}: {error}")) from error
    if not hasattr(ort, "InferenceSession") or not hasattr(ort, "__version__"):
        where = ", ".join(getattr(ort, "__path__", ["an unknown place"]))
        raise InstallError(_broken(wheels, f"only a rest of it is left in {where}"))
    return ort


def _broken(wheels: list[str], reason: str) -> str:
    remove = " ".join(wheels or WHEELS[:2])
    return (
        f"ONNX Runtime is installed but broken ({reason}): run pip uninstall -y {remove}, delete "
        f"the folder onnxruntime if one remains in site-packages, then {INSTALL}"
    )


def _prepare(ort: Any) -> None:
    # The daemon reports errors itself; the runtime's own lines would double them on stderr.
    ort.set_default_logger_severity(_FATAL)
    ort.disable_telemetry_events()
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    same_as_requested = 1
    arena = {"max_mem": CPU_ARENA_BYTES, "arena_extend_strategy": same_as_requested}
    arena |= {"initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1}
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(arena))
