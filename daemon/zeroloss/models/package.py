"""Loads a model package: a folder with `manifest.json` and one self-contained ONNX file."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import PackageError
from .manifest import MANIFEST_FORMAT, Manifest
from .onnx_file import check_onnx

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_GRAPH_BYTES = 1 << 28
_SHOWN_ERRORS = 3


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package whose manifest is valid and whose graph is the one that was exported.

    `sha256` covers both: it is the hash of the manifest's bytes followed by the graph's digest.
    """

    folder: Path
    manifest: Manifest
    sha256: str
    graph_bytes: int

    @property
    def name(self) -> str:
        """The name that the manifest gives."""
        return self.manifest.name

    def read_graph(self) -> bytes:
        """The ONNX file; `PackageError` when it changed since the package was loaded."""
        return _read_graph(self.folder, self.manifest)[0]


def load_package(folder: Path) -> ModelPackage:
    """Read and check the package in `folder`; nothing of it is executed.

    Raises `PackageError`, one sentence that names the folder, what is wrong and what was expected.
    """
    raw = _read_capped(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES)
    manifest = parse_manifest(raw, folder)
    graph, digest = _read_graph(folder, manifest)
    try:
        opset = check_onnx(graph)
    except PackageError as error:
        raise PackageError(f"model package {folder}: {manifest.graph.file} {error}") from None
    if opset != manifest.graph.opset:
        raise PackageError(
            f"model package {folder}: {manifest.graph.file} is of opset {opset}, the manifest says "
            f"{manifest.graph.opset}"
        )
    sha256 = hashlib.sha256(raw + digest).hexdigest()
    return ModelPackage(folder, manifest, sha256, len(graph))


def parse_manifest(raw: bytes, folder: Path) -> Manifest:
    """The manifest in these bytes of JSON; `PackageError` names every key that is wrong."""
    try:
        manifest = Manifest.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    else:
        # Python code may leave the format out, a file says which it is.
        if "format" not in manifest.model_fields_set:
            raise PackageError(
                f"model package {folder}: {MANIFEST_FILE}: the key format is missing"
            )
        return manifest
    unknown_format = [item for item in problems if item["loc"] == ("format",)]
    chosen = unknown_format or problems
    sentence = "; ".join(_describe(dict(item)) for item in chosen[:_SHOWN_ERRORS])
    if len(chosen) > _SHOWN_ERRORS:
        sentence += f"; and {len(chosen) - _SHOWN_ERRORS} more"
    raise PackageError(f"model package {folder}: {MANIFEST_FILE}: {sentence}")


def _describe(problem: dict[str, Any]) -> str:
    kind, message = problem["type"], str(problem["msg"])
    key = ".".join(str(item) for item in problem["loc"])
    if kind == "json_invalid":
        return message[0].lower() + message[1:]
    if key == "format" and kind != "missing":
        return (
            f"format {_short(problem['input'])} is not one that this version of zeroloss reads "
            f"(it reads {MANIFEST_FORMAT}): export the package again, or update zeroloss"
        )
    if kind == "missing":
        return f"the key {key} is missing"
    if kind == "extra_forbidden":
        return f"unknown key {key}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if not key:
        return f"expected an object with keys, got {_short(problem['input'])}"
    return f"{key} is {_short(problem['input'])}: {message[0].lower()}{message[1:]}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def save_package(folder: Path, manifest: Manifest, graph: bytes) -> None:
    """Write a package such that nobody ever reads half of it.

    A new folder is written whole beside its place, under a name with a dot in front, and renamed.
    In a folder that is there each file is replaced in one step, the graph first; a reader between
    the two steps finds a graph whose hash is not the manifest's, and refuses it. Other files of
    that folder stay. Raises `PackageError` when the manifest holds the hash of another graph, and
    `OSError` when the package cannot be written.
    """
    digest = hashlib.sha256(graph).hexdigest()
    if digest != manifest.graph.sha256:
        raise PackageError(
            f"model package {folder}: the graph has sha256 {digest}, the manifest says "
            f"{manifest.graph.sha256}: make the manifest of this graph"
        )
    text = manifest.model_dump_json(indent=2) + "\n"
    files = {manifest.graph.file: graph, MANIFEST_FILE: text.encode()}
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        for name, data in files.items():
            (part / name).write_bytes(data)
        if not folder.exists():
            part.rename(folder)
            return
        for name in files:
            (part / name).replace(folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read_graph(folder: Path, manifest: Manifest) -> tuple[bytes, bytes]:
    data = _read_capped(folder, manifest.graph.file, MAX_GRAPH_BYTES)
    digest = hashlib.sha256(data)
    if digest.hexdigest() != manifest.graph.sha256:
        raise PackageError(
            f"model package {folder}: {manifest.graph.file} has sha256 {digest.hexdigest()}, the "
            f"manifest says {manifest.graph.sha256}: the package is damaged, copy it again"
        )
    return data, digest.digest()


def _read_capped(folder: Path, name: str, cap: int) -> bytes:
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise PackageError(
                f"model package {folder}: {name} leads out of the folder, to {path.resolve()}"
            )
        # A pipe or a device would block or never end.
        if not path.is_file():
            raise PackageError(f"model package {folder}: there is no file {name}")
        size = path.stat().st_size
        if size > cap:
            raise PackageError(
                f"model package {folder}: {name} has {size} bytes, at most {cap} are read"
            )
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links before Python 3.13
        raise PackageError(f"model package {folder}: {name} cannot be read: {error}") from error
    if len(data) > cap:
        raise PackageError(f"model package {folder}: {name} grew beyond {cap} bytes")
    return data
