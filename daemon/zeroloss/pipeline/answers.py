"""Asks the models of a run: what each answers per spectrum, and why where it does not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from zeroloss.maps import STORED_KINDS
from zeroloss.models.answers import stands
from zeroloss.models.manifest import Output
from zeroloss.wire import layer_key

from .analysis import Analysis
from .work import mask_invalid

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.bool_]
Counts = Mapping[str, npt.NDArray[np.generic]]

NO_VALID_CHANNEL = "no valid channel"
NO_ANSWER = "the model gave no finite answer"


@dataclass(frozen=True, slots=True)
class Answers:
    """Map layers of n spectra, by `layer_key`, NaN where their model gave no answer.

    `answered` [n] are the spectra that at least one model answered for, `refused` the others by
    reason [n]; `fault` is what a model said that failed on all of them.
    """

    layers: dict[str, Floats]
    answered: Rows
    refused: dict[str, Rows]
    fault: str | None


class RunModels:
    """The models of one run, independent of each other; used from several threads.

    A model that says where the zero of a pixel's energy axis is (`shifts_axis`) runs first; those
    on other ranges are given the axis moved by it, as far as it is known.
    """

    def __init__(self, run_name: str, analyses: Sequence[Analysis]) -> None:
        self._run_name = run_name
        shifting = sorted(
            (item for item in analyses if item.manifest.shifts_axis),
            key=lambda item: item.manifest.name,
        )
        self._shifting = shifting[0] if shifting else None
        # The sort keeps the order of the others.
        self._analyses = sorted(analyses, key=lambda item: item is not self._shifting)
        if len(shifting) > 1:
            names = ", ".join(item.manifest.name for item in shifting)
            log.warning(
                "run %s: the models %s all say where the zero of the energy axis is; %s counts",
                run_name,
                names,
                shifting[0].manifest.name,
            )
        self._stored = {
            item.manifest.name: [o for o in item.manifest.outputs if o.kind in STORED_KINDS]
            for item in analyses
        }
        self._lock = Lock()
        self._unanswered: Counter[tuple[str, str]] = Counter()
        self._not_told: Counter[tuple[str, str]] = Counter()

    @property
    def range_names(self) -> frozenset[str]:
        """The energy ranges that a model looks at."""
        return frozenset(item.range.name for item in self._analyses)

    def takes_negative(self, range_name: str) -> bool:
        """Whether negative counts of this range are valid for all models that look at it."""
        takes = [item.manifest.takes for item in self._analyses if item.range.name == range_name]
        return bool(takes) and all(item.signed_counts for item in takes)

    def shifting_for(self, analysis: Analysis) -> Analysis | None:
        """The model that says where the zero of this one's energy axis is; None for no other."""
        if self._shifting is None or analysis.range.name == self._shifting.range.name:
            return None
        return self._shifting

    def answer(self, counts: Counts) -> Answers:
        """The answers for `counts` [n, channels] a range, NaN where missing or saturated.

        A model that fails, or answers with NaN without a reason, leaves the others alone.
        """
        n = len(next(iter(counts.values())))
        layers: dict[str, Floats] = {}
        answered = np.zeros(n, np.bool_)
        reasons = np.full(n, NO_VALID_CHANNEL, dtype=object)
        shift_ev = np.zeros(n)
        fault: str | None = None
        handed: dict[tuple[str, bool], Floats] = {}
        for analysis in self._analyses:
            signed = analysis.manifest.takes.signed_counts
            key = analysis.range.name, signed
            if key not in handed:
                handed[key] = mask_invalid(counts[analysis.range.name], None, signed=signed)[0]
            valid = np.asarray(np.isfinite(handed[key]).any(axis=1))
            outputs = self._stored[analysis.manifest.name]
            try:
                shift = 0.0 if self.shifting_for(analysis) is None else shift_ev
                values = analysis.run(handed[key], shift, [item.name for item in outputs])
                good, why = _standing(valid, outputs, values), NO_ANSWER
            # Whatever one model does must not cost the others.
            except Exception as error:
                values = {o.name: np.empty((n, *o.shape), np.float32) for o in outputs}
                good, why = np.zeros(n, np.bool_), f"model failure: {type(error).__name__}"
                fault = str(error)
                if self._note(analysis, why, valid):
                    log.exception("run %s: the model failed", self._run_name)
            else:
                self._note(analysis, why, valid & ~good)
            self._note(analysis, NO_VALID_CHANNEL, ~valid)
            for output in outputs:
                values[output.name][~good] = np.nan
                layers[layer_key(analysis.manifest.name, output.name)] = values[output.name]
            if analysis is self._shifting:
                shift_ev = np.nan_to_num(values[str(analysis.manifest.shifts_axis)])
            answered |= good
            reasons[valid & ~good] = why
        refused = {why: ~answered & (reasons == why) for why in set(reasons[~answered])}
        return Answers(layers, answered, refused, fault)

    def take_unanswered(self) -> Counter[tuple[str, str]]:
        """Spectra that a model gave no answer for, by package and reason, since the last call."""
        with self._lock:
            taken, self._not_told = self._not_told, Counter()
        return taken

    def _note(self, analysis: Analysis, reason: str, rows: Rows) -> bool:
        """Count the spectra of these rows; True where it is time to say so."""
        count = int(np.count_nonzero(rows))
        key = analysis.manifest.name, reason
        with self._lock:
            before = self._unanswered[key]
            self._unanswered[key] = now = before + count
            if count:
                self._not_told[key] += count
        due = now.bit_length() > before.bit_length()  # the 1st, 2nd, 4th, 8th, ...
        if due:
            log.warning(
                "run %s: no answer of the model %s for %d spectra so far: %s",
                *(self._run_name, key[0], now, reason),
            )
        return due


def _standing(valid: Rows, outputs: Sequence[Output], values: Mapping[str, Floats]) -> Rows:
    good = valid.copy()
    for output in outputs:
        good &= stands(output, values)
    return good
