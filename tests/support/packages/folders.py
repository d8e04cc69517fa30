"""Writes and changes the two files of a model package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

OPSET = 20


def write_package(
    folder: Path, manifest: Mapping[str, Any], graph: bytes, changes: Mapping[str, Any] | None
) -> Path:
    """Write a package to `folder / name` and return that path.

    `manifest` may leave out what is the same for all: the format, the file of the graph and what
    trained it. `changes` replaces values by dotted key ("takes.modality": "edx").
    """
    whole: dict[str, Any] = {
        "format": 1,
        "version": "1.0.0",
        "graph": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(graph).hexdigest(),
            "opset": OPSET,
            "max_error": 0.0,
        },
        "trained": {
            "date": "2026-01-01",
            "software": "none",
            "data": "none: written by hand",
            "spectra": 0,
            "members": [],
        },
        **manifest,
    }
    # The folder keeps its name where `changes` give the package another.
    target = folder / whole["name"]
    for key, value in (changes or {}).items():
        change(whole, key, value)
    target.mkdir(parents=True)
    (target / "model.onnx").write_bytes(graph)
    write_manifest(target, whole)
    return target


def parse_model(text: str) -> bytes:
    """The ONNX file of a model in ONNX's text syntax; skips the test without the package onnx."""
    parser = pytest.importorskip("onnx.parser", reason="building model packages needs onnx")
    data: bytes = parser.parse_model(text).SerializeToString()
    return data


def read_manifest(package: Path) -> dict[str, Any]:
    """The manifest of a package as plain JSON values."""
    manifest: dict[str, Any] = json.loads((package / "manifest.json").read_text("utf-8"))
    return manifest


def write_manifest(package: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a package."""
    (package / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")


def replace_graph(package: Path, model: Any) -> None:
    """Put another ONNX model (a `ModelProto`) into a package, with its right hash."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (package / "model.onnx").write_bytes(data)
    manifest = read_manifest(package)
    change(manifest, "graph.sha256", hashlib.sha256(data).hexdigest())
    write_manifest(package, manifest)


def change(manifest: dict[str, Any], key: str, value: Any) -> None:
    """Set one value by its dotted key; a number picks from a list."""
    *path, last = key.split(".")
    inner: Any = manifest
    for part in path:
        inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    if isinstance(inner, list):
        inner[int(last)] = value
    else:
        inner[last] = value
