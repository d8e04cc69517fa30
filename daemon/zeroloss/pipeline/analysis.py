"""Which model package looks at which energy range of a run."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeroloss.models import ModelSession
from zeroloss.models.manifest import Manifest, Takes
from zeroloss.models.parameters import settle
from zeroloss.scan import EnergyAxis
from zeroloss.wire import EnergyRange, PackageInfo, RunStart

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Analysis:
    """One model on one energy range, with the values of its parameters, NaN where not known."""

    session: ModelSession
    range: EnergyRange
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """What the model takes and gives."""
        return self.session.package.manifest

    @property
    def info(self) -> PackageInfo:
        """What the published maps say of the model."""
        return self.session.info(self.range.name, self.parameters)

    def run(
        self,
        counts: npt.NDArray[np.float32],
        shift_ev: npt.NDArray[np.floating] | float,
        outputs: Collection[str],
    ) -> dict[str, npt.NDArray[np.float32]]:
        """These outputs of the model for `counts` [n, channels] with invalid channels NaN.

        `shift_ev`, one or [n], is where the zero of the energy axis really is; `InferenceError`
        where the model fails.
        """
        axis = self.range
        offset_ev = axis.offset_ev - shift_ev
        return self.session.run(counts, offset_ev, axis.scale_ev, outputs, self.parameters)


def choose_analyses(
    start: RunStart,
    sessions: Iterable[ModelSession],
    given: Mapping[str, Mapping[str, float]] | None = None,
    named: Collection[str] = (),
) -> list[Analysis]:
    """Every model that takes one of the run's ranges, each on the range that suits it best.

    A model that stands in for better ones is left out where there is one, unless it is `named`.
    `given` are values of parameters by package, for what the run does not tell; a value of the run
    that a model cannot take is logged. Raises `ParameterError` for a given value that a model
    cannot take.
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
            if suitable:
                best = max(suitable, key=lambda item: _rank(item, takes))
                settled = settle(manifest, (given or {}).get(manifest.name, {}), conditions)
                for note in settled.notes:
                    log.warning("run %s: %s", start.run[:4].hex(), note)
                chosen.append(Analysis(session, best, settled.values))
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


def _rank(energy_range: EnergyRange, takes: Takes) -> tuple[bool, float]:
    """Low loss and core loss are often equally wide: the zero-loss peak tells which is meant."""
    axis = EnergyAxis.of_range(energy_range)
    holds_zero_loss = axis.offset_ev <= 0 <= axis.end_ev
    wants_zero_loss = takes.window_ev[0] <= 0 <= takes.window_ev[1]
    return holds_zero_loss == wants_zero_loss, axis.overlap_ev(*takes.window_ev)
