"""The manifest of a model package: what it takes, what it gives, and what made it.

The contract between training and daemon; specified in docs/model-package.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, model_validator

from zeroloss.wire.limits import MAX_DIMS, MAX_LABELS, MAX_OUTPUTS, MAX_PARAMETERS

MANIFEST_FORMAT: Literal[1] = 1
MAX_VALUES = 1 << 16
"""Values of one output for one spectrum."""
MAX_SLOTS = 64
MAX_PREPARED = 16
INPUT_NAMES = ("counts", "offset_ev", "scale_ev")
SELECTION_INPUT = "selection"
LOW_LOSS_INPUTS = ("low_loss_counts", "low_loss_offset_ev", "low_loss_scale_ev")
_RESERVED = frozenset((*INPUT_NAMES, SELECTION_INPUT, *LOW_LOSS_INPUTS))

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Graph(_Strict):
    """The ONNX file of the package and the proof that it is the one that was exported."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\.onnx$")] = "model.onnx"
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    opset: Annotated[int, Field(ge=17)]
    precision: Literal["float32", "float16", "int8"] = "float32"
    max_error: Annotated[float, Field(ge=0)]
    """Largest |torch - ONNX Runtime| over the outputs, measured at export at every bucket."""
    error_limit: Annotated[float, Field(gt=0)] = 1e-3
    prepared: Annotated[tuple[Name, ...], Field(max_length=MAX_PREPARED)] = ()
    """Inner tensors [batch, ...] that the values of `counts` do not change; further outputs of the
    graph. They are computed once where what they are made of is the same for all spectra."""

    @model_validator(mode="after")
    def _export_was_right(self) -> Graph:
        if not self.max_error <= self.error_limit:
            raise ValueError(
                f"the exported graph departs from torch by {self.max_error:g}, more than its own "
                f"limit of {self.error_limit:g}: export it again"
            )
        return self


class Selection(_Strict):
    """One more input of the graph, float32 [slots]: indices into `labels`, rising, then -1."""

    name: Name
    """What people call it, as in `--set PACKAGE.NAME=LABEL,LABEL`."""
    labels: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[^\s,](?:[^,]{0,62}[^\s,])?$")], ...],
        Field(min_length=1, max_length=MAX_LABELS),
    ]
    """What may be chosen."""
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)]
    """Most labels that are chosen at once."""

    @model_validator(mode="after")
    def _labels_tell(self) -> Selection:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"selection {self.name}: labels are not unique")
        for label in self.labels:
            if _is_number(label):
                raise ValueError(f"selection {self.name}: the label {label} reads as a number")
        if self.slots > len(self.labels):
            raise ValueError(
                f"selection {self.name}: {self.slots} slots for {len(self.labels)} labels"
            )
        return self


class Takes(_Strict):
    """The spectra that the package accepts."""

    modality: Literal["eels", "edx"]
    window_ev: tuple[float, float]
    """Energies that the model looks at; a run's range must overlap them by `min_overlap_ev`."""
    min_overlap_ev: Annotated[float, Field(gt=0)] = 25.0
    max_channels: Annotated[int, Field(ge=2, le=1 << 16)] = 1 << 14
    scale_ev: tuple[float, float] | None = None
    """Smallest and largest dispersion that the model takes, eV per channel; None: any."""
    signed_counts: bool = False
    """Whether negative counts, as of dark-subtracted data, are measured; else they become NaN."""
    selection: Selection | None = None
    """What people choose for a run; without a choice the package takes no part in it."""
    low_loss: bool = False
    """Whether the graph is given the low-loss spectrum of the same pixel, as further inputs."""

    @model_validator(mode="after")
    def _windows_rise(self) -> Takes:
        if not self.window_ev[0] < self.window_ev[1]:
            raise ValueError(f"window_ev must rise, got {self.window_ev}")
        if self.scale_ev is not None and not 0 < self.scale_ev[0] <= self.scale_ev[1]:
            raise ValueError(f"scale_ev must be above 0 and rise, got {self.scale_ev}")
        return self

    def takes_scale(self, scale_ev: float) -> bool:
        """Whether the model takes spectra of that many eV per channel."""
        return self.scale_ev is None or self.scale_ev[0] <= scale_ev <= self.scale_ev[1]


class Buckets(_Strict):
    """Batch sizes that are warmed up and used; a batch is padded to the next one.

    `cpu` is one fixed size, so that a spectrum gives the same bits in whatever company it comes.
    """

    cpu: Annotated[int, Field(ge=1, le=256)] = 8
    gpu: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=8)
    ] = (8, 32, 128, 512)


class SpectrumAxis(_Strict):
    """The energies of the last dimension of a spectrum."""

    offset_ev: float
    """At the centre of channel 0."""
    scale_ev: Annotated[float, Field(gt=0)]
    """Per channel."""
    name: Annotated[str, Field(min_length=1, max_length=64)] = "energy loss"


class Output(_Strict):
    """One named output of the graph, float32 [batch, *shape], and how it becomes a map layer.

    Of kind `label` it is the code of one of `labels`, 0 ... n - 1; of kind `spectrum` it is
    [channels] or [curves, channels].
    """

    name: Name
    kind: Literal["probability", "scalar", "spectrum", "label"]
    shape: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1 << 16)], ...], Field(max_length=MAX_DIMS - 1)
    ] = ()
    labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(max_length=MAX_LABELS)
    ] = ()
    """Names along the first dimension, or of the codes of a label."""
    unit: Annotated[str, Field(max_length=64)] = ""
    uncertainty: Name | None = None
    """Name of the output that holds this one's uncertainty (one standard deviation)."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Presence threshold of a probability."""
    reason: Name | None = None
    """Name of the label that says why a value is NaN; code 0 says that it is given."""
    shifts_axis: bool = False
    """Whether this scalar, eV, is where the zero of the pixel's energy axis really is."""
    axis: SpectrumAxis | None = None
    """The energies of a spectrum."""
    selected: bool = False
    """Whether its entries [slots] are those of `takes.selection`; in a run, of what was chosen."""

    @model_validator(mode="after")
    def _consistent(self) -> Output:
        if math.prod(self.shape) > MAX_VALUES:
            self._refuse(f"shape {self.shape} is more than {MAX_VALUES} values")
        if len(set(self.labels)) != len(self.labels):
            self._refuse("labels are not unique")
        if self.labels and self.kind != "label" and self.shape[:1] != (len(self.labels),):
            self._refuse(f"{len(self.labels)} labels do not fit shape {self.shape}")
        if self.axis is not None and self.kind != "spectrum":
            self._refuse("only a spectrum has an axis")
        if self.shifts_axis and (self.kind, self.shape, self.unit) != ("scalar", (), "eV"):
            self._refuse("what shifts the axis must be a scalar of shape [] in eV")
        if self.selected and (self.kind != "scalar" or self.labels or len(self.shape) != 1):
            self._refuse("what is selected must be a scalar of shape [slots] without labels")
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> Output:
        if self.kind == "probability" and (
            not self.labels or len(self.shape) != 1 or self.threshold is None
        ):
            self._refuse("a probability needs labels and a threshold")
        if self.kind == "label" and (self.shape or len(self.labels) < 2):
            self._refuse("a label needs the shape [] and the names of at least 2 codes")
        if self.kind == "label" and self.reason is not None:
            self._refuse("a label is never missing, so it has no reason")
        if self.kind == "spectrum" and len(self.shape) not in (1, 2):
            self._refuse(f"a spectrum is [channels] or [curves, channels], got {self.shape}")
        return self

    def _refuse(self, why: str) -> NoReturn:
        raise ValueError(f"output {self.name}: {why}")


class Parameter(_Strict):
    """One more input of the graph, float32 [batch]: a number that the spectra do not tell."""

    name: Name
    unit: Annotated[str, Field(max_length=64)] = ""
    description: str
    source: Literal["given", "beam_kev", "convergence_mrad", "collection_mrad", "dwell_s"]
    """What of the run it is; `given`: none of it, people set it."""
    default: float | None = None
    """Where nobody tells; None: the graph is handed NaN and masks what depends on it."""
    low: float
    """Smallest value that the graph takes."""
    high: float

    @model_validator(mode="after")
    def _in_range(self) -> Parameter:
        if self.name in _RESERVED:
            self._refuse("that is the name of another input")
        if not self.low < self.high:
            self._refuse(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.default is not None and not self.holds(self.default):
            self._refuse(
                f"the default {self.default:g} is not between {self.low:g} and {self.high:g}"
            )
        return self

    def holds(self, value: float) -> bool:
        """Whether the graph takes that value."""
        return self.low <= value <= self.high

    def _refuse(self, why: str) -> NoReturn:
        raise ValueError(f"parameter {self.name}: {why}")


class Trained(_Strict):
    """What made the model, in words and numbers for the reader of a map."""

    date: str
    software: str
    data: str
    spectra: Annotated[int, Field(ge=0)]
    members: tuple[str, ...]
    metrics: dict[str, float] = Field(default_factory=dict)


class Manifest(_Strict):
    """`manifest.json` of a model package."""

    format: Literal[1] = MANIFEST_FORMAT
    name: Name
    version: Annotated[str, Field(min_length=1, max_length=64)]
    title: str
    description: str
    graph: Graph
    when_named: bool = False
    """Whether the package runs only where it is asked for by its name."""
    stands_in: bool = False
    """Whether it makes room, unless it is named, for any other that shifts the axis of a range."""
    takes: Takes
    parameters: Annotated[tuple[Parameter, ...], Field(max_length=MAX_PARAMETERS)] = ()
    buckets: Buckets = Buckets()
    outputs: Annotated[tuple[Output, ...], Field(min_length=1, max_length=MAX_OUTPUTS)]
    trained: Trained

    @model_validator(mode="after")
    def _outputs_refer(self) -> Manifest:
        names = [output.name for output in self.outputs]
        labels = [output.name for output in self.outputs if output.kind == "label"]
        if len(set(names)) != len(names):
            raise ValueError(f"outputs of the same name: {names}")
        for output in self.outputs:
            if output.uncertainty is not None and output.uncertainty not in names:
                raise ValueError(
                    f"output {output.name}: its uncertainty {output.uncertainty!r} is not among "
                    f"the outputs {names}"
                )
            if output.reason is not None and output.reason not in labels:
                raise ValueError(
                    f"output {output.name}: its reason {output.reason!r} is not among the outputs "
                    f"of kind label {labels}"
                )
        shifting = [output.name for output in self.outputs if output.shifts_axis]
        if len(shifting) > 1:
            raise ValueError(f"at most one output shifts the axis, here are {shifting}")
        if shifting and self.takes.low_loss:
            raise ValueError(
                f"output {shifting[0]}: what shifts the axis is found before the low loss is "
                "corrected, so its package cannot take the low loss"
            )
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Manifest:
        parameters = [item.name for item in self.parameters]
        taken = parameters + [output.name for output in self.outputs]
        for name in parameters:
            if taken.count(name) > 1:
                raise ValueError(f"parameter {name}: another parameter or output has the same name")
        for name in self.graph.prepared:
            if name in taken or name in _RESERVED or self.graph.prepared.count(name) > 1:
                raise ValueError(
                    f"prepared tensor {name}: an input, an output or another one has the same name"
                )
        return self

    @model_validator(mode="after")
    def _selected_fits(self) -> Manifest:
        selection = self.takes.selection
        if selection is not None and selection.name in [item.name for item in self.parameters]:
            raise ValueError(f"selection {selection.name}: a parameter has the same name")
        for output in self.outputs:
            if output.selected and (selection is None or output.shape != (selection.slots,)):
                slots = "none" if selection is None else selection.slots
                raise ValueError(
                    f"output {output.name}: selected [slots] with slots {slots}, got "
                    f"{list(output.shape)}"
                )
        return self

    @property
    def shifts_axis(self) -> str | None:
        """Name of the output that says where the zero of a pixel's energy axis is; None: none."""
        return next((output.name for output in self.outputs if output.shifts_axis), None)

    def chosen_outputs(self, chosen: Sequence[int]) -> tuple[Output, ...]:
        """The outputs of a run with these indices chosen: what is selected has their labels."""
        selection = self.takes.selection
        if selection is None:
            return self.outputs
        cut = {
            "shape": (len(chosen),),
            "labels": tuple(selection.labels[index] for index in chosen),
        }
        return tuple(
            item.model_copy(update=cut) if item.selected else item for item in self.outputs
        )

    def output(self, name: str) -> Output:
        """The output of that name; `KeyError` names those there are."""
        for output in self.outputs:
            if output.name == name:
                return output
        known = ", ".join(item.name for item in self.outputs)
        raise KeyError(f"package {self.name} has no output {name!r}; it has {known}")
