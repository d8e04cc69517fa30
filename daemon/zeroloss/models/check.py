"""Tries a model package out: does it answer, how fast, and the same in any company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .answers import stands
from .errors import InferenceError
from .inputs import Floats
from .manifest import Output, Takes
from .parameters import default_values, trial_values
from .provider import EP_NAMES
from .session import ModelSession, trial_axis

COMPANY_TOLERANCE = 1e-3
"""Largest difference that a spectrum's company may make on a GPU, absolute for values up to 1 and
relative above; on a CPU it makes none."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a package did on simulated spectra.

    `timings` are seconds of one batch by bucket, `company` the largest difference between a
    spectrum alone and among others, over all outputs.
    """

    timings: dict[int, float]
    company: float


def try_out(session: ModelSession, channels: int) -> Trial:
    """Warm the session up and compare its answers alone and in company.

    Parameters have their default or the middle of their range; what the package answers where
    nobody tells them is looked at too. Raises `InferenceError` when the graph fails, a value is
    neither finite nor missing for a reason, a probability is not between 0 and 1, a label is none
    of its codes, or the company of other spectra, or leaving spectra out, changes an answer.
    """
    session.warm_up(channels)
    manifest = session.package.manifest
    offset, scale = trial_axis(manifest.takes, channels)
    energy = offset + scale * np.arange(channels)
    counts = _spectra(session.smallest_bucket + 1, energy, manifest.takes)
    told = trial_values(manifest)

    def run(rows: Floats, outputs: Sequence[str] | None = None) -> dict[str, Floats]:
        return session.run(rows, offset, scale, outputs, told)

    together = run(counts)
    for output in manifest.outputs:
        _check_answer(output, together)
    if default_values(manifest) != told:
        untold = session.run(counts, offset, scale)
        for output in manifest.outputs:
            _check_answer(output, untold, " and parameters that are not known")
    light = [item.name for item in manifest.outputs if item.kind != "spectrum"]
    mapped = run(counts, light)
    alone = [run(counts[row : row + 1]) for row in range(len(counts))]
    turned = run(counts[::-1])
    company = cut = 0.0
    for name, values in together.items():
        single = np.concatenate([answer[name] for answer in alone])
        for other in (single, turned[name][::-1]):
            company = max(company, _largest_difference(values, other))
        if name in mapped:
            cut = max(cut, _largest_difference(values, mapped[name]))
    allowed = 0.0 if session.provider == EP_NAMES["cpu"] else COMPANY_TOLERANCE
    if company > allowed:
        raise InferenceError(
            f"the other spectra of a batch change an answer by up to {company:g}, allowed is "
            f"{allowed:g} on {session.provider}"
        )
    # The runtime may fuse other operators in the smaller graph, and then round otherwise.
    if cut > COMPANY_TOLERANCE:
        raise InferenceError(
            f"without its spectra the graph answers otherwise by up to {cut:g}, allowed is "
            f"{COMPANY_TOLERANCE:g}"
        )
    return Trial(session.timings, company)


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


def _spectra(n: int, energy: npt.NDArray[np.floating[Any]], takes: Takes) -> Floats:
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
    if takes.signed_counts:
        # As after the subtraction of a dark frame.
        counts += rng.normal(0.0, 3.0, counts.shape).astype(np.float32)
    counts[::5, channels // 3 : channels // 3 + max(1, channels // 50)] = np.nan
    return counts


def _largest_difference(a: Floats, b: Floats) -> float:
    # What is missing in both is the same.
    difference = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
    scaled = difference / np.maximum(1.0, np.nan_to_num(np.abs(a)))
    return float(np.max(np.nan_to_num(scaled, nan=np.inf), initial=0.0))
