"""What all writers of packages share: a verified graph, and with what and when it was made."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from zeroloss.models.manifest import Graph, Trained
from zeroloss_export.onnx_graph import OPSET, export_graph


def trained_today(**about: Any) -> Trained:
    """``Trained`` with the date of today (UTC) and the versions of torch and onnx."""
    return Trained(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        software=f"torch {metadata.version('torch')}, onnx {metadata.version('onnx')}",
        **about,
    )


def verified_graph(
    module: nn.Module,
    outputs: Sequence[str],
    departure: Callable[[Path], float],
    *,
    parameters: Sequence[str] = (),
    export: Callable[[nn.Module, Path, Sequence[str], Sequence[str]], None] = export_graph,
    finish: Callable[[Path], None] = lambda _: None,
    **described: Any,
) -> tuple[bytes, Graph]:
    """A module as the bytes of an ONNX file, and what the manifest says of it.

    ``finish`` changes the file, then ``departure`` compares it with torch: it returns the largest
    difference or raises ValueError. ``described`` are further fields of ``Graph``, which raises
    ValueError for a difference above its limit.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export(module, path, outputs, parameters)
        finish(path)
        error = departure(path)
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return content, Graph(sha256=digest, opset=OPSET, max_error=round(error, 9), **described)
