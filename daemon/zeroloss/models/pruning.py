"""Cuts from an ONNX graph what some of its outputs do not need.

ONNX Runtime computes every output of a graph whatever it is asked for: the run option
`only_execute_path_to_fetches` works in its training builds only.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from ._protobuf import NotProtobufError, encode_bytes, encoded_fields, fields
from .errors import PackageError

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO, _SPARSE_INITIALIZER = 1, 5, 12, 13, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_LEFT_OUT = b""
"""The name of an optional input or output that a node does without."""
_VALUE_INFO_NAME, _TENSOR_NAME, _SPARSE_VALUES = 1, 8, 1


def prune(model: bytes, outputs: Set[str]) -> bytes:
    """The ONNX model with these outputs only, and only the nodes and weights that they need.

    Inputs stay, needed or not. `model` must have passed `check_onnx`, which bounds how deep its
    graphs are nested; `PackageError` where it is no ONNX model all the same.
    """
    parts: list[bytes] = []
    try:
        for field, value, whole in encoded_fields(memoryview(model)):
            if field == _MODEL_GRAPH and isinstance(value, memoryview):
                parts.append(encode_bytes(field, _pruned_graph(value, outputs)))
            else:
                parts.append(bytes(whole))
    except NotProtobufError as error:
        raise PackageError(f"is not an ONNX file: {error}") from None
    return b"".join(parts)


def _pruned_graph(graph: memoryview, outputs: Set[str]) -> bytes:
    wanted = {name.encode() for name in outputs}
    needed = set(wanted)
    unused: set[int] = set()
    nodes = [value for field, value in _messages(graph) if field == _NODE]
    # Nodes stand in the order of execution, so every user of a value comes after its maker.
    for index in reversed(range(len(nodes))):
        if needed.isdisjoint(_names(nodes[index], _NODE_OUTPUT)):
            unused.add(index)
        else:
            needed.update(_used_by(nodes[index]))
            needed.discard(_LEFT_OUT)
    parts: list[bytes] = []
    index = -1
    for field, value, whole in encoded_fields(graph):
        if field == _NODE:
            index += 1
        if isinstance(value, memoryview) and (
            (field == _NODE and index in unused)
            or (field == _OUTPUT and wanted.isdisjoint(_names(value, _VALUE_INFO_NAME)))
            or (field == _VALUE_INFO and needed.isdisjoint(_names(value, _VALUE_INFO_NAME)))
            or (field == _INITIALIZER and needed.isdisjoint(_names(value, _TENSOR_NAME)))
            or (field == _SPARSE_INITIALIZER and needed.isdisjoint(_sparse_name(value)))
        ):
            continue
        parts.append(bytes(whole))
    return b"".join(parts)


def _used_by(node: memoryview) -> Iterator[bytes]:
    """Names that a node reads, also inside its branches and loop bodies."""
    for field, value in _messages(node):
        if field == _NODE_INPUT:
            yield bytes(value)
        elif field == _NODE_ATTRIBUTE:
            for inner, graph in _messages(value):
                if inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    for kind, content in _messages(graph):
                        if kind == _NODE:
                            yield from _used_by(content)


def _sparse_name(tensor: memoryview) -> list[bytes]:
    return [
        name
        for field, values in _messages(tensor)
        if field == _SPARSE_VALUES
        for name in _names(values, _TENSOR_NAME)
    ]


def _messages(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    for field, value in fields(view):
        if isinstance(value, memoryview):
            yield field, value


def _names(view: memoryview, wanted: int) -> list[bytes]:
    return [bytes(value) for field, value in _messages(view) if field == wanted]
