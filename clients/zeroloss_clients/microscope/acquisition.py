"""A timed acquisition of a simulated specimen: the beam's path, fresh Poisson noise, one run.

Every spectrum is drawn from the run's seed and its own position, so the source can give any of
them again without keeping them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt

from zeroloss.scan import ScanGeometry
from zeroloss.wire import RUN_BYTES, EnergyRange, Pattern, RunStart, ScanPlan

from .readout import Readout, Timed, block_size
from .specimen import Specimen, SpecimenError

CHUNK = 64
"""Spectra drawn from one random generator."""


class Acquisition:
    """One run over a specimen.

    `shape` is the map (default: the specimen's own), `region` a sub-scan (row, column, rows,
    columns), `passes` None an endless run. Pattern `list` visits every pixel once a pass in random
    order. `dwell_s` sets the pace and the counts; `paced=False` keeps the counts and sends as fast
    as possible. `seed` None draws new noise. Raises `SpecimenError` for what cannot be scanned.
    """

    def __init__(
        self,
        specimen: Specimen,
        *,
        shape: tuple[int, int] | None = None,
        region: tuple[int, int, int, int] | None = None,
        pattern: Pattern = "raster",
        passes: int | None = 1,
        dwell_s: float | None = None,
        paced: bool = True,
        ranges: Sequence[str] | None = None,
        seed: int | None = None,
        run: bytes | None = None,
    ) -> None:
        self.specimen = specimen if shape is None else specimen.resampled(shape)
        self.dwell_s = dwell_s or specimen.dwell_s
        self.paced = paced
        self.seed = secrets.randbits(63) if seed is None else seed
        names = tuple(ranges or specimen.ranges)
        unknown = [name for name in names if name not in specimen.ranges]
        if unknown:
            raise SpecimenError(
                f"the specimen has no energy range {unknown[0]!r}; it has "
                + ", ".join(specimen.ranges)
            )
        plan = ScanPlan(
            shape=self.specimen.shape,
            pattern=pattern,
            region=region,
            passes=passes,
            dwell_s=self.dwell_s,
            step=self.specimen.step,
            step_unit=specimen.step_unit,
        )
        self._pixels = self._path(plan)
        self.total = None if passes is None else passes * len(self._pixels)
        self.start = RunStart(
            run=run or secrets.token_bytes(RUN_BYTES),
            t_ns=time.time_ns(),
            scan=plan,
            ranges=tuple(
                EnergyRange(
                    name=name,
                    offset_ev=specimen.ranges[name].axis.offset_ev,
                    scale_ev=specimen.ranges[name].axis.scale_ev,
                    size=specimen.ranges[name].axis.size,
                )
                for name in names
            ),
            expected=self.total,
            beam_kev=specimen.beam_kev,
            convergence_mrad=specimen.convergence_mrad,
            collection_mrad=specimen.collection_mrad,
            title=specimen.title,
            metadata={"source": "simulated microscope"},
        )

    def _path(self, plan: ScanPlan) -> npt.NDArray[np.uint32]:
        """Flat pixels of one pass in the order of the beam."""
        y0, x0, rows, columns = plan.region or (0, 0, *plan.shape)
        inside = y0 + rows <= plan.shape[0] and x0 + columns <= plan.shape[1]
        if min(y0, x0) < 0 or min(rows, columns) < 1 or not inside:
            raise SpecimenError(
                f"a sub-scan of {rows} x {columns} pixels at ({y0}, {x0}) does not fit into the "
                f"{plan.shape[0]} x {plan.shape[1]} map"
            )
        if plan.pattern == "list":
            pixels = np.arange(plan.shape[0] * plan.shape[1], dtype=np.uint32).reshape(plan.shape)
            part = pixels[y0 : y0 + rows, x0 : x0 + columns].ravel()
            return np.random.default_rng(self.seed).permutation(part)
        return ScanGeometry(plan).pixel_of(np.arange(rows * columns))

    def read(self, begin: int, end: int) -> Iterator[tuple[int, Readout]]:
        """The spectra at positions [begin, end), the same each time, in pieces."""
        at = begin
        while at < end:
            chunk = at // CHUNK
            stop = min(end, (chunk + 1) * CHUNK)
            yield at, self._chunk(chunk).part(at - chunk * CHUNK, stop - chunk * CHUNK)
            at = stop

    def _chunk(self, chunk: int) -> Readout:
        rng = np.random.default_rng([self.seed, chunk])
        positions = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
        pixels = self._pixels[positions % len(self._pixels)]
        counts = {
            item.name: rng.poisson(
                self.specimen.mean_counts(item.name, pixels, self.dwell_s)
            ).astype(np.uint32)
            for item in self.start.ranges
        }
        return Readout(counts, pixels if self.start.scan.pattern == "list" else None)

    def __iter__(self) -> Iterator[Timed]:
        """The run's readouts in blocks of up to 256 spectra or 5 ms."""
        block = min(CHUNK, block_size(self.dwell_s if self.paced else None))
        spare: tuple[int, Readout] = (-1, self._chunk(0).part(0, 0))
        for first in count(0, block):
            if self.total is not None and first >= self.total:
                return
            end = first + block if self.total is None else min(first + block, self.total)
            at = first
            while at < end:
                chunk = at // CHUNK
                if spare[0] != chunk:
                    spare = (chunk, self._chunk(chunk))
                stop = min(end, (chunk + 1) * CHUNK)
                part = spare[1].part(at - chunk * CHUNK, stop - chunk * CHUNK)
                yield Timed(at, part, stop * self.dwell_s if self.paced else 0.0)
                at = stop
