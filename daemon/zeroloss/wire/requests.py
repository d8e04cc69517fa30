"""Questions to a daemon, and the answers snapshot, gaps and refusal. They share a `ticket`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from .acquisition import MAX_SEQ, RUN_BYTES, Array
from .errors import Fault, WireError
from .fields import Fields
from .layers import read_layers, read_vector
from .limits import (
    MAX_ASKED_NAMES,
    MAX_ASKED_PIXELS,
    MAX_GAPS,
    MAX_NAME,
    MAX_PIXELS,
    MAX_SPECTRA,
)
from .maps import LedgerTotals, MapClose, MapOpen
from .spectra import MAX_ANSWER_NAME

Operation = Literal["snapshot", "gaps", "spectrum"]
OPERATIONS: tuple[Operation, ...] = ("snapshot", "gaps", "spectrum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question on the ROUTER socket; `run` None means the newest run.

    `snapshot`: the map from pixel `first` on, in pages; `gaps`: the spectra that are missing;
    `spectrum`: `what` (raw/<range>, <package>/<output>; none: the raw counts of every range) of the
    summed counts of some pixels, either `pixels` (flat indices uint32 [n]) or the rectangle of
    `rows` and `columns`, half-open [begin, end), None for all of them. `parameters` are values for
    <package>.<name> that count before those of the run.
    """

    op: Operation
    ticket: int
    run: bytes | None = None
    first: int = 0
    t_ns: int = 0
    what: tuple[str, ...] = ()
    pixels: npt.NDArray[np.uint32] | None = None
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)

    KIND = "ask"

    @property
    def seq(self) -> int:
        """Requests are numbered by their ticket."""
        return self.ticket

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        header: dict[str, object] = {"op": self.op, "first": self.first}
        if self.op == "spectrum":
            header |= {
                "what": list(self.what),
                "rows": None if self.rows is None else list(self.rows),
                "columns": None if self.columns is None else list(self.columns),
            }
        if self.parameters:
            header["parameters"] = {name: float(value) for name, value in self.parameters.items()}
        return header

    def buffers(self) -> dict[str, Array]:
        """`@pixels` where pixels are listed."""
        return {} if self.pixels is None else {"@pixels": self.pixels}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Request:
        """Read the message; `WireError` on anything out of bounds."""
        op = cast(Operation, fields.choice("op", OPERATIONS))
        ticket = fields.integer("seq", 0, MAX_SEQ)
        run = fields.raw("run", RUN_BYTES) if fields.has("run") else None
        first = fields.integer("first", 0, MAX_PIXELS)
        t_ns = fields.integer("t_ns", 0, MAX_SEQ)
        if op != "spectrum":
            return cls(op=op, ticket=ticket, run=run, first=first, t_ns=t_ns)
        rows, columns = _span(fields, "rows"), _span(fields, "columns")
        pixels = _asked_pixels(buffers)
        if pixels is not None and (rows is not None or columns is not None):
            raise WireError(Fault.MALFORMED, "a request for listed pixels and for a rectangle")
        return cls(
            op=op,
            ticket=ticket,
            run=run,
            first=first,
            t_ns=t_ns,
            what=_asked_names(fields),
            pixels=pixels,
            rows=rows,
            columns=columns,
            parameters=fields.named_numbers("parameters") if fields.has("parameters") else {},
        )


def _span(fields: Fields, key: str) -> tuple[int, int] | None:
    if not fields.has(key):
        return None
    begin, end = fields.integers(key, 2, 0, MAX_PIXELS)
    if begin >= end:
        raise WireError(Fault.MALFORMED, f"{key} [{begin}, {end}) are none")
    return begin, end


def _asked_pixels(buffers: Mapping[str, Array]) -> npt.NDArray[np.uint32] | None:
    pixels = buffers.get("@pixels")
    if pixels is None:
        return None
    if len(pixels.shape) != 1 or len(pixels) == 0:
        raise WireError(Fault.SHAPE, f"pixels: expected uint32 [n], got {list(pixels.shape)}")
    if len(pixels) > MAX_ASKED_PIXELS:
        raise WireError(
            Fault.OVERSIZED, f"a request for {len(pixels)} pixels: the cap is {MAX_ASKED_PIXELS}"
        )
    vector = read_vector(buffers, "@pixels", np.uint32, len(pixels))
    return vector.astype(np.uint32, copy=False)


def _asked_names(fields: Fields) -> tuple[str, ...]:
    what = fields.texts("what", MAX_ASKED_NAMES)
    for name in what:
        if not name or name.startswith("@") or len(name) > MAX_ANSWER_NAME:
            raise WireError(
                Fault.MALFORMED, f"{name[:MAX_NAME]!r} is no raw/<range> or <package>/<output>"
            )
    if len(set(what)) != len(what):
        raise WireError(Fault.MALFORMED, "a request for spectra names the same thing twice")
    return what


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One page of the whole map, as of published message `seq`: live goes on at `seq + 1`.

    Pixels `first` ... `first + n - 1` of the map; `values` as in `MapUpdate`; `coverage` uint8 [n].
    The last page has `first + n` equal to the number of pixels. `close` tells a finished map.
    """

    run: bytes
    seq: int
    t_ns: int
    ticket: int
    opened: MapOpen
    totals: LedgerTotals
    first: int
    coverage: npt.NDArray[np.uint8]
    values: Mapping[str, npt.NDArray[np.float32]]
    closed: MapClose | None = None

    KIND = "snap"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {
            "ticket": self.ticket,
            "opened": _nested(self.opened),
            "closed": None if self.closed is None else _nested(self.closed),
            "totals": self.totals.to_header(),
            "first": self.first,
            "n": len(self.coverage),
        }

    def buffers(self) -> dict[str, Array]:
        """`@coverage` and one buffer per layer."""
        return {"@coverage": self.coverage, **self.values}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Snapshot:
        """Read the message; `WireError` when a buffer does not hold `n` pixels."""
        n = fields.integer("n", 1, MAX_PIXELS)
        closed = None
        if fields.has("closed"):
            closed = MapClose.from_fields(Fields(fields.get("closed"), "closed"), {})
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            ticket=fields.integer("ticket", 0, MAX_SEQ),
            opened=MapOpen.from_fields(Fields(fields.get("opened"), "opened"), {}),
            totals=LedgerTotals.from_fields(Fields(fields.get("totals"), "totals")),
            first=fields.integer("first", 0, MAX_PIXELS),
            coverage=read_vector(buffers, "@coverage", np.uint8, n).astype(np.uint8, copy=False),
            values=read_layers(buffers, n),
            closed=closed,
        )


def _nested(message: MapOpen | MapClose) -> dict[str, object]:
    common = {"run": message.run, "seq": message.seq, "t_ns": message.t_ns}
    return common | message.to_header()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Which spectra of a run the daemon has not received: half-open ranges of positions.

    `ended` tells whether the run's end is known; `complete` is false when there are more gaps than
    one reply lists.
    """

    run: bytes
    ticket: int
    t_ns: int
    announced: int
    ranges: tuple[tuple[int, int], ...]
    ended: bool
    complete: bool = True

    KIND = "gaps"

    @property
    def seq(self) -> int:
        """Replies outside the published stream are numbered by their ticket."""
        return self.ticket

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {
            "announced": self.announced,
            "ended": self.ended,
            "complete": self.complete,
            "ranges": [list(item) for item in self.ranges],
        }

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Gaps:
        """Read the message; `WireError` on anything out of bounds."""
        ranges: list[tuple[int, int]] = []
        for item in fields.items("ranges", MAX_GAPS):
            begin, end = Fields({"ranges": item}).integers("ranges", 2, 0, MAX_SPECTRA)
            if begin >= end:
                raise WireError(Fault.MALFORMED, f"gap [{begin}, {end}) is empty")
            ranges.append((begin, end))
        return cls(
            run=fields.raw("run", RUN_BYTES),
            ticket=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            announced=fields.integer("announced", 0, MAX_SPECTRA),
            ranges=tuple(ranges),
            ended=fields.flag("ended"),
            complete=fields.flag("complete"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The answer to a request that cannot be served: one sentence."""

    ticket: int
    t_ns: int
    reason: str
    run: bytes | None = None

    KIND = "no"

    @property
    def seq(self) -> int:
        """Replies outside the published stream are numbered by their ticket."""
        return self.ticket

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {"reason": self.reason}

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Refusal:
        """Read the message; `WireError` on anything out of bounds."""
        return cls(
            ticket=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            reason=fields.text("reason"),
            run=fields.raw("run", RUN_BYTES) if fields.has("run") else None,
        )
