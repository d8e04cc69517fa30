"""Members of a written package as torch weights: the graph is all that need be kept of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from zeroloss.models import load_package

_MEMBER: Final = re.compile(r"^(?:ensemble\.)?members\.(\d+)\.(.+)$")
_BIAS: Final = re.compile(r"^(?:ensemble\.)?members\.(\d+)\.(.+\.)bias$")
_NOTE: Final = re.compile(r"^(\S+) seed (\d+), (\d+) spectra")


@dataclass(frozen=True, slots=True)
class Recovered:
    """Weights by their names in the module; ``origin`` says where they were found."""

    architecture: str
    seed: int
    spectra: int
    weights: dict[str, Tensor]
    origin: str


def recover_members(folder: Path) -> list[Recovered]:
    """All members of a package folder, in order.

    ValueError if the manifest does not name the members that the graph holds.
    """
    manifest = load_package(folder).manifest
    found = weights_of(onnx.load(folder / manifest.graph.file, load_external_data=False).graph)
    notes = [_NOTE.match(member) for member in manifest.trained.members]
    named = [note for note in notes if note is not None]
    if not found or len(named) != len(found):
        raise ValueError(
            f"{folder}: expected {max(len(found), 1)} members by architecture, seed and spectra, "
            f"got {list(manifest.trained.members)}"
        )
    return [
        Recovered(
            note[1],
            int(note[2]),
            int(note[3]),
            found[index],
            f"{manifest.name} {manifest.version}, member {index}",
        )
        for index, note in enumerate(named)
    ]


def weights_of(graph: onnx.GraphProto) -> list[dict[str, Tensor]]:
    """Weights of every member of an exported graph by their names in the module.

    The export keeps the names of parameters but for the matrices of linear layers, which it
    transposes and renames: these are found by the bias that is added to their product.
    """
    constants = {item.name: item for item in graph.initializer}
    # Weights may be stored as float16 and widened by a Cast of another name.
    stored = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast" and node.input[0] in constants
    }
    found: dict[int, dict[str, Tensor]] = {}
    for name, item in constants.items():
        if match := _MEMBER.match(name):
            found.setdefault(int(match[1]), {})[match[2]] = _tensor(item)
    products = {
        node.output[0]: stored.get(node.input[1], node.input[1])
        for node in graph.node
        if node.op_type == "MatMul"
    }
    for node in graph.node:
        if node.op_type != "Add":
            continue
        names = [stored.get(name, name) for name in node.input]
        bias = next((match for name in names if (match := _BIAS.match(name))), None)
        matrix = next((products[name] for name in names if name in products), "")
        if bias is not None and matrix in constants:
            weight = _tensor(constants[matrix]).T.contiguous()
            found[int(bias[1])][f"{bias[2]}weight"] = weight
    return [found[index] for index in sorted(found)]


def _tensor(item: onnx.TensorProto) -> Tensor:
    return torch.from_numpy(np.array(numpy_helper.to_array(item), dtype=np.float32))
