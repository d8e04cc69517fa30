"""What a map is made of: packages and their outputs, layers in buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from .acquisition import Array
from .errors import Fault, WireError
from .fields import Fields
from .limits import MAX_DIMS, MAX_LABELS, MAX_OUTPUTS, MAX_PARAMETERS, MAX_PIXELS

OutputKind = Literal["probability", "scalar", "spectrum", "label"]
OUTPUT_KINDS: tuple[OutputKind, ...] = ("probability", "scalar", "spectrum", "label")
Values: TypeAlias = dict[str, npt.NDArray[np.float32]]


def layer_key(package: str, output: str) -> str:
    """The name of one output of one package in the buffers of updates and snapshots."""
    return f"{package}/{output}"


def read_layers(buffers: Mapping[str, Array], n: int) -> Values:
    """The map layers float32 [n, ...] among these buffers; `WireError` for any other."""
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


def read_vector(buffers: Mapping[str, Array], name: str, dtype: npt.DTypeLike, n: int) -> Array:
    """The buffer of that name, [n] of that dtype; `WireError` when it is missing or another."""
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
class SpectrumAxis:
    """The energies along the last dimension of a spectrum, eV, at the centres of its channels."""

    offset_ev: float
    scale_ev: float
    name: str = "energy loss"

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {"offset_ev": self.offset_ev, "scale_ev": self.scale_ev, "name": self.name}

    @classmethod
    def from_fields(cls, fields: Fields) -> SpectrumAxis:
        """Read it; `WireError` on anything out of bounds."""
        return cls(
            offset_ev=fields.number("offset_ev"),
            scale_ev=fields.positive("scale_ev"),
            name=fields.text("name", 64),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputInfo:
    """One output of a model package as a map layer.

    `shape` are its dimensions per pixel ([] for a scalar, [80] for a probability per element),
    `labels` the names along the first of them, or of the codes 0 ... n - 1 of a label,
    `uncertainty` the name of the output that holds its uncertainty, `threshold` the presence
    threshold of a probability, `reason` the name of the label that says why a value is NaN,
    `axis` the energies of a spectrum.
    """

    name: str
    kind: OutputKind
    shape: tuple[int, ...]
    labels: tuple[str, ...] = ()
    unit: str = ""
    uncertainty: str | None = None
    threshold: float | None = None
    reason: str | None = None
    axis: SpectrumAxis | None = None

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
            "reason": self.reason,
            "axis": None if self.axis is None else self.axis.to_header(),
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
            reason=fields.name("reason") if fields.has("reason") else None,
            axis=(
                SpectrumAxis.from_fields(Fields(fields.get("axis"), "axis"))
                if fields.has("axis")
                else None
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterInfo:
    """A number that a model was given beside the spectra; `value` None: it was not known."""

    name: str
    value: float | None
    unit: str = ""

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {"name": self.name, "value": self.value, "unit": self.unit}

    @classmethod
    def from_fields(cls, fields: Fields) -> ParameterInfo:
        """Read it; `WireError` on anything out of bounds."""
        return cls(
            name=fields.name("name"),
            value=fields.number("value") if fields.has("value") else None,
            unit=fields.text("unit", 64),
        )


def read_parameters(fields: Fields) -> tuple[ParameterInfo, ...]:
    """Those of the key `parameters`; none where it is absent."""
    if not fields.has("parameters"):
        return ()
    return tuple(
        ParameterInfo.from_fields(Fields(item, "parameters"))
        for item in fields.items("parameters", MAX_PARAMETERS)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionInfo:
    """What was chosen for a model to answer about: the labels of its selected outputs."""

    name: str
    labels: tuple[str, ...]

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {"name": self.name, "labels": list(self.labels)}

    @classmethod
    def from_fields(cls, fields: Fields) -> SelectionInfo:
        """Read it; `WireError` on anything out of bounds."""
        return cls(name=fields.name("name"), labels=fields.texts("labels", MAX_LABELS))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageInfo:
    """Which model made the layers: name, version, hash, and where, how and with what it ran.

    `selection` is what was chosen for it, `low_loss_range` the energy range that it was given
    beside its own; None: nothing of the kind.
    """

    name: str
    version: str
    sha256: str
    provider: str
    precision: str
    range_name: str
    outputs: tuple[OutputInfo, ...]
    parameters: tuple[ParameterInfo, ...] = ()
    selection: SelectionInfo | None = None
    low_loss_range: str | None = None

    @property
    def selected(self) -> dict[str, tuple[str, ...]]:
        """The labels chosen, by the name of the selection; empty where there is none."""
        return {} if self.selection is None else {self.selection.name: self.selection.labels}

    def to_header(self) -> dict[str, object]:
        """The msgpack map; what there is none of is left out."""
        header: dict[str, object] = {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "provider": self.provider,
            "precision": self.precision,
            "range": self.range_name,
            "outputs": [item.to_header() for item in self.outputs],
        }
        if self.parameters:
            header["parameters"] = [item.to_header() for item in self.parameters]
        if self.selection is not None:
            header["selection"] = self.selection.to_header()
        if self.low_loss_range is not None:
            header["low_loss_range"] = self.low_loss_range
        return header

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
            parameters=read_parameters(fields),
            selection=(
                SelectionInfo.from_fields(Fields(fields.get("selection"), "selection"))
                if fields.has("selection")
                else None
            ),
            low_loss_range=fields.name("low_loss_range") if fields.has("low_loss_range") else None,
        )
