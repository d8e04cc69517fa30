"""The work of `zeroloss quantify`: read, choose the elements, run the model, keep its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.config import Setting
from zeroloss.maps import DETECTED_SHARE
from zeroloss.models import ModelPackage, ModelSession, ModelStore, PackageError, Provider
from zeroloss.models.answers import stands
from zeroloss.models.manifest import Manifest, Output
from zeroloss.models.parameters import CONDITIONS, check_given, settle
from zeroloss.pipeline import Analysis, choose_analyses, mask_invalid
from zeroloss.pipeline.answers import Handed, RunModels
from zeroloss.recording.spectrum_files import (
    Axis,
    SpectrumFile,
    SpectrumFileError,
    is_recording,
    read_measurement,
    read_spectrum_file,
    run_start,
)
from zeroloss.scan import EnergyAxis
from zeroloss.wire import EnergyRange, RunStart

from ._energy_axis import LEAST_GAIN, mended
from ._evidence import EVIDENCE, edges_in_range, gives_evidence
from ._reason_words import NO_ANSWER, reason_words

Floats = npt.NDArray[np.float32]

SELECTION = "elements"
FRACTION = "atomic_fraction"
DENSITY = "areal_density"
CHI2 = "fit_chi2"
ELEMENT_WHY = "element_why"
"""Output of a code for each element, of the labels of the reason of the fractions."""
EXPOSURE_RATIO = "exposure_ratio"
MICROSCOPE = ("beam_kev", "convergence_mrad", "collection_mrad")
CHUNK = 512
"""Spectra between two steps of the progress bar."""
MOST_IDENTIFIED = 4096
"""Pixels that are looked at to find the elements; of more, as many are taken evenly."""


class QuantifyError(ValueError):
    """Something that was asked for cannot be done: one sentence."""


@dataclass(frozen=True, slots=True)
class Quantified:
    """What the model answered: float32 [n, ...] by output for all pixels, [1, ...] for their sum.

    `answered` [n] tells where a pixel had counts and the answer keeps the contract of the manifest.
    """

    start: RunStart
    analysis: Analysis
    pixels: Mapping[str, Floats]
    summed: Mapping[str, Floats]
    answered: npt.NDArray[np.bool_]

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Of the model, all but spectra."""
        return tuple(item for item in self.analysis.outputs if item.kind != "spectrum")

    @property
    def elements(self) -> tuple[str, ...]:
        """Those that were chosen, in the order of the answers."""
        return self.output(FRACTION).labels

    def output(self, name: str) -> Output:
        """The output of that name, of the chosen elements."""
        return next(item for item in self.analysis.outputs if item.name == name)

    @property
    def range_ev(self) -> str:
        """From where to where the model looked."""
        return _told(self.analysis.range)

    def reasons(self, name: str) -> list[str]:
        """Of every pixel, in words, why a value of this output is missing; also where none is."""
        return self._reasons(name, self.pixels, len(self.answered))

    def reason_of_sum(self, name: str) -> str:
        """The same of the sum of all pixels."""
        return self._reasons(name, self.summed, 1)[0]

    def words(self, name: str, codes: Floats) -> list[str]:
        """What codes [n] of the reason of this output mean; it must have one."""
        labels = self.output(str(self.output(name).reason)).labels
        return [str(word) for word in reason_words(labels, codes)]

    def _reasons(self, name: str, values: Mapping[str, Floats], n: int) -> list[str]:
        reason = self.output(name).reason
        return [NO_ANSWER] * n if reason is None else self.words(name, values[reason])


def find_package(wanted: str, store: ModelStore) -> ModelPackage:
    """The package of that name or in that folder.

    Raises `QuantifyError` if it is no quantification, `PackageError` where an output that is known
    by its name is not what that name promises.
    """
    package = store.find(wanted)
    selection = package.manifest.takes.selection
    outputs = {item.name: item for item in package.manifest.outputs}
    told = {
        name
        for name, item in outputs.items()
        if item.selected and item.uncertainty is not None and outputs[item.uncertainty].selected
    }
    if selection is None or selection.name != SELECTION or FRACTION not in told:
        raise QuantifyError(
            f"the model {package.name} gives no {FRACTION} of chosen {SELECTION}: name a "
            "quantification package with --package"
        )
    if DENSITY in outputs and DENSITY not in told:
        wrong = f"{DENSITY} or its uncertainty is not selected"
    elif CHI2 in outputs and outputs[CHI2].shape:
        wrong = f"{CHI2} is not one number"
    elif ELEMENT_WHY in outputs and not outputs[ELEMENT_WHY].selected:
        wrong = f"{ELEMENT_WHY} is not selected"
    elif ELEMENT_WHY in outputs and outputs[FRACTION].reason is None:
        wrong = f"{FRACTION} has no reason whose codes {ELEMENT_WHY} could tell"
    else:
        return package
    raise PackageError(
        f"model package {package.folder}: {wrong}: `zeroloss quantify` knows outputs by these "
        "names, mend the package or call them otherwise"
    )


def check_elements(
    package: ModelPackage, elements: Sequence[str], given: Mapping[str, Setting]
) -> None:
    """`ParameterError` for elements, where any are named, or values that the package cannot take.

    It needs no file.
    """
    check_given(package.manifest, {**given, **({SELECTION: tuple(elements)} if elements else {})})


def check_microscope(
    package: ModelPackage, file: SpectrumFile, given: Mapping[str, Setting]
) -> None:
    """`QuantifyError` where beam and angles, without which there are no answers, are not known."""
    manifest = package.manifest
    told = {name: getattr(file, name) for name in CONDITIONS}
    settled = settle(manifest, given, told)
    unknown = [
        item.name
        for item in manifest.parameters
        if item.source in MICROSCOPE and np.isnan(settled.values[item.name])
    ]
    if not unknown:
        return
    silent = [name for name in unknown if told[name] is None]
    if not silent:
        raise QuantifyError(f"{file.path.name}: {'; '.join(settled.notes)}")
    flags = " ".join(f"--{name.replace('_', '-')}" for name in silent)
    raise QuantifyError(
        f"{file.path.name} does not say {' and '.join(silent)}, without which no cross section "
        f"is known: give {flags}"
    )


def read(path: Path, low_loss: Path | None, axis: Axis | None = None) -> SpectrumFile:
    """The spectra of a file or a recorded run, with a low loss of another file beside.

    `axis` is that of text with rows of counts.
    """
    if low_loss is None:
        return read_measurement(path, axis=axis)
    for item in (path, low_loss):
        if is_recording(item):
            raise SpectrumFileError(
                f"{item.name}: a recording holds its low loss itself: give it without --low-loss"
            )
    file = read_spectrum_file(path, low_loss, names=("core_loss", "low_loss"), axis=axis)
    low = EnergyAxis.of_range(file.ranges[1])
    if not low.offset_ev <= 0 <= low.end_ev:
        raise SpectrumFileError(
            f"{low_loss.name}: {low.offset_ev:g} to {low.end_ev:g} eV holds no zero-loss peak: "
            "expected the low loss of the same pixels"
        )
    return file


@dataclass(frozen=True, slots=True)
class Found:
    """The elements of a file, the surest first, and what is to be said of how they were found."""

    elements: tuple[str, ...]
    note: str


class Quantifier:
    """A quantification package on a file, and what tells where the zero of its axes is."""

    def __init__(
        self,
        file: SpectrumFile,
        package: ModelPackage,
        store: ModelStore,
        provider: Provider,
    ) -> None:
        self._file = file
        self._package = package
        self._store = store
        self._provider: Provider = provider
        self._start = run_start(file, t_ns=time.time_ns())
        self._counts = {
            item.name: mask_invalid(file.counts[item.name], item.saturation, signed=True)[0]
            for item in file.ranges
        }

    @property
    def manifest(self) -> Manifest:
        """Of the quantification package."""
        return self._package.manifest

    @cached_property
    def _session(self) -> ModelSession:
        return ModelSession(self._package, self._provider)

    @cached_property
    def _shifting(self) -> list[ModelSession]:
        # The only range of a file is corrected by no other.
        packages = self._store.packages().values() if len(self._file.ranges) > 1 else ()
        return [
            ModelSession(item, self._provider, outputs=[item.manifest.shifts_axis])
            for item in packages
            if item.manifest.shifts_axis is not None and not item.manifest.when_named
        ]

    def looked_at(self) -> int:
        """Pixels that `find` looks at."""
        return min(self._file.pixels, MOST_IDENTIFIED)

    def find(self, identifying: ModelPackage, advance: Callable[[int], None]) -> Found:
        """Elements that another model sees in the sum of all pixels or in at least 1 % of them.

        As many as can be quantified at once, the surest first; `advance` is told how many pixels
        are done. The rule of Annys et al., Sci. Rep. 13, 13724 (2023). Raises `QuantifyError`
        where that model gives no elements or finds none.
        """
        selection = self.manifest.takes.selection
        assert selection is not None
        session = ModelSession(identifying, self._provider)
        analyses = choose_analyses(self._start, [session, *self._shifting])
        analysis = next((item for item in analyses if item.session is session), None)
        output = next(
            (
                item
                for item in identifying.manifest.outputs
                if item.kind == "probability" and {*item.labels} & {*selection.labels}
            ),
            None,
        )
        if analysis is None or output is None:
            raise QuantifyError(
                f"{self._file.path.name}: the model {identifying.name} finds no elements in these "
                "spectra: name them, as in --elements Ti,O"
            )
        assert output.threshold is not None
        models = RunModels(self._file.path.name, analyses)
        n, looked_at = self._file.pixels, self.looked_at()
        rows = np.arange(looked_at) * n // looked_at
        seen = np.zeros(len(output.labels))
        for first in range(0, looked_at, CHUNK):
            part = rows[first : first + CHUNK]
            counts = {name: array[part] for name, array in self._counts.items()}
            probability = _ask(models, analysis, counts, [output.name])[output.name]
            with np.errstate(invalid="ignore"):
                seen += (probability >= output.threshold).sum(axis=0)
            advance(len(part))
        whole = _ask(models, analysis, self._sums, [output.name])[output.name][0]
        share, whole = seen / looked_at, np.nan_to_num(whole)
        present = (whole >= output.threshold) | (share >= DETECTED_SHARE)
        surest = np.argsort(-(share + whole), kind="stable")
        names = [output.labels[index] for index in surest if present[index]]
        names = [name for name in names if name in selection.labels]
        if not names:
            raise QuantifyError(
                f"{self._file.path.name}: the model {identifying.name} finds no element: name "
                "them, as in --elements Ti,O"
            )
        left = names[selection.slots :]
        note = f"elements found by {identifying.name}: {' '.join(names[: selection.slots])}"
        return Found(
            tuple(names[: selection.slots]),
            note + (f"; left out, as less sure: {' '.join(left)}" if left else ""),
        )

    def choose(self, elements: Sequence[str], given: Mapping[str, Setting]) -> Analysis:
        """The model with these elements and values on the range that suits it.

        Raises `ParameterError` for elements or values that it does not take, `QuantifyError` where
        it takes no range of the file.
        """
        said = dict(given) | {SELECTION: tuple(elements)}
        check_given(self.manifest, said)
        sessions = [self._session, *self._shifting]
        self._analyses = choose_analyses(self._start, sessions, {self.manifest.name: said})
        found = [item for item in self._analyses if item.session is self._session]
        if not found:
            raise QuantifyError(self._does_not_fit())
        return found[0]

    def mend_axis(
        self, identifying: ModelPackage, elements: Sequence[str], given: Mapping[str, Setting]
    ) -> str | None:
        """Put the energy axis right by the edges of these elements in the sum of all pixels.

        Only where the fit of that sum is clearly better then. What was done, in words; None where
        nothing was.
        """
        before, analysis = self._start, self.choose(elements, given)
        chi2 = self._chi2(analysis)
        if not gives_evidence(identifying.manifest) or not np.isfinite(chi2):
            return None
        session = ModelSession(identifying, self._provider, outputs=EVIDENCE)
        looking = choose_analyses(before, [session, *self._shifting])
        asked = next((item for item in looking if item.session is session), None)
        if asked is None or asked.range != analysis.range:
            return None
        models = RunModels(self._file.path.name, looking)
        seen = _ask(models, asked, self._sums, EVIDENCE)
        edges = edges_in_range(identifying.manifest, seen)
        found = mended(analysis.range, [edge for name in elements for edge in edges.get(name, ())])
        if found is None:
            return None
        ranges = [found.range if item == analysis.range else item for item in before.ranges]
        self._start = replace(before, ranges=tuple(ranges))
        after = self._chi2(self.choose(elements, given))
        if not after * LEAST_GAIN < chi2:
            self._start = before
            return None
        return found.told(analysis.range, (chi2, after))

    def _chi2(self, analysis: Analysis) -> float:
        """Of the fit of the sum of all pixels; NaN where there is none."""
        if CHI2 not in {item.name for item in analysis.outputs}:
            return float("nan")
        models = RunModels(self._file.path.name, self._analyses)
        return float(_ask(models, analysis, self._sums, [CHI2])[CHI2][0])

    def run(self, analysis: Analysis, workers: int, advance: Callable[[int], None]) -> Quantified:
        """Every pixel, and the sum of them; `advance` is told how many are done.

        `workers` threads run the model, which changes no bit of the answers. Raises
        `InferenceError` where the graph fails, `PackageError` where it tells codes without a label.
        """
        models = RunModels(self._file.path.name, self._analyses)
        outputs = [item for item in analysis.outputs if item.kind != "spectrum"]
        n = self._file.pixels
        values = {item.name: np.empty((n, *item.shape), np.float32) for item in outputs}
        answered = np.zeros(n, np.bool_)

        def part(first: int) -> int:
            rows = slice(first, min(first + CHUNK, n))
            counts = {name: array[rows] for name, array in self._counts.items()}
            answered[rows] = _answer(models, analysis, counts, into=values, rows=rows)
            return rows.stop - rows.start

        with ThreadPoolExecutor(workers) as pool:
            for done in pool.map(part, range(0, n, CHUNK)):
                advance(done)
        summed = {item.name: np.empty((1, *item.shape), np.float32) for item in outputs}
        _answer(models, analysis, self._sums, into=summed, rows=slice(0, 1))
        found = Quantified(self._start, analysis, values, summed, answered)
        if ELEMENT_WHY in values:
            _check_codes(found)
        return found

    @cached_property
    def _sums(self) -> dict[str, Floats]:
        """Counts [1, channels] of each range, over the pixels that have counts in all of them."""
        sums = {name: np.zeros((1, array.shape[1])) for name, array in self._counts.items()}
        summed = 0
        # In parts, so that a large file needs no second one beside it.
        for first in range(0, self._file.pixels, CHUNK):
            parts = {name: array[first : first + CHUNK] for name, array in self._counts.items()}
            there = np.all([np.isfinite(part).any(axis=1) for part in parts.values()], axis=0)
            summed += int(np.count_nonzero(there))
            for name, part in parts.items():
                sums[name] += part[there].sum(axis=0, dtype=np.float64)
        if not summed:
            return {name: np.full(item.shape, np.nan, np.float32) for name, item in sums.items()}
        return {name: item.astype(np.float32) for name, item in sums.items()}

    def _does_not_fit(self) -> str:
        takes = self.manifest.takes
        ranges = ", ".join(_told(item) for item in self._file.ranges)
        return (
            f"{self._file.path.name}: the model {self.manifest.name} takes {takes.modality} "
            f"spectra with {takes.min_overlap_ev:g} eV or more between {takes.window_ev[0]:g} and "
            f"{takes.window_ev[1]:g} eV, these are {self._file.modality} spectra of {ranges}"
        )


def _check_codes(found: Quantified) -> None:
    codes = np.concatenate([found.pixels[ELEMENT_WHY], found.summed[ELEMENT_WHY]]).ravel()
    reason = str(found.output(FRACTION).reason)
    n = len(found.output(reason).labels)
    told = codes[np.isfinite(codes)]
    wrong = told[(told < 0) | (told >= n) | (told != np.floor(told))]
    if wrong.size:
        raise PackageError(
            f"the model {found.analysis.manifest.name}: {ELEMENT_WHY} is {wrong[0]:g}, expected a "
            f"code of {reason}, 0 to {n - 1}: mend the package"
        )


def _answer(
    models: RunModels,
    analysis: Analysis,
    counts: Mapping[str, Floats],
    *,
    into: Mapping[str, Floats],
    rows: slice,
) -> npt.NDArray[np.bool_]:
    """Put the answers where they belong; which of the spectra have one [n]."""
    found = _ask(models, analysis, counts, list(into))
    good = np.asarray(np.isfinite(counts[analysis.range.name]).any(axis=1))
    for item in analysis.outputs:
        if item.name in into:
            good &= stands(item, found)
    for name, array in into.items():
        array[rows] = found[name]
        array[rows][~good] = np.nan
    return good


def _ask(
    models: RunModels, analysis: Analysis, counts: Mapping[str, Floats], outputs: Sequence[str]
) -> dict[str, Floats]:
    """Outputs [n, ...] of a model, on the axes that the maps of a live run are made on."""
    handed = Handed(counts)
    shift_ev = np.zeros(len(handed))
    shifting = models.shifting_for(analysis)
    if shifting is not None:
        name = str(shifting.manifest.shifts_axis)
        shift_ev = np.nan_to_num(models.ask(shifting, handed, [name], shift_ev)[name])
    return models.ask(analysis, handed, outputs, shift_ev)


def _told(item: EnergyRange) -> str:
    axis = EnergyAxis.of_range(item)
    return f"{axis.offset_ev:g} to {axis.end_ev:g} eV"
