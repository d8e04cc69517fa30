"""Reads what must be known of an ONNX file before it is executed, without the onnx package.

A walk along the field numbers of onnx.proto: the opset, and whether a tensor keeps its values
outside the file.
"""

from __future__ import annotations

from ._protobuf import NotProtobufError, fields
from .errors import PackageError

MAX_DEPTH = 64

_EXTERNAL = 1

# Field numbers of onnx.proto: message -> {field: message inside it}.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR, _SPARSE, _FUNCTION = range(7)
_INSIDE: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {
        5: _TENSOR,
        6: _GRAPH,
        10: _TENSOR,
        11: _GRAPH,
        22: _SPARSE,
        23: _SPARSE,
    },
    _TENSOR: {},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
}
_OPSET_IMPORT = 8
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14


def check_onnx(data: bytes) -> int:
    """The opset of the standard operators that an ONNX file imports.

    Raises `PackageError` when the bytes are no ONNX model or a tensor is stored outside of them.
    """
    opset: int | None = None
    graphs = 0
    view = memoryview(data)
    try:
        for field, value, _ in fields(view):
            if field == _OPSET_IMPORT and isinstance(value, memoryview):
                version = _standard_opset(value)
                opset = version if version is not None else opset
            if field == 7:
                graphs += 1
        _refuse_external(view, _MODEL, 0)
    except NotProtobufError as error:
        raise PackageError(f"is not an ONNX file: {error}") from None
    if graphs != 1 or opset is None:
        raise PackageError("is not an ONNX file: it holds no graph or no opset")
    return opset


def _standard_opset(view: memoryview) -> int | None:
    domain, version = b"", None
    for field, value, _ in fields(view):
        if field == 1 and isinstance(value, memoryview):
            domain = bytes(value)
        elif field == 2 and isinstance(value, int):
            version = value
    return version if domain in (b"", b"ai.onnx") else None


def _refuse_external(view: memoryview, message: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise PackageError(f"nests its graphs deeper than {MAX_DEPTH} levels")
    inside = _INSIDE[message]
    for field, value, _ in fields(view):
        if message == _TENSOR and (
            field == _TENSOR_EXTERNAL_DATA
            or (field == _TENSOR_DATA_LOCATION and value == _EXTERNAL)
        ):
            raise PackageError(
                "keeps weights in another file: export it with the weights inside the ONNX file"
            )
        if field in inside and isinstance(value, memoryview):
            _refuse_external(value, inside[field], depth + 1)
