"""Messages from the acquisition to the daemon: run start, spectra block, heartbeat, run end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

import msgpack
import numpy as np
import numpy.typing as npt

from .errors import Fault, WireError
from .fields import Fields, Scalar
from .limits import (
    MAX_BLOCK,
    MAX_CHANNELS,
    MAX_PIXELS,
    MAX_RANGES,
    MAX_SPECTRA,
)

Array: TypeAlias = npt.NDArray[np.generic]
Modality = Literal["eels", "edx"]
Pattern = Literal["raster", "serpentine", "list"]
ExitStatus = Literal["success", "abort", "fail"]
MODALITIES: tuple[Modality, ...] = ("eels", "edx")
PATTERNS: tuple[Pattern, ...] = ("raster", "serpentine", "list")
EXIT_STATUSES: tuple[ExitStatus, ...] = ("success", "abort", "fail")
COUNT_DTYPES = ("uint8", "uint16", "uint32", "int32", "float32", "float64")

RUN_BYTES = 16
SCHEMA_BYTES = 8
MAX_SEQ = (1 << 63) - 1


def _float_or_none(value: float | None) -> float | None:
    # The schema hash tells 1 from 1.0, and receivers read floats.
    return None if value is None else float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRange:
    """One spectrum recorded at every pixel: its name and its linear energy axis.

    `offset_ev` is the energy of the centre of channel 0, `scale_ev` the channel width (above zero),
    `size` the number of channels; counts at or above `saturation` (where given) are not valid.
    """

    name: str
    offset_ev: float
    scale_ev: float
    size: int
    dtype: str = "uint32"
    saturation: float | None = None

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this range."""
        return {
            "name": self.name,
            "offset_ev": float(self.offset_ev),
            "scale_ev": float(self.scale_ev),
            "size": int(self.size),
            "dtype": self.dtype,
            "saturation": _float_or_none(self.saturation),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> EnergyRange:
        """Read a range; `WireError` on anything out of bounds."""
        dtype = fields.text("dtype", 16)
        if dtype not in COUNT_DTYPES:
            raise WireError(
                Fault.DTYPE, f"counts of dtype {dtype!r}: expected one of {', '.join(COUNT_DTYPES)}"
            )
        return cls(
            name=fields.name("name"),
            offset_ev=fields.number("offset_ev"),
            scale_ev=fields.positive("scale_ev"),
            size=fields.integer("size", 1, MAX_CHANNELS),
            dtype=dtype,
            saturation=fields.optional_positive("saturation"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPlan:
    """Where the beam goes: the map's grid, the scanned region, the pattern and the passes.

    `shape` is (rows, columns) of the map; `region` is (row, column, rows, columns) of a sub-scan
    inside it (default: all of it). `passes` is None for a run that goes on until it is ended.
    With pattern `list` every spectra block carries the pixels it visits.
    `step` is (row step, column step) in `step_unit`.
    """

    shape: tuple[int, int]
    pattern: Pattern = "raster"
    region: tuple[int, int, int, int] | None = None
    passes: int | None = 1
    dwell_s: float | None = None
    step: tuple[float, float] | None = None
    step_unit: str = "nm"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this plan."""
        return {
            "shape": [int(item) for item in self.shape],
            "pattern": self.pattern,
            "region": None if self.region is None else [int(item) for item in self.region],
            "passes": None if self.passes is None else int(self.passes),
            "dwell_s": _float_or_none(self.dwell_s),
            "step": None if self.step is None else [float(item) for item in self.step],
            "step_unit": self.step_unit,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> ScanPlan:
        """Read a plan; `WireError` on anything out of bounds."""
        rows, columns = fields.integers("shape", 2, 1, MAX_PIXELS)
        if rows * columns > MAX_PIXELS:
            raise WireError(
                Fault.OVERSIZED, f"scan of {rows} x {columns} pixels: the cap is {MAX_PIXELS}"
            )
        region = None
        if fields.has("region"):
            y0, x0, height, width = fields.integers("region", 4, 0, MAX_PIXELS)
            if height < 1 or width < 1 or y0 + height > rows or x0 + width > columns:
                raise WireError(
                    Fault.SHAPE,
                    f"sub-scan of {height} x {width} pixels at ({y0}, {x0}) does not fit into the "
                    f"{rows} x {columns} map",
                )
            region = (y0, x0, height, width)
        step = None
        if fields.has("step"):
            dy, dx = fields.numbers("step", 2)
            step = (dy, dx)
        passes = fields.integer("passes", 1, MAX_SPECTRA) if fields.has("passes") else None
        return cls(
            shape=(rows, columns),
            pattern=cast(Pattern, fields.choice("pattern", PATTERNS)),
            region=region,
            passes=passes,
            dwell_s=fields.optional_positive("dwell_s"),
            step=step,
            step_unit=fields.text("step_unit", 16),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """The first message of a run; a source repeats it unchanged (same `seq` 0) for late listeners.

    `expected` is the number of spectra that the run will hold, over all passes; None if unknown.
    `convergence_mrad` is 0 for a parallel beam.
    """

    run: bytes
    t_ns: int
    scan: ScanPlan
    ranges: tuple[EnergyRange, ...]
    modality: Modality = "eels"
    expected: int | None = None
    beam_kev: float | None = None
    convergence_mrad: float | None = None
    collection_mrad: float | None = None
    title: str = ""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    seq: int = 0

    KIND = "run"

    @property
    def schema(self) -> bytes:
        """Eight bytes that change with the scan plan or an energy range; every block carries them.

        BLAKE2b of the msgpack of the scan and the ranges.
        """
        packed = msgpack.packb(
            [self.scan.to_header(), [item.to_header() for item in self.ranges]], use_bin_type=True
        )
        return hashlib.blake2b(packed, digest_size=SCHEMA_BYTES).digest()

    def range(self, name: str) -> EnergyRange:
        """The energy range of that name; `KeyError` names the ranges there are."""
        for item in self.ranges:
            if item.name == name:
                return item
        known = ", ".join(item.name for item in self.ranges)
        raise KeyError(f"no energy range {name!r} in this run; it has {known}")

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {
            "schema": self.schema,
            "scan": self.scan.to_header(),
            "ranges": [item.to_header() for item in self.ranges],
            "modality": self.modality,
            "expected": self.expected,
            "beam_kev": self.beam_kev,
            "convergence_mrad": self.convergence_mrad,
            "collection_mrad": self.collection_mrad,
            "title": self.title,
            "metadata": dict(self.metadata),
        }

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> RunStart:
        """Read the message; `WireError` on anything out of bounds."""
        ranges = tuple(
            EnergyRange.from_fields(Fields(item, "ranges"))
            for item in fields.items("ranges", MAX_RANGES)
        )
        names = [item.name for item in ranges]
        if not names or len(set(names)) != len(names):
            raise WireError(
                Fault.MALFORMED, f"a run needs energy ranges of different names, got {names}"
            )
        message = cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, 0),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            scan=ScanPlan.from_fields(Fields(fields.get("scan"), "scan")),
            ranges=ranges,
            modality=cast(Modality, fields.choice("modality", MODALITIES)),
            expected=fields.integer("expected", 0, MAX_SPECTRA) if fields.has("expected") else None,
            beam_kev=fields.optional_positive("beam_kev"),
            convergence_mrad=fields.optional_not_negative("convergence_mrad"),
            collection_mrad=fields.optional_positive("collection_mrad"),
            title=fields.text("title"),
            metadata=fields.metadata("metadata"),
        )
        if fields.raw("schema", SCHEMA_BYTES) != message.schema:
            raise WireError(
                Fault.MALFORMED, "the schema hash of the run start does not fit its own fields"
            )
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectraBlock:
    """Consecutive spectra of a run.

    `first` is the position of the first one in the run (0, 1, 2, ... over all passes). `counts`
    holds one array [n, channels] per energy range; `pixels` uint32 [n] are flat map indices
    (row x columns + column), given with the scan pattern `list` only.
    """

    run: bytes
    seq: int
    t_ns: int
    schema: bytes
    first: int
    counts: Mapping[str, Array]
    pixels: npt.NDArray[np.uint32] | None = None

    KIND = "spec"

    @property
    def n(self) -> int:
        """Number of spectra (pixels) in the block."""
        return len(next(iter(self.counts.values())))

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""
        return sum(array.nbytes for array in self.counts.values())

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {"schema": self.schema, "first": self.first, "n": self.n}

    def buffers(self) -> dict[str, Array]:
        """One buffer per energy range, and `@pixels` where pixels are given."""
        out: dict[str, Array] = dict(self.counts)
        if self.pixels is not None:
            out["@pixels"] = self.pixels
        return out

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> SpectraBlock:
        """Read the message; `WireError` when a buffer does not hold `n` spectra."""
        n = fields.integer("n", 1, MAX_BLOCK)
        counts = {name: array for name, array in buffers.items() if not name.startswith("@")}
        if not counts:
            raise WireError(Fault.TRUNCATED, "a spectra block without a buffer of counts")
        for name, array in counts.items():
            if array.ndim != 2 or len(array) != n:
                raise WireError(
                    Fault.SHAPE,
                    f"counts {name!r}: expected [{n}, channels], got {list(array.shape)}",
                )
            if array.dtype.name not in COUNT_DTYPES:
                raise WireError(
                    Fault.DTYPE,
                    f"counts {name!r} of dtype {array.dtype.name}: expected one of "
                    + ", ".join(COUNT_DTYPES),
                )
        pixels = buffers.get("@pixels")
        if pixels is not None and (pixels.dtype != np.uint32 or pixels.shape != (n,)):
            raise WireError(
                Fault.SHAPE,
                f"pixels: expected uint32 [{n}], got {pixels.dtype} {list(pixels.shape)}",
            )
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 1, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            schema=fields.raw("schema", SCHEMA_BYTES),
            first=fields.integer("first", 0, MAX_SPECTRA),
            counts=counts,
            pixels=None if pixels is None else pixels.astype(np.uint32, copy=False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """I am alive: `seq` is the number of the last numbered message, `spectra` what was sent so far.

    Heartbeats take no number of their own.
    """

    run: bytes
    seq: int
    t_ns: int
    spectra: int

    KIND = "hb"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {"spectra": self.spectra}

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Heartbeat:
        """Read the message; `WireError` on anything out of bounds."""
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            spectra=fields.integer("spectra", 0, MAX_SPECTRA),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The last message of a run: how it ended and how many spectra were sent in all."""

    run: bytes
    seq: int
    t_ns: int
    spectra: int
    status: ExitStatus = "success"
    reason: str = ""

    KIND = "end"

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {"spectra": self.spectra, "status": self.status, "reason": self.reason}

    def buffers(self) -> dict[str, Array]:
        """No raw buffers."""
        return {}

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> RunEnd:
        """Read the message; `WireError` on anything out of bounds."""
        return cls(
            run=fields.raw("run", RUN_BYTES),
            seq=fields.integer("seq", 1, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            spectra=fields.integer("spectra", 0, MAX_SPECTRA),
            status=cast(ExitStatus, fields.choice("status", EXIT_STATUSES)),
            reason=fields.text("reason"),
        )
