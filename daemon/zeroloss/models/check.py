"""Tries a model package out: does it answer, how fast, and the same in any company."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import InferenceError
from .provider import EP_NAMES
from .session import Floats, ModelSession

COMPANY_TOLERANCE = 1e-3
"""Largest difference that a spectrum's company may make on a GPU; on a CPU it makes none."""


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

    Raises `InferenceError` when the graph fails, an answer is not finite, a probability is not
    between 0 and 1, or the company of other spectra changes an answer.
    """
    session.warm_up(channels)
    counts = _spectra(session.smallest_bucket + 1, channels)
    begin, end = session.package.manifest.takes.window_ev
    scale = (end - begin) / channels
    together = session.run(counts, begin, scale)
    for output in session.package.manifest.outputs:
        values = together[output.name]
        if not np.isfinite(values).all():
            raise InferenceError(
                f"output {output.name}: {np.count_nonzero(np.isnan(values))} of {values.size} "
                "values are not finite for plain falling spectra"
            )
        if output.kind == "probability" and (values.min() < 0 or values.max() > 1):
            raise InferenceError(
                f"output {output.name}: probabilities from {values.min():g} to {values.max():g}, "
                "expected 0 to 1"
            )
    alone = [session.run(counts[row : row + 1], begin, scale) for row in range(len(counts))]
    turned = session.run(counts[::-1], begin, scale)
    company = 0.0
    for name, values in together.items():
        single = np.concatenate([answer[name] for answer in alone])
        for other in (single, turned[name][::-1]):
            company = max(company, _largest_difference(values, other))
    allowed = 0.0 if session.provider == EP_NAMES["cpu"] else COMPANY_TOLERANCE
    if company > allowed:
        raise InferenceError(
            f"the other spectra of a batch change an answer by up to {company:g}, allowed is "
            f"{allowed:g} on {session.provider}"
        )
    return Trial(session.timings, company)


def _spectra(n: int, channels: int) -> Floats:
    # Poisson noise on power laws from a few to many counts; every fifth misses some channels.
    rng = np.random.default_rng(1)
    level = 10.0 ** np.linspace(1, 5, n)[:, None]
    counts = rng.poisson(level * np.linspace(1.0, 3.0, channels) ** -3).astype(np.float32)
    counts[::5, channels // 3 : channels // 3 + max(1, channels // 50)] = np.nan
    return counts


def _largest_difference(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(np.max(np.nan_to_num(np.abs(a - b), nan=np.inf), initial=0.0))
