"""Answers requests for spectra: the counts of some pixels summed, and what models make of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeroloss.models import InferenceError, ParameterError
from zeroloss.models.manifest import Output
from zeroloss.models.parameters import check_given
from zeroloss.recording import BlockReader, IndexedBlock, IndexedSpectra, RecordingError
from zeroloss.wire import (
    RAW,
    EnergyRange,
    Refusal,
    Request,
    Spectra,
    SpectraBlock,
    SpectrumInfo,
    layer_key,
)
from zeroloss.wire.limits import MAX_ASKED_PIXELS, MAX_TEXT
from zeroloss.wire.spectra import CountsOrigin

from .analysis import Analysis
from .answers import Handed
from .work import mask_invalid

if TYPE_CHECKING:
    from .run import Run

Pixels = npt.NDArray[np.uint32]
Counts = dict[str, npt.NDArray[np.float64]]

MAX_READ_BYTES = 1 << 30
"""Most that is read from the recording for one request: some seconds of a disk."""
MAX_READ_SPECTRA = 1 << 21
"""Most spectra of one request, over all passes."""
SUMMED_AT_ONCE = 1024
"""Spectra of a block that are summed at a time, so that a large block needs no second one."""

NO_VALID_CHANNEL = "no valid channel"
NOT_RECORDED = "not in the recording"
DAMAGED = "damaged in the recording"


class SpectrumError(ValueError):
    """A request for spectra that cannot be answered: one sentence."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One name of a request: an energy range, and for a model's answer the model and its output."""

    name: str
    range: EnergyRange
    model: tuple[Analysis, Output] | None = None


@dataclass(slots=True)
class Summed:
    """Counts summed over spectra, float64 [channels] a range; which of the pixels gave any."""

    counts: Counts
    came: dict[str, int]
    """Of how many spectra each range is the sum; those that are not measured are left out."""
    filled: npt.NDArray[np.bool_]
    counts_from: CountsOrigin
    spectra: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def answer_spectra(run: Run, request: Request) -> Spectra | Refusal:
    """The answer to a request for spectra of this run; takes its time, so not on a thread of its.

    The same request gives the same answer as long as no further spectrum of its pixels comes.
    """
    try:
        return _answer(run, request)
    except (SpectrumError, RecordingError, InferenceError, ParameterError) as error:
        return Refusal(
            ticket=request.ticket,
            t_ns=time.time_ns(),
            reason=str(error)[:MAX_TEXT],
            run=run.start.run,
        )


def _answer(run: Run, request: Request) -> Spectra:
    every_range = [f"{RAW}/{item.name}" for item in run.start.ranges]
    analyses = _with_parameters(run, request.parameters)
    asked = [_find(run, analyses, name) for name in request.what or every_range]
    pixels = _asked_pixels(run, request)
    summed = _sum(run, pixels, {item.range.name for item in asked}, _ranges_beside(run, asked))
    if not summed.spectra:
        raise SpectrumError(_why_none(len(pixels), summed.left_out))
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for analysis in _models(asked):
        names = [item.model[1].name for item in asked if item.model and item.model[0] is analysis]
        for name, values in _run_model(run, analysis, summed, names).items():
            arrays[layer_key(analysis.manifest.name, name)] = values[0]
    arrays |= {item.name: summed.counts[item.range.name] for item in asked if item.model is None}
    return Spectra(
        run=run.start.run,
        ticket=request.ticket,
        t_ns=time.time_ns(),
        pixels=len(pixels),
        spectra=summed.spectra,
        empty=int(np.count_nonzero(~summed.filled)),
        left_out=dict(sorted(summed.left_out.items())),
        counts_from=summed.counts_from,
        infos=tuple(_info(item) for item in asked),
        arrays={item.name: arrays[item.name] for item in asked},
    )


# What is asked for.


def _with_parameters(run: Run, asked: Mapping[str, float]) -> list[Analysis]:
    """The models of the run, with these values of <package>.<name> in place of the run's."""
    analyses = {item.manifest.name: item for item in run.analyses}
    for key, value in asked.items():
        package, _, name = key.partition(".")
        analysis = analyses.get(package)
        if analysis is None:
            raise SpectrumError(
                f"{key}: this run has no model {package}; it has {', '.join(analyses) or 'none'}"
            )
        check_given(analysis.manifest, {name: value})
        analyses[package] = replace(analysis, parameters={**analysis.parameters, name: value})
    return list(analyses.values())


def _find(run: Run, analyses: Sequence[Analysis], name: str) -> _Asked:
    first, _, rest = name.partition("/")
    if first == RAW:
        for item in run.start.ranges:
            if item.name == rest:
                return _Asked(name, item)
    for analysis in analyses:
        if analysis.manifest.name == first:
            for output in analysis.outputs:
                if output.name == rest:
                    return _Asked(name, analysis.range, (analysis, output))
    raws = [f"{RAW}/{item.name}" for item in run.start.ranges]
    outputs = [
        layer_key(package.name, output.name)
        for package in run.packages
        for output in package.outputs
    ]
    raise SpectrumError(f"nothing is called {name}; this run has {', '.join(raws + outputs)}")


def _asked_pixels(run: Run, request: Request) -> Pixels:
    """The different pixels asked for [n], rising."""
    rows, columns = run.geometry.shape
    if request.pixels is not None:
        pixels = np.unique(request.pixels)
        if int(pixels[-1]) >= rows * columns:
            raise SpectrumError(
                f"pixel {int(pixels[-1])} is outside the map of {rows} x {columns} pixels"
            )
        return pixels
    row_begin, row_end = request.rows or (0, rows)
    column_begin, column_end = request.columns or (0, columns)
    if row_end > rows or column_end > columns:
        raise SpectrumError(
            f"rows [{row_begin}, {row_end}) and columns [{column_begin}, {column_end}) are not "
            f"inside the map of {rows} x {columns} pixels"
        )
    count = (row_end - row_begin) * (column_end - column_begin)
    if count > MAX_ASKED_PIXELS:
        raise SpectrumError(
            f"a request for {count} pixels: the cap is {MAX_ASKED_PIXELS}; ask for a smaller region"
        )
    flat = np.arange(row_begin, row_end)[:, None] * columns + np.arange(column_begin, column_end)
    return flat.astype(np.uint32).ravel()


# Counts.


def _sum(run: Run, pixels: Pixels, asked: Collection[str], beside: Collection[str]) -> Summed:
    """The sums of the asked ranges, and of others `beside` them."""
    names = {*asked, *beside}
    # The closing of the run lets go of its sums; the recording then holds what they were made of.
    sums = run.sums
    if sums is not None:
        counts, came, spectra, filled = sums.total(pixels, names)
        return Summed(counts, came, filled, "sums", spectra)
    if run.folder is None:
        raise SpectrumError(
            f"run {run.name} is not recorded, so its spectra cannot be read again; let the daemon "
            "record"
        )
    return _read(run, pixels, asked, names)


def _read(run: Run, pixels: Pixels, asked: Collection[str], names: Collection[str]) -> Summed:
    found = _indexed(run, pixels)
    if found.nbytes > MAX_READ_BYTES:
        raise SpectrumError(
            f"a request that reads {found.nbytes / 2**20:.0f} MiB of the recording: the cap is "
            f"{MAX_READ_BYTES >> 20}; ask for fewer pixels"
        )
    summed = Summed(
        {name: np.zeros(run.start.range(name).size) for name in sorted(names)},
        dict.fromkeys(names, 0),
        np.zeros(len(pixels), dtype=np.bool_),
        "recording",
    )
    with BlockReader.opened() as reader:
        for item in found.blocks():
            block = None if item.location is None else reader.read(item.location)
            if block is None or not _is_the_block(block, item, run):
                reason = NOT_RECORDED if item.location is None else DAMAGED
                summed.left_out[reason] += len(item.positions)
                continue
            for part in _parts(len(item.positions)):
                _add(run, summed, pixels, block, item, part, asked)
    return summed


def _indexed(run: Run, pixels: Pixels) -> IndexedSpectra:
    """Where the spectra of these pixels are, over all passes that have come."""
    per_pass = run.geometry.per_pass
    if per_pass is None:
        found = run.index.of_pixels(pixels)
        _check_count(len(found))
        return found
    inside = run.geometry.positions_of(pixels)
    passes = -(-run.index.end // per_pass)
    _check_count(len(inside) * passes)
    positions = inside + per_pass * np.arange(passes, dtype=np.int64)[:, None]
    return run.index.of_positions(positions.ravel())


def _check_count(count: int) -> None:
    if count > MAX_READ_SPECTRA:
        raise SpectrumError(
            f"a request that sums {count} spectra over all passes: the cap is {MAX_READ_SPECTRA}; "
            "ask for fewer pixels"
        )


def _is_the_block(block: SpectraBlock, item: IndexedBlock, run: Run) -> bool:
    """Whether the file still holds what was written there."""
    last = int(item.positions[-1])
    return (block.run, block.first) == (run.start.run, item.first) and last < item.first + block.n


def _parts(n: int) -> Iterator[slice]:
    for first in range(0, n, SUMMED_AT_ONCE):
        yield slice(first, first + SUMMED_AT_ONCE)


def _add(
    run: Run,
    summed: Summed,
    pixels: Pixels,
    block: SpectraBlock,
    item: IndexedBlock,
    part: slice,
    asked: Collection[str],
) -> None:
    positions = item.positions[part]
    usable = np.zeros(len(positions), dtype=np.bool_)
    for name, total in summed.counts.items():
        rows = block.counts[name][positions - item.first]
        # As the sums over passes: whether a negative count is valid is for each model to say.
        valid, _ = mask_invalid(rows, run.start.range(name).saturation, signed=True)
        there = np.isfinite(valid).any(axis=1)
        total += valid[there].sum(axis=0, dtype=np.float64)
        summed.came[name] += int(np.count_nonzero(there))
        if name in asked:
            usable |= there
    came = run.geometry.pixel_of(positions) if item.pixels is None else item.pixels[part]
    summed.filled[np.searchsorted(pixels, came[usable])] = True
    used = int(np.count_nonzero(usable))
    summed.spectra += used
    if used < len(positions):
        summed.left_out[NO_VALID_CHANNEL] += len(positions) - used


def _why_none(pixels: int, left_out: Counter[str]) -> str:
    what = "this pixel" if pixels == 1 else f"these {pixels} pixels"
    if not left_out:
        return f"no usable spectrum of {what} has come"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return f"no spectrum of {what} can be summed: {reasons}"


# Models.


def _models(asked: Sequence[_Asked]) -> list[Analysis]:
    """The different models asked for, in the order of the request."""
    return list({id(item.model[0]): item.model[0] for item in asked if item.model}.values())


def _ranges_beside(run: Run, asked: Sequence[_Asked]) -> set[str]:
    """Ranges that tell where the zero of an asked one's axis is, or that its model is given."""
    analyses = _models(asked)
    shifting = [run.models.shifting_for(analysis) for analysis in analyses]
    beside = {name for analysis in analyses for name in analysis.handed_names}
    return beside | {item.range.name for item in shifting if item is not None}


def _run_model(
    run: Run, analysis: Analysis, summed: Summed, outputs: Sequence[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Outputs [1, ...] of a model for the sum, on the axis that the maps are made with."""
    shifting = run.models.shifting_for(analysis)
    names = {*analysis.handed_names, *([] if shifting is None else [shifting.range.name])}
    handed = Handed(
        {name: summed.counts[name][None] for name in names},
        {name: np.array([summed.came[name]]) for name in names},
    )
    if not np.isfinite(handed.own(analysis)).any():
        raise SpectrumError(
            f"no channel of {analysis.range.name} is valid in all of the {summed.spectra} spectra"
        )
    shift_ev = np.zeros(1)
    if shifting is not None and np.isfinite(low := handed.own(shifting)).any():
        name = str(shifting.manifest.shifts_axis)
        shift_ev = np.nan_to_num(shifting.run(low, 0.0, [name])[name])
    return run.models.ask(analysis, handed, outputs, shift_ev)


def _info(item: _Asked) -> SpectrumInfo:
    if item.model is None:
        return SpectrumInfo(
            name=item.name,
            kind="raw",
            range_name=item.range.name,
            unit="counts",
            axis_ev=(item.range.offset_ev, item.range.scale_ev),
        )
    analysis, output = item.model
    package = analysis.info
    return SpectrumInfo(
        name=item.name,
        kind=output.kind,
        range_name=item.range.name,
        unit=output.unit,
        labels=output.labels,
        axis_ev=None if output.axis is None else (output.axis.offset_ev, output.axis.scale_ev),
        version=package.version,
        sha256=package.sha256,
        provider=package.provider,
        precision=package.precision,
        parameters=package.parameters,
    )
