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

from .analysis import Analysis, Floats, Shift
from .work import mask_invalid

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.integer]
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


class Handed:
    """n spectra as models are given them: `counts` [n, channels] a range, NaN where not measured.

    Whether a negative count is valid is for each model to say. `spectra` [n] is how many each of a
    range is the sum of, for sums.
    """

    def __init__(self, counts: Counts, spectra: Mapping[str, Numbers] | None = None) -> None:
        self._counts = counts
        self._spectra = spectra
        self._masked: dict[tuple[str, bool], Floats] = {}

    def __len__(self) -> int:
        """Spectra."""
        return len(next(iter(self._counts.values())))

    def own(self, analysis: Analysis) -> Floats:
        """The spectra of the model's own range."""
        return self._of(analysis.range.name, signed=analysis.manifest.takes.signed_counts)

    def low_loss(self, analysis: Analysis) -> Floats:
        """The spectra of the range beside it, NaN where they are the sum of fewer or more.

        What is measured per count of the low loss would be wrong by as much.
        """
        assert analysis.low_loss is not None
        name = analysis.low_loss.name
        low = self._of(name, signed=True)
        if self._spectra is not None:
            unequal = self._spectra[name] != self._spectra[analysis.range.name]
            if unequal.any():
                low = np.where(unequal[:, None], np.float32(np.nan), low)
        return low

    def _of(self, name: str, *, signed: bool) -> Floats:
        if (name, signed) not in self._masked:
            self._masked[name, signed] = mask_invalid(self._counts[name], None, signed=signed)[0]
        return self._masked[name, signed]


class RunModels:
    """The models of one run, independent of each other; used from several threads.

    A model that says where the zero of a pixel's energy axis is (`shifts_axis`) runs first; those
    on other ranges are given the axis moved by it, as far as it is known, and so is every low loss
    that a model is given beside its own range.
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
            item.manifest.name: [o for o in item.outputs if o.kind in STORED_KINDS]
            for item in analyses
        }
        self._lock = Lock()
        self._unanswered: Counter[tuple[str, str]] = Counter()
        self._not_told: Counter[tuple[str, str]] = Counter()

    @property
    def range_names(self) -> frozenset[str]:
        """The energy ranges that a model answers for."""
        return frozenset(item.range.name for item in self._analyses)

    @property
    def handed_names(self) -> frozenset[str]:
        """The energy ranges whose spectra a model is given, be it beside its own."""
        return frozenset(name for item in self._analyses for name in item.handed_names)

    def takes_negative(self, range_name: str) -> bool:
        """Whether negative counts of this range are valid for all models that are given it."""
        takes = [
            item.range.name != range_name or item.manifest.takes.signed_counts
            for item in self._analyses
            if range_name in item.handed_names
        ]
        return bool(takes) and all(takes)

    def shifting_for(self, analysis: Analysis) -> Analysis | None:
        """The model that says where the zero of this one's energy axes is; None for no other."""
        alone = self._shifting is not None and analysis.handed_names == (self._shifting.range.name,)
        return None if alone else self._shifting

    def ask(
        self,
        analysis: Analysis,
        handed: Handed,
        outputs: Sequence[str],
        shift_ev: npt.NDArray[np.floating],
    ) -> dict[str, Floats]:
        """These outputs of a model; `shift_ev` [n] is what moves the axes, 0 where not known.

        Raises `InferenceError` where the model fails.
        """
        # One number for all or one for each: that must be the same for all batches of a run.
        moved: Shift = 0.0 if self._shifting is None else shift_ev
        beside = None if analysis.low_loss is None else (handed.low_loss(analysis), moved)
        if self._shifting is not None and analysis.range.name == self._shifting.range.name:
            # Models there see for themselves where it is.
            moved = 0.0
        return analysis.run(handed.own(analysis), moved, outputs, beside)

    def answer(self, handed: Handed) -> Answers:
        """The answers for n spectra.

        A model that fails, or answers with NaN without a reason, leaves the others alone.
        """
        n = len(handed)
        layers: dict[str, Floats] = {}
        answered = np.zeros(n, np.bool_)
        reasons = np.full(n, NO_VALID_CHANNEL, dtype=object)
        shift_ev = np.zeros(n)
        fault: str | None = None
        for analysis in self._analyses:
            valid = np.asarray(np.isfinite(handed.own(analysis)).any(axis=1))
            outputs = self._stored[analysis.manifest.name]
            try:
                values = self.ask(analysis, handed, [item.name for item in outputs], shift_ev)
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
