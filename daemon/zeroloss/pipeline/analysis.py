"""Which model package looks at which energy range of a run."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeroloss.models import LowLoss, ModelSession
from zeroloss.models.manifest import Manifest, Output, Takes
from zeroloss.models.parameters import Given, lacks_selection, settle
from zeroloss.scan import EnergyAxis
from zeroloss.wire import EnergyRange, PackageInfo, RunStart

log = logging.getLogger(__name__)


Floats = npt.NDArray[np.float32]
Shift = npt.NDArray[np.floating] | float


@dataclass(frozen=True, slots=True)
class Analysis:
    """One model on one energy range, with the values of its parameters, NaN where not known.

    `selection` are the indices of what was chosen for it, `low_loss` is the range whose spectra it
    is given beside its own.
    """

    session: ModelSession
    range: EnergyRange
    parameters: Mapping[str, float] = field(default_factory=dict)
    selection: tuple[int, ...] = ()
    low_loss: EnergyRange | None = None

    @property
    def manifest(self) -> Manifest:
        """What the model takes and gives."""
        return self.session.package.manifest

    @property
    def info(self) -> PackageInfo:
        """What the published maps say of the model."""
        beside = None if self.low_loss is None else self.low_loss.name
        return self.session.info(self.range.name, self.parameters, self.selection, beside)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the model gives in this run: of what is selected, what was chosen."""
        return self.manifest.chosen_outputs(self.selection)

    @property
    def handed_ranges(self) -> tuple[EnergyRange, ...]:
        """The ranges whose spectra the model is given, its own first."""
        return (self.range,) if self.low_loss is None else (self.range, self.low_loss)

    @property
    def handed_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(item.name for item in self.handed_ranges)

    def run(
        self,
        counts: Floats,
        shift_ev: Shift,
        outputs: Collection[str],
        beside: tuple[Floats, Shift] | None = None,
    ) -> dict[str, Floats]:
        """These outputs of the model for `counts` [n, channels] with invalid channels NaN.

        `shift_ev`, one or [n], is where the zero of the energy axis really is. `beside` are counts
        and shift of the range `low_loss`, if there is one. Raises `InferenceError` where the model
        fails.
        """
        low_loss = None
        if self.low_loss is not None and beside is not None:
            offset_ev = self.low_loss.offset_ev - beside[1]
            low_loss = LowLoss(beside[0], offset_ev, self.low_loss.scale_ev)
        return self.session.run(
            counts,
            self.range.offset_ev - shift_ev,
            self.range.scale_ev,
            outputs,
            self.parameters,
            selection=self.selection,
            low_loss=low_loss,
        )


def choose_analyses(
    start: RunStart,
    sessions: Iterable[ModelSession],
    given: Mapping[str, Given] | None = None,
    named: Collection[str] = (),
) -> list[Analysis]:
    """Every model that takes one of the run's ranges, each on the range that suits it best.

    A model that stands in for better ones is left out where there is one, unless it is `named`; so
    is one with a selection of which nothing was chosen. `given` are values of parameters and
    labels of selections by package, for what the run does not tell; a value of the run that a model
    cannot take is logged. Raises `ParameterError` for a given value that a model cannot take.
    """
    conditions = {
        "beam_kev": start.beam_kev,
        "convergence_mrad": start.convergence_mrad,
        "collection_mrad": start.collection_mrad,
        "dwell_s": start.scan.dwell_s,
    }
    chosen: list[Analysis] = []
    for session in sessions:
        manifest = session.package.manifest
        takes = manifest.takes
        if takes.modality == start.modality:
            suitable = [item for item in start.ranges if _suits(item, takes)]
            said = (given or {}).get(manifest.name, {})
            if suitable and not lacks_selection(manifest, said):
                best = max(suitable, key=lambda item: _rank(item, takes))
                settled = settle(manifest, said, conditions)
                for note in settled.notes:
                    log.warning("run %s: %s", start.run[:4].hex(), note)
                beside = _low_loss(start, best, takes)
                chosen.append(Analysis(session, best, settled.values, settled.selection, beside))
    led = {item.range.name for item in chosen if _leads(item.manifest)}
    return [
        item
        for item in chosen
        if not item.manifest.stands_in or item.manifest.name in named or item.range.name not in led
    ]


def _leads(manifest: Manifest) -> bool:
    return manifest.shifts_axis is not None and not manifest.stands_in


def _suits(energy_range: EnergyRange, takes: Takes) -> bool:
    overlap = EnergyAxis.of_range(energy_range).overlap_ev(*takes.window_ev)
    return (
        energy_range.size <= takes.max_channels
        and takes.takes_scale(energy_range.scale_ev)
        and overlap >= takes.min_overlap_ev
    )


def _low_loss(start: RunStart, own: EnergyRange, takes: Takes) -> EnergyRange | None:
    """The range that holds the zero loss beside a model's own; of several the widest above 0."""
    axes = {
        item.name: EnergyAxis.of_range(item)
        for item in start.ranges
        if takes.low_loss and item is not own and item.size <= takes.max_channels
    }
    ends = {name: axis.end_ev for name, axis in axes.items() if axis.offset_ev <= 0 <= axis.end_ev}
    return start.range(max(ends, key=ends.__getitem__)) if ends else None


def _rank(energy_range: EnergyRange, takes: Takes) -> tuple[bool, float]:
    """Low loss and core loss are often equally wide: the zero-loss peak tells which is meant."""
    axis = EnergyAxis.of_range(energy_range)
    holds_zero_loss = axis.offset_ev <= 0 <= axis.end_ev
    wants_zero_loss = takes.window_ev[0] <= 0 <= takes.window_ev[1]
    return holds_zero_loss == wants_zero_loss, axis.overlap_ev(*takes.window_ev)
