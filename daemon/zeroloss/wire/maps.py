"""Messages from the daemon to its subscribers: map open, update, ledger, close, snapshot.

`seq` numbers everything that one daemon publishes, over all runs; `daemon` is an identity drawn at
its start, so that a subscriber notices a restart. Requests and their replies share `ticket`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from .acquisition import (
    EXIT_STATUSES,
    MAX_SEQ,
    RUN_BYTES,
    Array,
    ExitStatus,
    RunStart,
)
from .errors import Fault, WireError
from .fields import Fields
from .limits import (
    MAX_DIMS,
    MAX_GAPS,
    MAX_LABELS,
    MAX_METADATA,
    MAX_OUTPUTS,
    MAX_PACKAGES,
    MAX_PIXELS,
    MAX_SPECTRA,
)

DAEMON_BYTES = 8
OutputKind = Literal["probability", "scalar", "spectrum", "label"]
OUTPUT_KINDS: tuple[OutputKind, ...] = ("probability", "scalar", "spectrum", "label")
Operation = Literal["snapshot", "gaps"]
OPERATIONS: tuple[Operation, ...] = ("snapshot", "gaps")
Values: TypeAlias = dict[str, npt.NDArray[np.float32]]


def layer_key(package: str, output: str) -> str:
    """The name of one output of one package in the buffers of updates and snapshots."""
    return f"{package}/{output}"


def _values(buffers: Mapping[str, Array], n: int) -> Values:
    out: Values = {}
    for name, array in buffers.items():
        if name.startswith("@"):
            continue
        if array.dtype != np.float32:
            raise WireError(Fault.DTYPE, f"map layer {name!r}: expected float32, got {array.dtype}")
        if array.ndim < 1 or len(array) != n:
            raise WireError(
                Fault.SHAPE, f"map layer {name!r}: expected [{n}, ...], got {list(array.shape)}"
            )
        out[name] = array.astype(np.float32, copy=False)
    return out


def _vector(buffers: Mapping[str, Array], name: str, dtype: npt.DTypeLike, n: int) -> Array:
    array = buffers.get(name)
    if array is None:
        raise WireError(Fault.TRUNCATED, f"the buffer {name!r} is missing")
    if array.dtype != dtype or array.shape != (n,):
        raise WireError(
            Fault.SHAPE,
            f"{name}: expected {np.dtype(dtype)} [{n}], got {array.dtype} {list(array.shape)}",
        )
    return array


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputInfo:
    """One output of a model package as a map layer.

    `shape` are its dimensions per pixel ([] for a scalar, [80] for a probability per element),
    `uncertainty` the name of the output that holds its uncertainty, `threshold` the presence
    threshold of a probability.
    """

    name: str
    kind: OutputKind
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()
    unit: str = ""
    uncertainty: str | None = None
    threshold: float | None = None

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "labels": list(self.labels),
            "unit": self.unit,
            "uncertainty": self.uncertainty,
            "threshold": self.threshold,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> OutputInfo:
        """Read it; `WireError` on anything out of bounds."""
        shape = fields.items("shape", MAX_DIMS)
        return cls(
            name=fields.name("name"),
            kind=cast(OutputKind, fields.choice("kind", OUTPUT_KINDS)),
            shape=fields.integers("shape", len(shape), 1, MAX_PIXELS),
            labels=fields.texts("labels", MAX_LABELS),
            unit=fields.text("unit", 64),
            uncertainty=fields.name("uncertainty") if fields.has("uncertainty") else None,
            threshold=fields.number("threshold") if fields.has("threshold") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageInfo:
    """Which model made the layers: name, version, hash, and where and how it ran."""

    name: str
    version: str
    sha256: str
    provider: str
    precision: str
    range_name: str
    outputs: tuple[OutputInfo, ...]

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "provider": self.provider,
            "precision": self.precision,
            "range": self.range_name,
            "outputs": [item.to_header() for item in self.outputs],
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> PackageInfo:
        """Read it; `WireError` on anything out of bounds."""
        return cls(
            name=fields.name("name"),
            version=fields.text("version", 64),
            sha256=fields.text("sha256", 64),
            provider=fields.text("provider", 64),
            precision=fields.text("precision", 16),
            range_name=fields.name("range"),
            outputs=tuple(
                OutputInfo.from_fields(Fields(item, "outputs"))
                for item in fields.items("outputs", MAX_OUTPUTS)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOpen:
    """A map begins: the run it belongs to, the packages that fill it, and what made it."""

    run: bytes
    seq: int
    t_ns: int
    daemon: bytes
    start: RunStart
    packages: tuple[PackageInfo, ...]
    software: str
    config_sha256: str

    KIND = "open"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        start = {"run": self.start.run, "seq": self.start.seq, "t_ns": self.start.t_ns}
        return {
            "daemon": self.daemon,
            "start": start | self.start.to_header(),
            "packages": [item.to_header() for item in self.packages],
            "software": self.software,
            "config_sha256": self.config_sha256,
        }

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> MapOpen:
        """Read the message; `WireError` on anything out of bounds."""
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            daemon=fields.raw("daemon", DAEMON_BYTES),
            start=RunStart.from_fields(Fields(fields.get("start"), "start"), {}),
            packages=tuple(
                PackageInfo.from_fields(Fields(item, "packages"))
                for item in fields.items("packages", MAX_PACKAGES)
            ),
            software=fields.text("software", 64),
            config_sha256=fields.text("config_sha256", 64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MapUpdate:
    """Pixels that changed: flat indices uint32 [n], coverage uint8 [n], and the layers there.

    `values` holds float32 [n, ...] per `layer_key(package, output)`; NaN where not (yet) known.
    """

    run: bytes
    seq: int
    t_ns: int
    daemon: bytes
    pixels: npt.NDArray[np.uint32]
    coverage: npt.NDArray[np.uint8]
    values: Mapping[str, npt.NDArray[np.float32]]

    KIND = "map"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {"daemon": self.daemon, "n": len(self.pixels)}

    def buffers(self) -> dict[str, Array]:
        """`@pixels`, `@coverage` and one buffer per layer."""
        return {"@pixels": self.pixels, "@coverage": self.coverage, **self.values}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> MapUpdate:
        """Read the message; `WireError` when a buffer does not hold `n` pixels."""
        n = fields.integer("n", 1, MAX_PIXELS)
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            daemon=fields.raw("daemon", DAEMON_BYTES),
            pixels=_vector(buffers, "@pixels", np.uint32, n).astype(np.uint32, copy=False),
            coverage=_vector(buffers, "@coverage", np.uint8, n).astype(np.uint8, copy=False),
            values=_values(buffers, n),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """Spectra of one run at one moment: announced = processed + pending + missed + rejected.

    `rejected` counts spectra by reason. Beside the balance stand what never was a spectrum of this
    run: `duplicates` (spectra seen before), `malformed` (messages by `Fault`), `foreign` (messages
    of a run nobody opened), and `masked_channels` (invalid channels inside accepted spectra).
    """

    announced: int = 0
    processed: int = 0
    pending: int = 0
    missed: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    foreign: int = 0
    masked_channels: int = 0
    malformed: Mapping[str, int] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether nothing is unaccounted for."""
        known = self.processed + self.pending + self.missed + sum(self.rejected.values())
        return self.announced == known

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {
            "announced": self.announced,
            "processed": self.processed,
            "pending": self.pending,
            "missed": self.missed,
            "rejected": dict(self.rejected),
            "duplicates": self.duplicates,
            "foreign": self.foreign,
            "masked_channels": self.masked_channels,
            "malformed": dict(self.malformed),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> LedgerTotals:
        """Read it; `WireError` on anything out of bounds."""
        return cls(
            announced=fields.integer("announced", 0, MAX_SPECTRA),
            processed=fields.integer("processed", 0, MAX_SPECTRA),
            pending=fields.integer("pending", 0, MAX_SPECTRA),
            missed=fields.integer("missed", 0, MAX_SPECTRA),
            rejected=fields.counters("rejected", MAX_SPECTRA),
            duplicates=fields.integer("duplicates", 0, MAX_SEQ),
            foreign=fields.integer("foreign", 0, MAX_SEQ),
            masked_channels=fields.integer("masked_channels", 0, MAX_SEQ),
            malformed=fields.counters("malformed", MAX_SEQ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerUpdate:
    """The ledger of a run, and how far behind the daemon is.

    `lag_s` is the age of the newest mapped spectrum since the daemon received it, `rate_hz` the
    spectra mapped per second of late.
    """

    run: bytes
    seq: int
    t_ns: int
    daemon: bytes
    totals: LedgerTotals
    lag_s: float
    rate_hz: float

    KIND = "loss"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {
            "daemon": self.daemon,
            "totals": self.totals.to_header(),
            "lag_s": self.lag_s,
            "rate_hz": self.rate_hz,
        }

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> LedgerUpdate:
        """Read the message; `WireError` on anything out of bounds."""
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            daemon=fields.raw("daemon", DAEMON_BYTES),
            totals=LedgerTotals.from_fields(Fields(fields.get("totals"), "totals")),
            lag_s=fields.number("lag_s"),
            rate_hz=fields.number("rate_hz"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MapClose:
    """A map is finished: exit status, final ledger, and the labels found by each package.

    `detected` maps `layer_key` of a probability output to the labels that pass the pixel rule.
    """

    run: bytes
    seq: int
    t_ns: int
    daemon: bytes
    status: ExitStatus
    reason: str
    totals: LedgerTotals
    detected: Mapping[str, tuple[str, ...]]

    KIND = "close"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {
            "daemon": self.daemon,
            "status": self.status,
            "reason": self.reason,
            "totals": self.totals.to_header(),
            "detected": {key: list(labels) for key, labels in self.detected.items()},
        }

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> MapClose:
        """Read the message; `WireError` on anything out of bounds."""
        raw = fields.get("detected")
        inner = Fields(raw, "detected")
        keys = list(cast(Mapping[str, object], raw))
        if len(keys) > MAX_METADATA:
            raise WireError(Fault.OVERSIZED, f"detected: more than {MAX_METADATA} layers")
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            daemon=fields.raw("daemon", DAEMON_BYTES),
            status=cast(ExitStatus, fields.choice("status", EXIT_STATUSES)),
            reason=fields.text("reason"),
            totals=LedgerTotals.from_fields(Fields(fields.get("totals"), "totals")),
            detected={key: inner.texts(key, MAX_LABELS) for key in keys},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question on the ROUTER socket; `run` None means the newest run.

    `snapshot`: the map from pixel `first` on, in pages; `gaps`: the spectra that are missing.
    """

    op: Operation
    ticket: int
    run: bytes | None = None
    first: int = 0
    t_ns: int = 0

    KIND = "ask"

    @property
    def seq(self) -> int:
        """Requests are numbered by their ticket."""
        return self.ticket

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {"op": self.op, "first": self.first}

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Request:
        """Read the message; `WireError` on anything out of bounds."""
        return cls(
            op=cast(Operation, fields.choice("op", OPERATIONS)),
            ticket=fields.integer("seq", 0, MAX_SEQ),
            run=fields.raw("run", RUN_BYTES) if fields.has("run") else None,
            first=fields.integer("first", 0, MAX_PIXELS),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
        )


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
            coverage=_vector(buffers, "@coverage", np.uint8, n).astype(np.uint8, copy=False),
            values=_values(buffers, n),
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
