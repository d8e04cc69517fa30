"""What one daemon publishes of its runs: map open, update, ledger, close.

`seq` numbers everything that one daemon publishes, over all runs; `daemon` is an identity drawn at
its start, so that a subscriber notices a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from .acquisition import EXIT_STATUSES, MAX_SEQ, RUN_BYTES, Array, ExitStatus, RunStart
from .errors import Fault, WireError
from .fields import Fields
from .layers import PackageInfo, read_layers, read_vector
from .limits import MAX_LABELS, MAX_METADATA, MAX_PACKAGES, MAX_PIXELS, MAX_SPECTRA

DAEMON_BYTES = 8


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
            pixels=read_vector(buffers, "@pixels", np.uint32, n).astype(np.uint32, copy=False),
            coverage=read_vector(buffers, "@coverage", np.uint8, n).astype(np.uint8, copy=False),
            values=read_layers(buffers, n),
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
