"""The spectrum of a pixel or region of a run, asked of the daemon: raw, or as a model sees it.

with LiveMaps() as maps:
    run = maps.wait_for_run(timeout=60)
    core = run.spectrum(rows=3, columns=(10, 20), what=["raw/core_loss"])["raw/core_loss"]
    print(core.energies_ev, core.values)
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
import zmq

from zeroloss.wire import (
    RAW,
    PackageInfo,
    Refusal,
    Request,
    RunStart,
    Spectra,
    SpectrumInfo,
    layer_key,
)
from zeroloss.wire.limits import MAX_ASKED_PIXELS
from zeroloss.wire.spectra import AnswerKind

from ._requests import ask_once

ANSWER_WITHIN_S = 30.0
Span: TypeAlias = SupportsIndex | tuple[int, int] | None
"""One row or column, a half-open range (begin, end) of them, or None for all."""


class SpectrumRefusedError(RuntimeError):
    """The daemon does not answer a request for spectra: its own sentence."""


class PixelError(ValueError):
    """Pixels that cannot be asked for: not on the map, none, or too many."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One answer: `values` float64 [channels] of raw counts, float32 in the shape of an output.

    NaN: a channel that is not valid in one of the spectra, or a value that the model does not give.
    `energies_ev` are those of the last dimension's channel centres, None where it is no energy.
    `labels` name the curves along the first dimension, or the codes of a `label`. `version`,
    `sha256`, `provider`, `precision` and `parameters` (values by name, NaN where not known) are
    those of the model, empty for raw counts. numpy functions take it as its `values`.
    """

    name: str
    kind: AnswerKind
    values: npt.NDArray[np.floating]
    energies_ev: npt.NDArray[np.float64] | None
    unit: str
    labels: tuple[str, ...]
    range_name: str
    version: str = ""
    sha256: str = ""
    provider: str = ""
    precision: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def curves(self) -> dict[str, npt.NDArray[np.floating]]:
        """The curves [channels] of a spectrum, by label; by the name of the answer if it is one."""
        if self.energies_ev is None:
            raise ValueError(f"{self.name} is no spectrum: it has no energy axis")
        rows = self.values.reshape(-1, self.values.shape[-1])
        if len(rows) == 1:
            return {self.name: rows[0]}
        names = self.labels or tuple(str(index) for index in range(len(rows)))
        return dict(zip(names, rows, strict=True))

    @property
    def text(self) -> str:
        """The values of what is no spectrum: a number, labels with their numbers, a code's name."""
        values = np.atleast_1d(self.values)
        if self.kind == "label" and values.size == 1 and 0 <= values[0] < len(self.labels):
            return self.labels[int(values[0])]
        if len(self.labels) == values.size:
            return " ".join(
                f"{a} {b:.4g}" for a, b in zip(self.labels, values.ravel(), strict=True)
            )
        if np.isnan(values).all():
            return "no value"
        unit = f" {self.unit}" if self.unit else ""
        return " ".join(f"{value:.6g}" for value in values.ravel()) + unit

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)


@dataclass(frozen=True, eq=False)
class SummedSpectra(Mapping[str, Spectrum]):
    """What was asked for of the sum of some pixels: `summed["raw/core_loss"]` is a `Spectrum`.

    `pixels` different pixels were asked for, `counted` spectra of them were summed (every pass
    counts), `empty` of the pixels gave none, `left_out` counts by reason the spectra that came and
    could not be summed.
    """

    start: RunStart
    spectra: Mapping[str, Spectrum]
    pixels: int
    counted: int
    empty: int
    left_out: Mapping[str, int]
    counts_from: str

    def __getitem__(self, name: str) -> Spectrum:
        if name not in self.spectra:
            raise KeyError(f"{name!r} was not asked for; there are {', '.join(self.spectra)}")
        return self.spectra[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.spectra)

    def __len__(self) -> int:
        return len(self.spectra)

    def to_hyperspy(self, name: str | None = None) -> Any:
        """A HyperSpy signal of one answer, by default the first: its axis, unit and calibration.

        Raises `ImportError` where HyperSpy is not installed, `ValueError` for what is no spectrum.
        """
        from .hyperspy import signal_of_spectrum

        return signal_of_spectrum(self, name or next(iter(self.spectra)))


def ask_spectra(
    context: zmq.Context[zmq.Socket[bytes]],
    endpoint: str,
    start: RunStart,
    *,
    what: Sequence[str] | str = (),
    pixels: npt.ArrayLike | None = None,
    rows: Span = None,
    columns: Span = None,
    parameters: Mapping[str, float] | None = None,
    timeout_s: float = ANSWER_WITHIN_S,
) -> SummedSpectra:
    """Ask the daemon at `endpoint` for spectra of a run; see `LiveRun.spectrum`."""
    if pixels is not None and (rows is not None or columns is not None):
        raise PixelError("give pixels, or rows and columns, not both")
    request = Request(
        op="spectrum",
        ticket=1,
        run=start.run,
        t_ns=time.time_ns(),
        what=(what,) if isinstance(what, str) else tuple(what),
        pixels=None if pixels is None else flat_pixels(pixels, start.scan.shape),
        rows=_span("rows", rows, start.scan.shape[0]),
        columns=_span("columns", columns, start.scan.shape[1]),
        parameters=parameters or {},
    )
    reply = ask_once(context, endpoint, request, timeout_s)
    if isinstance(reply, Refusal):
        raise SpectrumRefusedError(reply.reason)
    if not isinstance(reply, Spectra):
        raise SpectrumRefusedError(f"the daemon answered with {reply.KIND!r}; update the older one")
    return SummedSpectra(
        start=start,
        spectra={item.name: _spectrum(item, reply) for item in reply.infos},
        pixels=reply.pixels,
        counted=reply.spectra,
        empty=reply.empty,
        left_out=dict(reply.left_out),
        counts_from=reply.counts_from,
    )


def askable(start: RunStart, packages: Sequence[PackageInfo]) -> tuple[str, ...]:
    """What can be asked of a run: the raw counts of every range, every model output."""
    raw = [layer_key(RAW, item.name) for item in start.ranges]
    outputs = [
        layer_key(package.name, item.name) for package in packages for item in package.outputs
    ]
    return (*raw, *outputs)


def flat_pixels(pixels: npt.ArrayLike, shape: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """Flat indices row x columns + column of a mask [rows, columns], or of pairs (row, column).

    A numpy array of integers of one dimension is taken for flat indices. Raises `PixelError` for
    pixels outside the map, none at all, or too many for one request.
    """
    array = np.asarray(pixels)
    if array.dtype == np.bool_ and array.shape == shape:
        flat = np.flatnonzero(array)
    elif array.dtype.kind in "iu" and array.ndim == 2 and array.shape[1] == 2:
        if (array < 0).any() or (array >= shape).any():
            raise PixelError(f"a pixel outside the map of {shape[0]} x {shape[1]} pixels")
        flat = array[:, 0].astype(np.int64) * shape[1] + array[:, 1]
    elif array.dtype.kind in "iu" and array.ndim == 1 and isinstance(pixels, np.ndarray):
        flat = array
    else:
        raise PixelError(
            "pixels: expected pairs (row, column), a mask of the map, or a numpy array of flat "
            f"indices, got {array.dtype} {list(array.shape)}"
        )
    if not 0 < len(flat) <= MAX_ASKED_PIXELS:
        raise PixelError(f"{len(flat)} pixels: one request takes 1 to {MAX_ASKED_PIXELS}")
    if int(flat.min()) < 0 or int(flat.max()) >= shape[0] * shape[1]:
        raise PixelError(f"a pixel outside the map of {shape[0]} x {shape[1]} pixels")
    return flat.astype(np.uint32)


def _span(what: str, span: Span, size: int) -> tuple[int, int] | None:
    if span is None:
        return None
    if isinstance(span, tuple):
        begin, end = (operator.index(item) for item in span)
    else:
        begin = operator.index(span)
        end = begin + 1
    if not 0 <= begin < end <= size:
        raise PixelError(f"{what} [{begin}, {end}): expected some of the {size} of the map")
    return begin, end


def _spectrum(info: SpectrumInfo, reply: Spectra) -> Spectrum:
    values = reply.arrays[info.name]
    energies = None
    if info.axis_ev is not None and values.ndim:
        size = values.shape[-1]
        energies = info.axis_ev[0] + info.axis_ev[1] * np.arange(size, dtype=np.float64)
    return Spectrum(
        name=info.name,
        kind=info.kind,
        values=values.astype(values.dtype, copy=True),
        energies_ev=energies,
        unit=info.unit,
        labels=info.labels,
        range_name=info.range_name,
        version=info.version,
        sha256=info.sha256,
        provider=info.provider,
        precision=info.precision,
        parameters={
            item.name: math.nan if item.value is None else item.value for item in info.parameters
        },
    )
