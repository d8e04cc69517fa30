"""Which model package looks at which energy range of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from zeroloss.models import ModelSession
from zeroloss.scan import EnergyAxis
from zeroloss.wire import EnergyRange, OutputInfo, PackageInfo, RunStart, layer_key


@dataclass(frozen=True, slots=True)
class Analysis:
    """One model on one energy range."""

    session: ModelSession
    range: EnergyRange

    @property
    def info(self) -> PackageInfo:
        """What the published maps say of the model."""
        return self.session.info(self.range.name)

    @property
    def layers(self) -> list[tuple[str, OutputInfo]]:
        """The outputs that become map layers, by `layer_key`; whole spectra do not."""
        info = self.info
        return [
            (layer_key(info.name, output.name), output)
            for output in info.outputs
            if output.kind != "spectrum"
        ]


def choose_analyses(start: RunStart, sessions: Iterable[ModelSession]) -> list[Analysis]:
    """Every model that takes one of the run's ranges, each on the range it overlaps most."""
    chosen: list[Analysis] = []
    for session in sessions:
        takes = session.package.manifest.takes
        if takes.modality != start.modality:
            continue
        overlaps = [
            (EnergyAxis.of_range(item).overlap_ev(*takes.window_ev), item)
            for item in start.ranges
            if item.size <= takes.max_channels
        ]
        best = max(overlaps, key=lambda pair: pair[0], default=None)
        if best is not None and best[0] >= takes.min_overlap_ev:
            chosen.append(Analysis(session, best[1]))
    return chosen
