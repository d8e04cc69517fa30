"""The answer to a request for spectra: what was asked for, for the sum of the pixels' counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

import numpy as np

from .acquisition import MAX_SEQ, RUN_BYTES, Array
from .errors import Fault, WireError
from .fields import Fields
from .layers import OUTPUT_KINDS, OutputKind, ParameterInfo, read_parameters
from .limits import MAX_ASKED_NAMES, MAX_LABELS, MAX_NAME, MAX_PIXELS, MAX_SPECTRA

AnswerKind: TypeAlias = Literal["raw"] | OutputKind
ANSWER_KINDS: tuple[AnswerKind, ...] = ("raw", *OUTPUT_KINDS)
CountsOrigin = Literal["recording", "sums"]
COUNTS_ORIGINS: tuple[CountsOrigin, ...] = ("recording", "sums")
RAW = "raw"
"""`raw/<range>` names the summed counts of an energy range, `<package>/<output>` what a model makes
of them."""
MAX_ANSWER_NAME = 2 * MAX_NAME + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumInfo:
    """What one array of the answer is.

    `axis_ev` is (offset, scale) of its last dimension in eV: the energy at the centre of channel 0
    and the channel width; None where that dimension is no energy. `labels` name the curves along
    the first dimension, or the codes of a `label`. `range_name` is the energy range looked at.
    Version, sha256, provider, precision and parameters are of the model, empty for raw counts.
    """

    name: str
    kind: AnswerKind
    range_name: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    axis_ev: tuple[float, float] | None = None
    version: str = ""
    sha256: str = ""
    provider: str = ""
    precision: str = ""
    parameters: tuple[ParameterInfo, ...] = ()

    def to_header(self) -> dict[str, object]:
        """The msgpack map."""
        return {
            "name": self.name,
            "kind": self.kind,
            "range": self.range_name,
            "unit": self.unit,
            "labels": list(self.labels),
            "axis_ev": None if self.axis_ev is None else [float(item) for item in self.axis_ev],
            "version": self.version,
            "sha256": self.sha256,
            "provider": self.provider,
            "precision": self.precision,
            "parameters": [item.to_header() for item in self.parameters],
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> SpectrumInfo:
        """Read it; `WireError` on anything out of bounds."""
        axis_ev = None
        if fields.has("axis_ev"):
            offset_ev, scale_ev = fields.numbers("axis_ev", 2)
            axis_ev = (offset_ev, scale_ev)
        return cls(
            name=fields.text("name", MAX_ANSWER_NAME),
            kind=cast(AnswerKind, fields.choice("kind", ANSWER_KINDS)),
            range_name=fields.name("range"),
            unit=fields.text("unit", 64),
            labels=fields.texts("labels", MAX_LABELS),
            axis_ev=axis_ev,
            version=fields.text("version", 64),
            sha256=fields.text("sha256", 64),
            provider=fields.text("provider", 64),
            precision=fields.text("precision", 16),
            parameters=read_parameters(fields),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """What was asked for of the sum of some pixels' spectra.

    `pixels` different pixels were asked for, `spectra` spectra of them were summed (every pass
    counts), `empty` of the pixels gave none, and `left_out` counts by reason the spectra that came
    and could not be summed. `counts_from` tells where the counts were read. `infos` describe
    `arrays`: float64 [channels] of raw counts (NaN: not valid in at least one spectrum), float32 of
    model outputs, of the shape in their manifest.
    """

    run: bytes
    ticket: int
    t_ns: int
    pixels: int
    spectra: int
    empty: int
    counts_from: CountsOrigin
    infos: tuple[SpectrumInfo, ...]
    arrays: Mapping[str, Array]
    left_out: Mapping[str, int] = field(default_factory=dict)

    KIND = "spectra"

    @property
    def seq(self) -> int:
        """Replies outside the published stream are numbered by their ticket."""
        return self.ticket

    def to_header(self) -> dict[str, object]:
        """The msgpack map of this message, without the common fields."""
        return {
            "pixels": self.pixels,
            "spectra": self.spectra,
            "empty": self.empty,
            "left_out": dict(self.left_out),
            "counts_from": self.counts_from,
            "answers": [item.to_header() for item in self.infos],
        }

    def buffers(self) -> dict[str, Array]:
        """One buffer per answer."""
        return dict(self.arrays)

    @classmethod
    def from_fields(cls, fields: Fields, buffers: Mapping[str, Array]) -> Spectra:
        """Read the message; `WireError` when an answer has no buffer, or a buffer no answer."""
        infos = tuple(
            SpectrumInfo.from_fields(Fields(item, "answers"))
            for item in fields.items("answers", MAX_ASKED_NAMES)
        )
        arrays = {name: array for name, array in buffers.items() if not name.startswith("@")}
        names = [item.name for item in infos]
        if len(set(names)) != len(names) or set(names) != set(arrays):
            raise WireError(
                Fault.MALFORMED, f"answers {names} do not fit the buffers {sorted(arrays)}"
            )
        for name, array in arrays.items():
            if array.dtype not in (np.float32, np.float64):
                raise WireError(
                    Fault.DTYPE, f"answer {name!r}: expected float32 or float64, got {array.dtype}"
                )
        return cls(
            run=fields.raw("run", RUN_BYTES),
            ticket=fields.integer("seq", 0, MAX_SEQ),
            t_ns=fields.integer("t_ns", 0, MAX_SEQ),
            pixels=fields.integer("pixels", 1, MAX_PIXELS),
            spectra=fields.integer("spectra", 0, MAX_SPECTRA),
            empty=fields.integer("empty", 0, MAX_PIXELS),
            left_out=fields.counters("left_out", MAX_SPECTRA),
            counts_from=cast(CountsOrigin, fields.choice("counts_from", COUNTS_ORIGINS)),
            infos=infos,
            arrays=arrays,
        )
