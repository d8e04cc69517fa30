"""The work of `zeroloss identify`: read, mask, run the model, tell."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zeroloss.models import ModelSession, ModelStore, PackageError, Provider
from zeroloss.models.manifest import Takes
from zeroloss.models.parameters import (
    CONDITIONS,
    Given,
    Settled,
    check_given,
    lacks_selection,
    selecting,
    settle,
)
from zeroloss.pipeline import mask_invalid
from zeroloss.recording.spectrum_files import (
    Axis,
    SpectrumFileError,
    read_spectrum_collection,
    read_spectrum_file,
)
from zeroloss.scan import EnergyAxis

from ._csv_rows import Rows, csv_rows, number
from ._evidence import (
    EVIDENCE,
    EVIDENCE_HEADER,
    Edge,
    Shown,
    edges_in_range,
    evidence_table,
    gives_evidence,
    write_evidence,
)
from ._findings import Answer, findings_of_image, findings_of_spectrum
from ._model_flags import progress_bar, settings_of

Floats = npt.NDArray[np.float32]

AXIS_ERROR = "axis_error_ev"
"""Output [2] of a package: how much too high the energies are at the ends of the spectrum."""
CHUNK = 256
"""Spectra between two steps of the progress bar."""


class IdentifyError(ValueError):
    """Something that was asked for cannot be done: one sentence."""


@dataclass(frozen=True, slots=True)
class Spectra:
    """Spectra of one axis: counts [n, channels], NaN where a channel is not valid.

    `names` has one per spectrum, `pixels` says in words what the spectra of an image are.
    """

    title: str
    axis: EnergyAxis
    counts: Floats
    names: Sequence[str]
    pixels: str
    notes: tuple[str, ...]
    conditions: Mapping[str, float | None] = field(default_factory=dict)
    """What the file says of the microscope."""


class Identifier:
    """A model that gives probabilities, open and ready.

    `given` are values of parameters by package. Raises `PackageError`, `ParameterError`,
    `ProviderError` or `InstallError` where it cannot be.
    """

    def __init__(
        self,
        name: str,
        folders: Sequence[Path],
        provider: Provider,
        threshold: float | None,
        given: Mapping[str, Given],
    ) -> None:
        package = ModelStore(folders).get(name)
        found = [item for item in package.manifest.outputs if item.kind == "probability"]
        if not found or found[0].threshold is None:
            raise PackageError(f"the model {name} gives no probabilities: name another --model")
        self._given = settings_of(name, given)
        check_given(package.manifest, self._given)
        if lacks_selection(package.manifest, self._given):
            flag = selecting(package.manifest)
            raise IdentifyError(f"the model {name} is told what to look for with {flag}")
        self.name = name
        self.labels = found[0].labels
        self.threshold = found[0].threshold if threshold is None else threshold
        self.takes = package.manifest.takes
        self._output, self._spread = found[0].name, found[0].uncertainty
        self._doubts = [
            (item, item.threshold)
            for item in found[1:]
            if len(item.labels) == 1 and item.threshold is not None
        ]
        names = {item.name for item in package.manifest.outputs}
        self._axis_error = AXIS_ERROR if AXIS_ERROR in names else None
        self._evidence = gives_evidence(package.manifest)
        self._session = ModelSession(package, provider)
        self._provider: Provider = provider

    def why_not(self, spectra: Spectra) -> str | None:
        """Why the model cannot look at these spectra; None when it can."""
        axis, (low, high) = spectra.axis, self.takes.window_ev
        if axis.size > self.takes.max_channels:
            return f"{axis.size} channels: the model takes at most {self.takes.max_channels}"
        if axis.overlap_ev(low, high) < self.takes.min_overlap_ev:
            return (
                f"{_range(axis)} overlaps the {low:g} to {high:g} eV of the model by less than "
                f"{self.takes.min_overlap_ev:g} eV"
            )
        if self.takes.scale_ev is not None and not self.takes.takes_scale(axis.scale_ev):
            smallest, largest = self.takes.scale_ev
            return (
                f"{axis.scale_ev:g} eV per channel: the model takes {smallest:g} to {largest:g} eV"
            )
        if not np.isfinite(spectra.counts).any():
            return "no channel is valid"
        return None

    def settled(self, spectra: Spectra) -> Settled:
        """The parameters of the model for these spectra."""
        return settle(self._session.package.manifest, self._given, spectra.conditions)

    def run(self, spectra: Spectra, first: int, stop: int) -> Answer:
        """The answer for the spectra [first, stop)."""
        optional = (self._output, self._spread, self._axis_error)
        wanted = [name for name in optional if name is not None]
        wanted += [item.name for item, _ in self._doubts]
        outputs = self._run(self._session, spectra, spectra.counts[first:stop], wanted)
        return Answer(
            outputs[self._output],
            None if self._spread is None else outputs[self._spread],
            {item.labels[0]: (outputs[item.name][:, 0], limit) for item, limit in self._doubts},
            None if self._axis_error is None else outputs[self._axis_error],
        )

    def edges(self, spectra: Spectra) -> dict[str, list[Edge]]:
        """Evidence by label for one spectrum, or for the mean of several; none by some models."""
        if not self._evidence:
            return {}
        if len(spectra.names) > 1:
            spectra = mean_of(spectra)
        answers = self._run(self._proving, spectra, spectra.counts, EVIDENCE)
        return edges_in_range(self._session.package.manifest, answers)

    @cached_property
    def _proving(self) -> ModelSession:
        """Open for the evidence alone, which is asked for less often."""
        return ModelSession(self._session.package, self._provider, outputs=EVIDENCE)

    def _run(
        self, session: ModelSession, spectra: Spectra, counts: Floats, outputs: Sequence[str]
    ) -> dict[str, Floats]:
        settled = self.settled(spectra)
        return session.run(
            counts,
            spectra.axis.offset_ev,
            spectra.axis.scale_ev,
            outputs,
            settled.values,
            selection=settled.selection,
        )


def read(path: Path, takes: Takes, *, mean: bool, given: Axis | None = None) -> list[Spectra]:
    """All spectra of a file, masked as the model takes them.

    `given` is the energy axis of text that holds counts only. Raises `SpectrumFileError` where the
    file cannot be used.
    """
    if path.suffix.lower() == ".npz":
        if given is not None:
            raise SpectrumFileError(f"{path.name}: it holds the axis of every spectrum: give none")
        return [
            _masked(takes, item.name, item.axis, item.counts[np.newaxis], [item.name], None, ())
            for item in read_spectrum_collection(path)
        ]
    file = read_spectrum_file(path, axis=given)
    if file.modality != takes.modality:
        raise SpectrumFileError(
            f"{path.name}: {file.modality} spectra; the model takes {takes.modality}"
        )
    energy = file.ranges[0]
    axis = EnergyAxis.of_range(energy)
    name = str(path)
    columns = file.shape[1]
    image = file.pixels > 1
    names = [f"{name}[{i // columns},{i % columns}]" for i in range(file.pixels)]
    spectra = _masked(
        takes,
        name,
        axis,
        file.counts[energy.name],
        names if image else [name],
        energy.saturation,
        file.notes,
    )
    conditions = {name: getattr(file, name) for name in CONDITIONS}
    spectra = replace(spectra, conditions=conditions)
    if not image:
        return [spectra]
    if mean:
        return [mean_of(spectra)]
    return [replace(spectra, pixels=f"{file.shape[0]} x {columns}")]


def _masked(
    takes: Takes,
    title: str,
    axis: EnergyAxis,
    counts: npt.NDArray[Any],
    names: Sequence[str],
    saturation: float | None,
    notes: tuple[str, ...],
) -> Spectra:
    valid, masked = mask_invalid(counts, saturation, signed=takes.signed_counts)
    if masked:
        share = f"{masked} of {valid.size} channels"
        kinds = "NaN or saturated" if takes.signed_counts else "NaN, negative or saturated"
        notes += (f"{share} are {kinds} and count as not measured",)
    return Spectra(title, axis, valid, names, "", notes)


def mean_of(spectra: Spectra) -> Spectra:
    """The mean over the spectra; a channel counts where any of them measured it."""
    with warnings.catch_warnings():
        # A channel that no pixel measured stays NaN, which is right.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.asarray(np.nanmean(spectra.counts, axis=0, dtype=np.float64))
    return replace(
        spectra,
        counts=mean[np.newaxis].astype(np.float32),
        names=[spectra.title],
        pixels=f"mean of {len(spectra.names)}",
    )


def identify_files(
    identifier: Identifier,
    paths: Sequence[Path],
    *,
    csv_path: Path | None,
    evidence_path: Path | None = None,
    evidence: bool = False,
    axis: Axis | None,
    mean: bool,
    share: float,
    console: Console,
) -> int:
    """Identify every file and tell; returns the exit code.

    With `evidence` the edges of everything detected are printed; without, they are where there is
    one spectrum only. 0: all spectra were identified; 1: some could not be; 2: none could be.
    """
    table = Table(box=None)
    table.add_column("spectrum", overflow="fold")
    for heading in ("pixels", "elements: probability ± spread", "energy range"):
        table.add_column(heading)
    notes: list[str] = []
    failures: list[str] = []
    proofs: list[Shown] = []
    done = failed = 0
    with (
        csv_rows(csv_path, ["id", *identifier.labels]) as rows,
        csv_rows(evidence_path, EVIDENCE_HEADER) as edge_rows,
        progress_bar(console, "identifying") as progress,
    ):
        task = progress.add_task("identifying", total=None)
        total = 0
        for path in paths:
            try:
                groups = read(path, identifier.takes, mean=mean, given=axis)
            except SpectrumFileError as error:
                failures.append(str(error))
                failed += 1
                continue
            total += sum(len(item.names) for item in groups)
            progress.update(task, total=total)
            for spectra in groups:
                told = (*spectra.notes, *identifier.settled(spectra).notes)
                notes += [f"{spectra.title}: {note}" for note in told]
                reason = identifier.why_not(spectra)
                if reason is not None:
                    failures.append(f"{spectra.title}: not identified, {reason}")
                    failed += len(spectra.names)
                    if rows:
                        unknown = np.full((len(spectra.names), len(identifier.labels)), np.nan)
                        _write(rows, spectra.names, unknown)
                    continue
                answer = _answer(identifier, spectra, lambda n: progress.advance(task, n))
                if answer.axis_note is not None:
                    notes.append(f"{spectra.title}: {answer.axis_note}")
                done += len(spectra.names)
                single = len(spectra.names) == 1
                edges = identifier.edges(spectra)
                about = (identifier.labels, identifier.threshold, answer)
                findings = (
                    findings_of_spectrum(*about, edges)
                    if single
                    else findings_of_image(*about, share, edges)
                )
                proofs.append(Shown(spectra.title, findings.found, edges))
                shown = findings.line
                table.add_row(escape(spectra.title), spectra.pixels, shown, _range(spectra.axis))
                if rows:
                    _write(rows, spectra.names, answer.probability)
                if edge_rows:
                    write_evidence(edge_rows, proofs[-1])
    if done:
        console.print(table)
    if evidence or len(proofs) == 1:
        proven = evidence_table(proofs)
        if proven.row_count:
            console.print()
            console.print(proven)
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    for failure in failures:
        print(f"zeroloss identify: {failure}", file=sys.stderr)
    if csv_path is not None:
        console.print(f"probabilities written to {csv_path}", markup=False, highlight=False)
    if evidence_path is not None:
        console.print(f"evidence written to {evidence_path}", markup=False, highlight=False)
    return 0 if not failed else 1 if done else 2


def _answer(identifier: Identifier, spectra: Spectra, advance: Callable[[int], None]) -> Answer:
    answers: list[Answer] = []
    for first in range(0, len(spectra.names), CHUNK):
        stop = min(first + CHUNK, len(spectra.names))
        answers.append(identifier.run(spectra, first, stop))
        advance(stop - first)
    spreads = [item.spread for item in answers if item.spread is not None]
    errors = [item.axis_error_ev for item in answers if item.axis_error_ev is not None]
    return Answer(
        np.concatenate([item.probability for item in answers]),
        np.concatenate(spreads) if spreads else None,
        {
            name: (np.concatenate([item.doubts[name][0] for item in answers]), limit)
            for name, (_, limit) in answers[0].doubts.items()
        },
        np.concatenate(errors) if errors else None,
    )


def _write(rows: Rows, names: Sequence[str], probability: npt.NDArray[np.floating]) -> None:
    for name, values in zip(names, probability, strict=True):
        rows.writerow([name, *(number(p, 6) for p in values)])


def _range(axis: EnergyAxis) -> str:
    return f"{axis.offset_ev:g} to {axis.end_ev:g} eV"
