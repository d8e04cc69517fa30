"""Cuts from an ONNX graph what some of its outputs do not need.

ONNX Runtime computes every output of a graph whatever it is asked for: the run option
`only_execute_path_to_fetches` works in its training builds only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import dataclass

from ._protobuf import NotProtobufError, encode_bytes, fields
from .errors import PackageError

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO, _SPARSE_INITIALIZER = 1, 5, 11, 12, 13, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_LEFT_OUT = b""
"""The name of an optional input or output that a node does without."""
_VALUE_INFO_NAME, _TENSOR_NAME, _SPARSE_VALUES = 1, 8, 1
_TO_FIRST_DIMENSION = (2, 1, 2, 1)
"""From a value info: its type, of a tensor, the shape, the first dimension."""
_OF_SHAPE = (b"Shape", b"Size")
"""Operators that look at the sizes of a tensor, not at its values."""


def prune(model: bytes, outputs: Set[str], given: Collection[str] = ()) -> bytes:
    """The ONNX model with these outputs only, and only the nodes and weights that they need.

    Inputs stay, needed or not. Tensors `given`, outputs of the whole graph, become inputs whose
    first dimension is open; what only they need goes. `model` must have passed `check_onnx`, which
    bounds how deep its graphs are nested; `PackageError` where it is no ONNX model all the same,
    and where no node makes a tensor that is given.
    """
    parts: list[bytes] = []
    try:
        for field, value, whole in fields(memoryview(model)):
            if field == _MODEL_GRAPH and isinstance(value, memoryview):
                graph = _pruned_graph(value, _encoded(outputs), _encoded(given))
                parts.append(encode_bytes(field, graph))
            else:
                parts.append(bytes(whole))
    except NotProtobufError as error:
        raise PackageError(f"is not an ONNX file: {error}") from None
    return b"".join(parts)


def output_names(model: bytes) -> set[str]:
    """Names of the outputs of an ONNX model; `PackageError` as `prune`, and for what is no text."""
    try:
        return {
            _decoded(name)
            for field, graph in _messages(memoryview(model))
            if field == _MODEL_GRAPH
            for name in _names_of(graph, _OUTPUT)
        }
    except NotProtobufError as error:
        raise PackageError(f"is not an ONNX file: {error}") from None


def read_values(model: bytes, outputs: Set[str]) -> set[str]:
    """Names of the inputs whose values these outputs are made of.

    Nodes that look at the sizes of an input do not read its values. `PackageError` as
    `output_names`.
    """
    read: set[bytes] = set()
    try:
        for field, graph in _messages(memoryview(model)):
            if field == _MODEL_GRAPH:
                inputs = set(_names_of(graph, _INPUT))
                needed, _ = _needed(_nodes(graph), _encoded(outputs), set(), sized=inputs)
                read |= needed & inputs
    except NotProtobufError as error:
        raise PackageError(f"is not an ONNX file: {error}") from None
    return {_decoded(name) for name in read}


def _pruned_graph(graph: memoryview, wanted: set[bytes], given: set[bytes]) -> bytes:
    nodes = _nodes(graph)
    made = {name for node in nodes for name in node.makes}
    lost = given - made.intersection(_names_of(graph, _OUTPUT))
    if lost:
        raise PackageError(
            f"has no output {min(lost).decode()} that a node makes, expected for a prepared tensor"
        )
    needed, used = _needed(nodes, wanted, given)
    parts: list[bytes] = []
    index = -1
    for field, value, whole in fields(graph):
        if field == _NODE:
            index += 1
        if not isinstance(value, memoryview):
            parts.append(bytes(whole))
        elif field == _NODE:
            if index in used and given.isdisjoint(nodes[index].makes):
                parts.append(bytes(whole))
            elif index in used:
                parts.append(encode_bytes(field, _without(value, given)))
        elif field == _OUTPUT:
            name = set(_names(value, _VALUE_INFO_NAME))
            if name & given:
                parts.append(encode_bytes(_INPUT, _open_first(value)))
            if name & wanted:
                parts.append(bytes(whole))
        elif not (
            # What is said of inner tensors holds for the first dimension that they had.
            (field == _VALUE_INFO and (given or needed.isdisjoint(_names(value, _VALUE_INFO_NAME))))
            or (field == _INITIALIZER and needed.isdisjoint(_names(value, _TENSOR_NAME)))
            or (field == _SPARSE_INITIALIZER and needed.isdisjoint(_sparse_name(value)))
        ):
            parts.append(bytes(whole))
    return b"".join(parts)


def _needed(
    nodes: Sequence[_Node],
    wanted: set[bytes],
    given: set[bytes],
    *,
    sized: Set[bytes] = frozenset(),
) -> tuple[set[bytes], set[int]]:
    """Names of the tensors that are needed, of those `sized` by their values; the nodes in use."""
    needed = wanted - given
    used: set[int] = set()
    # Nodes stand in the order of execution, so every user of a value comes after its maker.
    for index in reversed(range(len(nodes))):
        if not needed.isdisjoint(nodes[index].makes):
            used.add(index)
            needed.update(nodes[index].read(sized))
            needed -= given
            needed.discard(_LEFT_OUT)
    return needed, used


@dataclass(frozen=True, slots=True)
class _Node:
    """Names of the tensors that a node makes and takes; nodes `inside` its branches and loops."""

    makes: Sequence[bytes]
    takes: Sequence[bytes]
    for_size: bool
    inside: Sequence[_Node]

    def read(self, sized: Set[bytes]) -> Iterator[bytes]:
        """Names that it reads, of those `sized` by their values; also in branches and loops."""
        for name in self.takes:
            if not (self.for_size and name in sized):
                yield name
        for node in self.inside:
            yield from node.read(sized)


def _node(message: memoryview) -> _Node:
    makes, takes, inside = [], [], []
    operator = b""
    for field, value in _messages(message):
        if field == _NODE_INPUT:
            takes.append(bytes(value))
        elif field == _NODE_OUTPUT:
            makes.append(bytes(value))
        elif field == _NODE_OPERATOR:
            operator = bytes(value)
        elif field == _NODE_ATTRIBUTE:
            for inner, graph in _messages(value):
                if inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    inside += _nodes(graph)
    return _Node(makes, takes, operator in _OF_SHAPE, inside)


def _without(node: memoryview, given: set[bytes]) -> bytes:
    """The node with other names for outputs that are given: it makes more than them."""
    parts = []
    for field, value, whole in fields(node):
        if field == _NODE_OUTPUT and isinstance(value, memoryview) and bytes(value) in given:
            parts.append(encode_bytes(field, bytes(value) + b"/not_used"))
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def _open_first(message: memoryview, path: Sequence[int] = _TO_FIRST_DIMENSION) -> bytes:
    """The name and type of a tensor, nothing said of its first dimension."""
    parts = []
    found = False
    for field, value, whole in fields(message):
        if field == path[0] and isinstance(value, memoryview) and not found:
            found = True
            parts.append(encode_bytes(field, _open_first(value, path[1:]) if path[1:] else b""))
        else:
            parts.append(bytes(whole))
    return b"".join(parts)


def _sparse_name(tensor: memoryview) -> list[bytes]:
    return [
        name
        for field, values in _messages(tensor)
        if field == _SPARSE_VALUES
        for name in _names(values, _TENSOR_NAME)
    ]


def _nodes(graph: memoryview) -> list[_Node]:
    return [_node(value) for field, value in _messages(graph) if field == _NODE]


def _names_of(graph: memoryview, wanted: int) -> list[bytes]:
    """Names of the inputs, or of the outputs."""
    return [
        name
        for field, info in _messages(graph)
        if field == wanted
        for name in _names(info, _VALUE_INFO_NAME)
    ]


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise PackageError(f"has the name {name!r}, expected UTF-8: export it again") from None


def _encoded(names: Collection[str]) -> set[bytes]:
    return {name.encode() for name in names}


def _messages(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    for field, value, _ in fields(view):
        if isinstance(value, memoryview):
            yield field, value


def _names(view: memoryview, wanted: int) -> list[bytes]:
    return [bytes(value) for field, value in _messages(view) if field == wanted]
