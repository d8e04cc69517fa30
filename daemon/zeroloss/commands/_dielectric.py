"""The work of `zeroloss dielectric`: choose the model and the pixels, run it, keep its answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.models import ModelPackage, ModelSession, ModelStore
from zeroloss.models.answers import stands
from zeroloss.models.parameters import Given, check_given, lacks_selection, selecting
from zeroloss.pipeline import Analysis, Handed, choose_analyses, mask_invalid
from zeroloss.recording.spectrum_files import SpectrumFile, run_start
from zeroloss.wire import RunStart

from ._model_flags import settings_of
from ._reason_words import reason_words

Floats = npt.NDArray[np.float32]
Span = tuple[int, int]

DIELECTRIC = ("eps_real", "eps_imag")
"""Outputs that make a package one that this command runs."""
REFRACTIVE_INDEX = "refractive_index"
CHUNK = 256
"""Spectra between two steps of the progress bar."""
MAX_BYTES = 4 << 30
"""Most memory for the answers."""


class DielectricError(ValueError):
    """Something that was asked for cannot be done: one sentence."""


@dataclass(frozen=True, slots=True)
class Region:
    """Rows and columns, half-open [begin, end)."""

    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def pixels(self) -> int:
        """How many."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model answered: float32 [rows, columns, *shape] by output, NaN where it gave nothing.

    `region` are the pixels that were looked at, `summed` that they were added up to one spectrum.
    `answered` [rows, columns] tells where the answer keeps the contract of the manifest.
    """

    start: RunStart
    analysis: Analysis
    region: Region
    summed: bool
    values: Mapping[str, Floats]
    answered: npt.NDArray[np.bool_]

    def reasons(self, output: str) -> npt.NDArray[np.str_]:
        """The words of a label [rows, columns]."""
        return reason_words(self.analysis.manifest.output(output).labels, self.values[output])


def find_package(wanted: str | None, folders: Sequence[Path]) -> ModelPackage:
    """The package of that name or in that folder; without, the only one that gives `DIELECTRIC`.

    Raises `DielectricError` where there is none or more than one, and `PackageError`.
    """
    store = ModelStore(folders)
    if wanted is not None:
        package = store.find(wanted)
        missing = set(DIELECTRIC) - _names(package)
        if missing:
            raise DielectricError(
                f"the model {package.name} gives no {min(missing)}: name a low-loss package that "
                f"was trained (it gives {', '.join(sorted(_names(package)))})"
            )
        return package
    found = [item for item in store.packages().values() if _names(item).issuperset(DIELECTRIC)]
    if not found:
        raise DielectricError(
            f"no model package gives {' and '.join(DIELECTRIC)}: train one on zero-loss peaks of "
            "your microscope with zeroloss-export train zlp, then name its folder with --package"
        )
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise DielectricError(f"{len(found)} packages can do this ({names}): choose with --package")
    return found[0]


def given_to(
    package: ModelPackage,
    settings: Mapping[str, Given],
    refractive_index: float | None,
) -> dict[str, float | Sequence[str]]:
    """What the flags say of the parameters of the package; `ParameterError` for what cannot be."""
    given = settings_of(package.name, settings)
    if refractive_index is not None:
        given[REFRACTIVE_INDEX] = refractive_index
    check_given(package.manifest, given)
    if lacks_selection(package.manifest, given):
        flag = selecting(package.manifest)
        raise DielectricError(f"the model {package.name} is told what to look for with {flag}")
    return given


def prepare(session: ModelSession, file: SpectrumFile, given: Given) -> tuple[RunStart, Analysis]:
    """The file as a run, and the model on the range that suits it; `DielectricError` for none."""
    start = run_start(file, t_ns=time.time_ns())
    analyses = choose_analyses(start, [session], {session.package.name: given})
    if not analyses:
        takes = session.package.manifest.takes
        scale = ""
        if takes.scale_ev is not None:
            scale = f" in steps of {takes.scale_ev[0]:g} to {takes.scale_ev[1]:g} eV"
        ranges = ", ".join(
            f"{item.size} channels of {item.scale_ev:g} eV from {item.offset_ev:g} eV"
            for item in file.ranges
        )
        raise DielectricError(
            f"{file.path.name}: the model {session.package.name} takes {takes.modality} spectra of "
            f"{takes.window_ev[0]:g} to {takes.window_ev[1]:g} eV{scale} and at most "
            f"{takes.max_channels} channels, these are {file.modality} spectra of {ranges}"
        )
    return start, analyses[0]


def analyse(
    start: RunStart,
    analysis: Analysis,
    file: SpectrumFile,
    region: Region,
    *,
    summed: bool,
    workers: int,
    advance: Callable[[int], None],
) -> Answers:
    """Run the model on every pixel of the region, or on the sum of their counts.

    `workers` threads run it, which changes no bit of the answers. `advance` is told how many pixels
    are done. Raises `DielectricError` where the region is outside
    the image or its answers are too large, `InferenceError` where the graph fails.
    """
    rows, columns = file.shape
    inside = [
        0 <= begin < end <= size
        for (begin, end), size in zip((region.rows, region.columns), file.shape, strict=True)
    ]
    if not all(inside):
        raise DielectricError(
            f"{file.path.name}: rows {region.rows[0]}:{region.rows[1]} and columns "
            f"{region.columns[0]}:{region.columns[1]} are no pixels of {rows} x {columns}"
        )
    outputs = analysis.outputs
    shape = (1, 1) if summed else region.shape
    n = math.prod(shape)
    needed = 4 * n * sum(math.prod(item.shape) for item in outputs)
    if needed > MAX_BYTES:
        raise DielectricError(
            f"{file.path.name}: the answers for {n} pixels take {needed / 2**30:.1f} GiB, at most "
            f"{MAX_BYTES >> 30} are kept: choose a smaller --region, or --sum"
        )
    values = {item.name: np.empty((n, *item.shape), np.float32) for item in outputs}
    answered = np.zeros(n, np.bool_)
    pixels = np.arange(rows * columns).reshape(rows, columns)[
        slice(*region.rows), slice(*region.columns)
    ]

    def run(first: int) -> int:
        part = slice(first, min(first + CHUNK, n))
        chosen = pixels.ravel() if summed else pixels.ravel()[part]
        handed = _handed(analysis, file, chosen, summed=summed)
        counts = handed.own(analysis)
        beside = None if analysis.low_loss is None else (handed.low_loss(analysis), 0.0)
        found = analysis.run(counts, 0.0, list(values), beside)
        good = np.asarray(np.isfinite(counts).any(axis=1))
        for item in outputs:
            good &= stands(item, found)
        for item in outputs:
            values[item.name][part] = found[item.name]
            values[item.name][part][~good] = np.nan
        answered[part] = good
        return len(chosen)

    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(run, range(0, n, CHUNK)):
            advance(done)
    return Answers(
        start,
        analysis,
        region,
        summed,
        {name: array.reshape(*shape, *array.shape[1:]) for name, array in values.items()},
        answered.reshape(shape),
    )


def _handed(
    analysis: Analysis, file: SpectrumFile, pixels: npt.NDArray[np.intp], *, summed: bool
) -> Handed:
    """The spectra as the model is given them; a sum leaves out pixels that have none."""
    counts: dict[str, npt.NDArray[np.generic]] = {}
    spectra: dict[str, npt.NDArray[np.intp]] = {}
    for item in analysis.handed_ranges:
        rows, _ = mask_invalid(file.counts[item.name][pixels], item.saturation, signed=True)
        there = np.asarray(np.isfinite(rows).any(axis=1), np.intp)
        if summed:
            total = rows[there > 0].sum(axis=0, dtype=np.float64)
            rows = total[np.newaxis].astype(np.float32)
            if not there.any():
                rows[:] = np.nan
        counts[item.name] = rows
        spectra[item.name] = np.array([there.sum()]) if summed else there
    return Handed(counts, spectra)


def _names(package: ModelPackage) -> set[str]:
    return {item.name for item in package.manifest.outputs}
