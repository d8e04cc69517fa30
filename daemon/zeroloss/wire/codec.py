"""Messages to multipart frames and back: topic, msgpack header, raw little-endian buffers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TypeAlias

import msgpack
import numpy as np

from .acquisition import Array, Heartbeat, RunEnd, RunStart, SpectraBlock
from .errors import Fault, WireError
from .fields import Fields
from .limits import (
    MAX_BUFFER_BYTES,
    MAX_DIMS,
    MAX_GAPS,
    MAX_HEADER_BYTES,
    MAX_METADATA,
    MAX_NAME,
    MAX_PARTS,
    MAX_TEXT,
    MAX_TOPIC_BYTES,
    PROTOCOL_VERSION,
)
from .maps import LedgerUpdate, MapClose, MapOpen, MapUpdate
from .requests import Gaps, Refusal, Request, Snapshot
from .spectra import Spectra

Message: TypeAlias = (
    RunStart
    | SpectraBlock
    | Heartbeat
    | RunEnd
    | MapOpen
    | MapUpdate
    | LedgerUpdate
    | MapClose
    | Request
    | Snapshot
    | Gaps
    | Spectra
    | Refusal
)
Part: TypeAlias = bytes | bytearray | memoryview

_TYPES: tuple[type[Message], ...] = (
    RunStart,
    SpectraBlock,
    Heartbeat,
    RunEnd,
    MapOpen,
    MapUpdate,
    LedgerUpdate,
    MapClose,
    Request,
    Snapshot,
    Gaps,
    Spectra,
    Refusal,
)
_BY_KIND: dict[str, type[Message]] = {item.KIND: item for item in _TYPES}
_DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "uint16", "uint32", "uint64", "int32", "int64", "float32", "float64")
}


def topic(kind: str, run: bytes | None) -> bytes:
    """The first frame: `kind/` and the first eight hex digits of the run, for prefix filters."""
    return f"{kind}/{'' if run is None else run[:4].hex()}/".encode("ascii")


def encode(message: Message) -> list[Part]:
    """The frames of a message; arrays are sent as they lie in memory where they can be."""
    described: list[dict[str, object]] = []
    buffers: list[Part] = []
    for name, array in message.buffers().items():
        if array.dtype.name not in _DTYPES:
            raise WireError(Fault.DTYPE, f"buffer {name!r}: dtype {array.dtype} is not carried")
        plain = np.ascontiguousarray(array, dtype=_DTYPES[array.dtype.name])
        described.append(
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "enc": "raw"}
        )
        buffers.append(plain.reshape(-1).view(np.uint8).data if plain.size else b"")
    header: dict[str, object] = {
        "v": PROTOCOL_VERSION,
        "k": message.KIND,
        "run": message.run,
        "seq": message.seq,
        "t_ns": message.t_ns,
        **message.to_header(),
        "bufs": described,
    }
    return [topic(message.KIND, message.run), msgpack.packb(header, use_bin_type=True), *buffers]


def _buffer(description: object, part: Part) -> tuple[str, Array]:
    fields = Fields(description, "bufs")
    name = fields.text("name", 2 * MAX_NAME + 1)
    dtype_name = fields.text("dtype", 16)
    dtype = _DTYPES.get(dtype_name)
    if dtype is None:
        raise WireError(Fault.DTYPE, f"buffer {name!r}: unknown dtype {dtype_name!r}")
    encoding = fields.text("enc", 16)
    if encoding != "raw":
        raise WireError(
            Fault.DTYPE, f"buffer {name!r}: encoding {encoding!r}; version 1 carries raw only"
        )
    dims = len(fields.items("shape", MAX_DIMS))
    shape = fields.integers("shape", dims, 0, MAX_BUFFER_BYTES)
    expected = math.prod(shape) * dtype.itemsize
    if expected == 0 and math.prod(max(1, item) for item in shape) > MAX_BUFFER_BYTES:
        raise WireError(Fault.OVERSIZED, f"buffer {name!r}: no array has shape {list(shape)}")
    length = memoryview(part).nbytes
    if expected > MAX_BUFFER_BYTES or length > MAX_BUFFER_BYTES:
        raise WireError(
            Fault.OVERSIZED,
            f"buffer {name!r} of {max(expected, length)} bytes: cap {MAX_BUFFER_BYTES}",
        )
    if expected != length:
        fault = Fault.TRUNCATED if length < expected else Fault.SHAPE
        raise WireError(
            fault,
            f"buffer {name!r}: shape {list(shape)} of {dtype_name} needs {expected} bytes, "
            f"got {length}",
        )
    array = np.frombuffer(part, dtype=dtype).reshape(shape)
    if sys.byteorder == "big":
        array = array.astype(dtype.newbyteorder("="))
    return name, array


def decode(parts: Sequence[Part]) -> Message:
    """The message in these frames; arrays are read-only views of the frames.

    Raises `WireError`, and nothing else, for whatever else comes over the wire.
    """
    if len(parts) < 2:
        raise WireError(Fault.TRUNCATED, f"expected a topic and a header, got {len(parts)} parts")
    if len(parts) > MAX_PARTS:
        raise WireError(Fault.OVERSIZED, f"{len(parts)} parts: the cap is {MAX_PARTS}")
    if memoryview(parts[0]).nbytes > MAX_TOPIC_BYTES:
        raise WireError(Fault.OVERSIZED, f"a topic of more than {MAX_TOPIC_BYTES} bytes")
    size = memoryview(parts[1]).nbytes
    if size > MAX_HEADER_BYTES:
        raise WireError(Fault.OVERSIZED, f"a header of {size} bytes: the cap is {MAX_HEADER_BYTES}")
    try:
        raw = msgpack.unpackb(
            parts[1],
            raw=False,
            strict_map_key=True,
            max_str_len=4 * MAX_TEXT,
            max_bin_len=MAX_TEXT,
            max_array_len=MAX_GAPS,
            max_map_len=2 * MAX_METADATA,
            max_ext_len=0,
        )
    except Exception as error:  # noqa: BLE001 - msgpack raises half a dozen unrelated types on hostile bytes
        raise WireError(Fault.MALFORMED, f"the header is not msgpack: {error}") from None
    fields = Fields(raw)
    version = fields.integer("v", 0, 1 << 31)
    if version != PROTOCOL_VERSION:
        raise WireError(
            Fault.VERSION,
            f"protocol version {version}: this program speaks version {PROTOCOL_VERSION}; "
            "update the older side",
        )
    kind = fields.text("k", MAX_NAME)
    if kind not in _BY_KIND:
        raise WireError(Fault.KIND, f"unknown kind of message {kind!r}")
    described = fields.items("bufs", MAX_PARTS)
    if len(described) != len(parts) - 2:
        raise WireError(
            Fault.TRUNCATED if len(parts) - 2 < len(described) else Fault.SHAPE,
            f"the header describes {len(described)} buffers, {len(parts) - 2} came",
        )
    buffers: dict[str, Array] = {}
    for description, part in zip(described, parts[2:], strict=True):
        name, array = _buffer(description, part)
        if name in buffers:
            raise WireError(Fault.MALFORMED, f"two buffers named {name!r}")
        buffers[name] = array
    return _BY_KIND[kind].from_fields(fields, buffers)
