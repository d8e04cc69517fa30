"""Tries a model package out: does it answer, how fast, and the same in any company."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .answers import stands
from .errors import InferenceError
from .inputs import Floats, LowLoss
from .manifest import Manifest, Output
from .parameters import default_values, trial_selections, trial_values
from .provider import EP_NAMES
from .session import ModelSession, trial_axis, trial_low_loss_axis

COMPANY_TOLERANCE = 1e-3
"""Largest difference that a spectrum's company may make on a GPU, absolute for values up to 1 and
relative above; on a CPU it makes none."""
MOST_ALONE = 11
"""Spectra that are also asked for alone; those of a large bucket are too many, and alike."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a package did on simulated spectra.

    `timings` are seconds of one batch by bucket, `company` the largest difference between a
    spectrum alone and among others, over all outputs.
    """

    timings: dict[int, float]
    company: float


@dataclass(frozen=True, slots=True)
class _Case:
    """Spectra [n, channels] and one way to ask for them; `words` say what is unusual about it."""

    session: ModelSession
    counts: Floats
    axis: tuple[float, float]
    parameters: Mapping[str, float]
    selection: tuple[int, ...]
    low_loss: LowLoss | None
    words: str = ""

    def run(
        self,
        rows: slice = slice(None),
        outputs: Sequence[str] | None = None,
        *,
        own_axes: bool = False,
        whole: bool = False,
    ) -> dict[str, Floats]:
        """The answers for these rows; with `own_axes` every spectrum is given one of its own."""
        counts, (offset, scale), low = self.counts[rows], self.axis, self.low_loss
        if low is not None:
            low = LowLoss(np.asarray(low.counts)[rows], low.offset_ev, low.scale_ev)
        return self.session.run(
            counts,
            np.full(len(counts), offset) if own_axes else offset,
            scale,
            outputs,
            self.parameters,
            selection=self.selection,
            low_loss=low,
            whole=whole,
        )


def try_out(session: ModelSession, channels: int) -> Trial:
    """Warm the session up and compare its answers alone and in company.

    Parameters have their default or the middle of their range; what the package answers where
    nobody tells them is looked at too, and so are several selections, and spectra with a low loss
    beside and without. Raises `InferenceError` when the graph fails, a value is neither finite nor
    missing for a reason, a probability is not between 0 and 1, a label is none of its codes, or the
    company of other spectra, leaving spectra out, or preparing tensors changes an answer.
    """
    manifest = session.package.manifest
    low_loss_channels = channels if manifest.takes.low_loss else None
    session.warm_up(channels, low_loss_channels=low_loss_channels)
    light = [item.name for item in manifest.outputs if item.kind != "spectrum"]
    company = 0.0
    for case in _cases(session, channels):
        together = case.run()
        for output in manifest.outputs:
            _check_answer(output, together, case.words)
        mapped = case.run(outputs=light)
        if not case.words:
            company = max(company, _company(case, together, None), _company(case, mapped, light))
        whole = case.run(outputs=light, whole=True)
        for other in (mapped, case.run(outputs=light, own_axes=True)):
            _compare_ways(manifest, case, whole, other)
    allowed = 0.0 if session.provider == EP_NAMES["cpu"] else COMPANY_TOLERANCE
    if company > allowed:
        raise InferenceError(
            f"the other spectra of a batch change an answer by up to {company:g}, allowed is "
            f"{allowed:g} on {session.provider}"
        )
    return Trial(session.timings, company)


def _cases(session: ModelSession, channels: int) -> Iterator[_Case]:
    """The usual ways to ask a package first, then the others that its manifest allows."""
    manifest = session.package.manifest
    axis = trial_axis(manifest.takes, channels)
    energy = axis[0] + axis[1] * np.arange(channels)
    n = session.smallest_bucket + 1
    counts = _spectra(n, energy, signed=manifest.takes.signed_counts)
    beside = [None, _low_loss(n, channels)] if manifest.takes.low_loss else [None]
    told, untold = trial_values(manifest), default_values(manifest)
    first, *others = trial_selections(manifest)
    for low in beside:
        yield _Case(session, counts, axis, told, first, low)
        if untold != told:
            words = " and parameters that are not known"
            yield _Case(session, counts, axis, untold, first, low, words)
        for selection in others:
            words = f" and the selection {list(selection)}"
            yield _Case(session, counts, axis, told, selection, low, words)


def _company(case: _Case, together: dict[str, Floats], outputs: Sequence[str] | None) -> float:
    """The largest difference between all spectra at once, some alone, and all in reverse."""
    n = len(case.counts)
    rows = np.linspace(0, n - 1, min(n, MOST_ALONE)).astype(int)
    alone = [case.run(slice(row, row + 1), outputs) for row in rows.tolist()]
    turned = case.run(slice(None, None, -1), outputs)
    return max(
        _largest_difference(values, other)
        for name, found in together.items()
        for values, other in (
            (found[rows], np.concatenate([item[name] for item in alone])),
            (found, turned[name][::-1]),
        )
    )


def _compare_ways(
    manifest: Manifest, case: _Case, whole: dict[str, Floats], other: dict[str, Floats]
) -> None:
    cut = max((_largest_difference(values, other[key]) for key, values in whole.items()), default=0)
    # The runtime may fuse other operators in a smaller graph, and then round otherwise.
    if cut > COMPANY_TOLERANCE:
        prepared = ", ".join(manifest.graph.prepared)
        raise InferenceError(
            f"with {prepared} prepared apart{case.words} the graph answers otherwise by up to "
            f"{cut:g}, allowed is {COMPANY_TOLERANCE:g}"
            if prepared
            else f"without its spectra{case.words} the graph answers otherwise by up to {cut:g}, "
            f"allowed is {COMPANY_TOLERANCE:g}"
        )


def _check_answer(output: Output, answers: dict[str, Floats], told: str = "") -> None:
    values = answers[output.name]
    stand = stands(output, answers)
    if not stand.all():
        if output.kind == "label":
            raise InferenceError(
                f"output {output.name}: {values[~stand][0]:g} is no code of its "
                f"{len(output.labels)} labels, expected is an integer from 0 to "
                f"{len(output.labels) - 1}"
            )
        lost = np.count_nonzero(np.isnan(values[~stand]))
        raise InferenceError(
            f"output {output.name}: {lost} of {values.size} values are not finite for plain "
            f"falling spectra{told}{'' if output.reason is None else ' and have no reason'}"
        )
    given = values[np.isfinite(values)]
    if output.kind == "probability" and given.size and (given.min() < 0 or given.max() > 1):
        raise InferenceError(
            f"output {output.name}: probabilities from {given.min():g} to {given.max():g}, "
            "expected 0 to 1"
        )


def _low_loss(n: int, channels: int) -> LowLoss:
    """A zero-loss peak in every second spectrum, and none of the last spectrum."""
    offset, scale = trial_low_loss_axis(channels)
    # Whole counts add up to the same in any order, wherever their rows begin in memory.
    counts = np.round(_spectra(n, offset + scale * np.arange(channels), signed=True))
    counts[-1] = np.nan
    return LowLoss(counts, offset, scale)


def _spectra(n: int, energy: npt.NDArray[np.floating[Any]], *, signed: bool) -> Floats:
    # Poisson noise on power laws from a few to many counts, half of them behind a zero-loss peak
    # where the axis holds one; every fifth misses some channels.
    channels = len(energy)
    rng = np.random.default_rng(1)
    level = 10.0 ** np.linspace(1, 5, n)[:, None]
    clean = level * np.linspace(1.0, 3.0, channels) ** -3
    if energy[0] < 0 < energy[-1]:
        width = 3 * (energy[1] - energy[0])
        clean[1::2] += 100 * level[1::2] * np.exp(-0.5 * (energy / width) ** 2)
    counts = rng.poisson(clean).astype(np.float32)
    if signed:
        # As after the subtraction of a dark frame.
        counts += rng.normal(0.0, 3.0, counts.shape).astype(np.float32)
    counts[::5, channels // 3 : channels // 3 + max(1, channels // 50)] = np.nan
    return counts


def _largest_difference(a: Floats, b: Floats) -> float:
    # What is missing in both is the same.
    difference = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
    scaled = difference / np.maximum(1.0, np.nan_to_num(np.abs(a)))
    return float(np.max(np.nan_to_num(scaled, nan=np.inf), initial=0.0))
