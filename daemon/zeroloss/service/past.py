"""Runs that are over, and what has them go on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeroloss.outputs.metrics import REMEMBERED_RUNS
from zeroloss.pipeline import Run
from zeroloss.wire import RunStart, SpectraBlock
from zeroloss.wire.limits import MAX_GAPS


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that is over; `folder` is where it is recorded.

    It goes on with its own start where it had no end of its own (`given_up`), and with a spectrum
    of its `holes`, int64 [n, 2]: half-open ranges of positions.
    """

    start: RunStart
    folder: Path | None = None
    given_up: bool = False
    holes: npt.NDArray[np.int64] | None = None

    @classmethod
    def closed(cls, run: Run) -> PastRun:
        """A closed run; one that is not recorded whole could only go on as less than it was."""
        return cls(
            run.start,
            run.folder,
            given_up=run.given_up and run.folder is not None,
            holes=_as_array(run.gaps()[:MAX_GAPS]) if run.recording else None,
        )

    def lacks(self, block: SpectraBlock) -> bool:
        """Whether the block fills a hole, or a part of one, and the recording is still there."""
        if self.holes is None or self.folder is None:
            return False
        begins, ends = self.holes.T
        inside = (begins < block.first + block.n) & (ends > block.first)
        return bool(inside.any()) and block.schema == self.start.schema and self.folder.is_dir()


class PastRuns:
    """The newest 1024 of them, by their uid."""

    def __init__(self) -> None:
        self._runs: dict[bytes, PastRun] = {}

    def __contains__(self, run: bytes | None) -> bool:
        return run in self._runs

    def get(self, run: bytes | None) -> PastRun | None:
        """The run of this uid; None where it is not known, or goes on."""
        return None if run is None else self._runs.get(run)

    def add(self, past: PastRun) -> None:
        """Remember one more, and forget the oldest beyond the newest 1024."""
        self._runs.pop(past.start.run, None)
        self._runs[past.start.run] = past
        while len(self._runs) > REMEMBERED_RUNS:
            del self._runs[next(iter(self._runs))]

    def pop(self, run: bytes) -> PastRun | None:
        """The run of this uid, which goes on now."""
        return self._runs.pop(run, None)


def _as_array(ranges: list[tuple[int, int]]) -> npt.NDArray[np.int64]:
    return np.array(ranges, np.int64).reshape(-1, 2)
