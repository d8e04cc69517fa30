"""One run inside the daemon: what came, what is on the map, when it is finished."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from zeroloss.maps import DEFAULT_MAX_BYTES, Closing, MapStore
from zeroloss.recording import BlockIndex, Location, Recorder
from zeroloss.scan import Coverage, EnergyAxis, IntervalSet, Ledger, ScanGeometry, runs_of
from zeroloss.wire import (
    ExitStatus,
    Heartbeat,
    LedgerTotals,
    Refusal,
    Request,
    RunEnd,
    RunStart,
    Spectra,
    SpectraBlock,
)

from .analysis import Analysis
from .answers import NO_VALID_CHANNEL, Handed, RunModels
from .passes import PassSums
from .spectra import answer_spectra
from .work import Work, mask_invalid

RATE_WINDOW_S = 2.0


class Run:
    """The state of one run; receives blocks, hands out work, takes results.

    Receiving happens on one thread, processing on others.
    """

    def __init__(
        self,
        start: RunStart,
        analyses: Sequence[Analysis],
        *,
        sum_passes_bytes: int,
        map_bytes: int = DEFAULT_MAX_BYTES,
        unmapped: str = "no model takes this energy range",
    ) -> None:
        """`unmapped` is why spectra are rejected where there are no `analyses`."""
        for item in start.ranges:
            EnergyAxis.of_range(item)
        self.start = start
        self.analyses = tuple(analyses)
        self.packages = tuple(analysis.info for analysis in analyses)
        self.models = RunModels(self.name, self.analyses)
        self._schema = start.schema  # asked for at every block
        self.recorder: Recorder | None = None
        self.recording = False
        """Whether every spectrum is in the recording, to be read again when there is time."""
        self.folder: Path | None = None
        """Where spectra of this run are recorded, also if the recording has stopped."""
        self.index = BlockIndex()
        """Where the spectra of a run with a folder are in its recording."""
        self._unmapped = unmapped
        self.malformed: Counter[str] = Counter()
        self.foreign = 0
        self.geometry = ScanGeometry(start.scan)
        self.ledger = Ledger()
        self.store = MapStore(start, self.packages, max_bytes=map_bytes)
        self.deferred = IntervalSet()
        """Positions that wait in the recording only; guarded by `lock`."""
        self.lock = Lock()
        self.sums: PassSums | None = None
        revisits = start.scan.passes != 1 or start.scan.pattern == "list"
        if revisits and PassSums.nbytes(self.geometry.pixels, start.ranges) <= sum_passes_bytes:
            self.sums = PassSums(self.geometry.pixels, start.ranges)
        self.newest_pass_only = revisits and self.sums is None
        self.silent_s = 0.0
        """Seconds for which the daemon has listened and heard nothing of this run."""
        self.unchanged_s = 0.0
        """Seconds for which it has listened and nothing new came, be it alive or not."""
        self._given_up = False
        self._end: RunEnd | None = None
        self._closing: Closing | None = None
        self._seen_ns: deque[tuple[float, int]] = deque()
        self._lag_s = 0.0

    @property
    def name(self) -> str:
        """The first eight hex digits of the run's uid, for log lines."""
        return self.start.run[:4].hex()

    # What the publisher asks.

    def totals(self) -> LedgerTotals:
        """The ledger of this moment."""
        totals = self.ledger.totals()
        return replace(totals, foreign=self.foreign, malformed=dict(self.malformed))

    def gaps(self) -> list[tuple[int, int]]:
        """Announced spectra that never came, as half-open ranges of positions."""
        return self.ledger.gaps()

    def lag_s(self) -> float:
        """Age of the newest mapped spectra since they were received."""
        return self._lag_s

    def spectra(self, request: Request) -> Spectra | Refusal:
        """The answer to a request of the operation `spectrum`; reads the recording."""
        return answer_spectra(self, request)

    def rate_hz(self) -> float:
        """Spectra mapped per second over the last two seconds."""
        with self.lock:
            self._forget_old(time.monotonic())
            return sum(count for _, count in self._seen_ns) / RATE_WINDOW_S

    @property
    def ended(self) -> bool:
        """Whether the source's run end is known."""
        return self._end is not None

    @property
    def end(self) -> RunEnd | None:
        """The source's run end, or the daemon's in its place."""
        return self._end

    @property
    def closing(self) -> Closing | None:
        """Set once the map is finished."""
        return self._closing

    # Receiving.

    def receive(
        self, block: SpectraBlock, received_ns: int, location: Location | None = None
    ) -> list[Work]:
        """Account for a block; returns the work in it. What cannot be used is rejected, counted.

        `location` is where the block was recorded, None where it could not be.
        """
        self.heard()
        begin, end = block.first, block.first + block.n
        fault = self._fault_of(block)
        beyond = self._beyond(end)
        new = self.ledger.receive(begin, end)
        if new:
            self.unchanged_s = 0.0
        works: list[Work] = []
        for first, stop in new:
            positions = np.arange(first, stop, dtype=np.int64)
            if fault is not None:
                self.ledger.reject(first, stop, fault)
                self._mark(positions, Coverage.REJECTED, beyond)
                continue
            if beyond is not None and stop > beyond:
                self.ledger.reject(max(first, beyond), stop, "beyond the announced scan")
                positions = positions[positions < beyond]
                if len(positions) == 0:
                    continue
            part = slice(int(positions[0]) - begin, int(positions[-1]) + 1 - begin)
            pixels = self._pixels(block, positions)
            counts = {item.name: block.counts[item.name][part] for item in self.start.ranges}
            self.store.mark(pixels, Coverage.PENDING)
            if self.sums is None:
                works.append(Work(self, positions, pixels, counts, received_ns))
            else:
                works.extend(self._summed(self.sums, positions, pixels, counts, received_ns))
        if self.folder is not None:
            for work in works:
                self._index(block, work, location)
        return works

    def take_deferred(self, block: SpectraBlock, received_ns: int) -> list[Work]:
        """The deferred part of a block that was read back from the recording."""
        if self._fault_of(block) is not None:
            return []
        with self.lock:
            inside = self.deferred.remove(block.first, block.first + block.n)
        works: list[Work] = []
        for first, stop in inside:
            positions = np.arange(first, stop, dtype=np.int64)
            part = slice(first - block.first, stop - block.first)
            counts = (
                {item.name: block.counts[item.name][part] for item in self.start.ranges}
                if self.sums is None
                else {}
            )
            works.append(Work(self, positions, self._pixels(block, positions), counts, received_ns))
        return works

    def give_up_deferred(self, ranges: Sequence[tuple[int, int]], reason: str) -> None:
        """Reject what is still deferred of these half-open ranges of positions."""
        with self.lock:
            stuck = [part for begin, end in ranges for part in self.deferred.remove(begin, end)]
        for begin, end in stuck:
            self.ledger.reject(begin, end, reason)
            if self.geometry.per_pass is not None:
                self.store.mark(self.geometry.pixel_of(np.arange(begin, end)), Coverage.REJECTED)

    def defer(self, work: Work) -> None:
        """Leave this work to the recording; it stays pending and is caught up later."""
        with self.lock:
            self.deferred.add(int(work.positions[0]), int(work.positions[-1]) + 1)

    def heartbeat(self, beat: Heartbeat) -> None:
        """The source lives and has sent so many spectra."""
        self.heard()
        self.ledger.announce(beat.spectra)

    def finish(self, end: RunEnd) -> None:
        """The source is done; a repeated end changes nothing."""
        self.heard()
        self.ledger.announce(end.spectra)
        if self._end is None:
            self.unchanged_s = 0.0
            self._end = end

    def heard(self) -> None:
        """A message of the source came: it lives, and a run that was given up goes on."""
        self.silent_s = 0.0
        if self._given_up:
            self._given_up, self._end = False, None

    def listened(self, seconds: float) -> None:
        """The daemon has listened for so long; what it heard is told apart."""
        self.silent_s += seconds
        self.unchanged_s += seconds

    @property
    def given_up(self) -> bool:
        """Whether the daemon has ended the run, not its source."""
        return self._given_up

    def give_up(self, status: ExitStatus, reason: str) -> None:
        """End the run in the source's place, until the source is heard again."""
        if self._end is None:
            self._given_up = True
            totals = self.ledger.totals()
            self._end = RunEnd(
                run=self.start.run,
                seq=1,
                t_ns=time.time_ns(),
                spectra=totals.announced,
                status=status,
                reason=reason,
            )

    # Processing.

    def process(self, works: Sequence[Work]) -> str | None:
        """Run the models over these spectra and put the results on the map.

        Returns what a model said that failed, None where none did.
        """
        positions = np.concatenate([work.positions for work in works])
        pixels = np.concatenate([work.pixels for work in works])
        if not self.analyses:
            self._reject(positions, pixels, self._unmapped)
            return None
        if self.sums is not None:
            sums, passes, spectra = self.sums.fetch(pixels)
            handed = Handed(sums, spectra)
        else:
            counts = {
                name: self._valid(name, np.concatenate([work.counts[name] for work in works]))
                for name in self.models.handed_names
            }
            handed = Handed(counts)
            passes = self.geometry.pass_of(positions)
        answers = self.models.answer(handed)
        for reason, rows in answers.refused.items():
            self._reject(positions[rows], pixels[rows], reason)
        good = answers.answered
        self.store.write(
            pixels[good], {key: array[good] for key, array in answers.layers.items()}, passes[good]
        )
        self.ledger.process(np.sort(positions[good]))
        self._note_progress(len(positions), works[-1].received_ns)
        return answers.fault

    def refuse(self, works: Sequence[Work], reason: str) -> None:
        """Give these spectra up for a reason that the ledger keeps."""
        for work in works:
            self._reject(work.positions, work.pixels, reason)

    # Closing.

    def settled(self, repair_s: float, idle_s: float) -> bool:
        """Whether nothing more can be expected: ended, nothing pending, no hole that may fill.

        Holes may fill until the source is silent for `repair_s`, or lives on without sending
        anything new for `idle_s`.
        """
        if self._end is None:
            return False
        totals = self.ledger.totals()
        if totals.pending:
            return False
        return totals.missed == 0 or self.silent_s >= repair_s or self.unchanged_s >= idle_s

    def mark_lost(self) -> None:
        """Show every announced spectrum that never came as lost on the map."""
        # Of a listed scan nobody knows where a spectrum was that did not come or is unreadable.
        waiting = np.flatnonzero(self.store.coverage().ravel() == Coverage.PENDING)
        self.store.mark(waiting.astype(np.uint32), Coverage.REJECTED)
        if self.geometry.per_pass is None:
            return
        for begin, end in self.ledger.gaps():
            last = min(end, begin + self.geometry.per_pass)
            beyond = self._beyond(last)
            if beyond is not None:
                last = beyond
            if begin < last:
                self.store.mark(self.geometry.pixel_of(np.arange(begin, last)), Coverage.LOST)

    def close(self, closing: Closing) -> None:
        """The map is finished and written; what only growing it needed is let go."""
        self._closing = closing
        self.sums = None

    # Inside.

    def _fault_of(self, block: SpectraBlock) -> str | None:
        if block.schema != self._schema:
            return "another schema than the run start"
        for item in self.start.ranges:
            array = block.counts.get(item.name)
            if array is None:
                return f"energy range {item.name} is missing"
            if array.shape[1] != item.size or array.dtype.name != item.dtype:
                return f"energy range {item.name} of another size or dtype than announced"
        if self.geometry.per_pass is None:
            if block.pixels is None:
                return "a listed scan without its pixels"
            if int(block.pixels.max()) >= self.geometry.pixels:
                return "a pixel outside the map"
        return None

    def _beyond(self, end: int) -> int | None:
        known = [count for count in (self.start.expected, self.geometry.expected) if count]
        return min(known) if known and end > min(known) else None

    def _summed(
        self,
        sums: PassSums,
        positions: npt.NDArray[np.int64],
        pixels: npt.NDArray[np.uint32],
        counts: Mapping[str, npt.NDArray[np.generic]],
        received_ns: int,
    ) -> list[Work]:
        """Add spectra to the sums; one that no model can look at is rejected."""
        valid = {name: self._valid(name, array) for name, array in counts.items()}
        looked_at = [np.isfinite(valid[name]).any(axis=1) for name in self.models.range_names]
        usable = np.any(looked_at, axis=0) if looked_at else np.ones(len(positions), np.bool_)
        sums.add(pixels[usable], {name: array[usable] for name, array in valid.items()})
        if not usable.all():
            self._reject(positions[~usable], pixels[~usable], NO_VALID_CHANNEL)
        works = []
        for first, stop in runs_of(positions[usable]):
            part = slice(first - int(positions[0]), stop - int(positions[0]))
            works.append(Work(self, positions[part], pixels[part], {}, received_ns))
        return works

    def _index(self, block: SpectraBlock, work: Work, location: Location | None) -> None:
        self.index.add(
            int(work.positions[0]),
            int(work.positions[-1]) + 1,
            first=block.first,
            location=location,
            pixels=work.pixels if self.geometry.per_pass is None else None,
        )

    def _pixels(
        self, block: SpectraBlock, positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint32]:
        if self.geometry.per_pass is not None:
            return self.geometry.pixel_of(positions)
        assert block.pixels is not None
        return block.pixels[positions - block.first].copy()

    def _mark(self, positions: npt.NDArray[np.int64], state: Coverage, beyond: int | None) -> None:
        if self.geometry.per_pass is not None:
            inside = positions if beyond is None else positions[positions < beyond]
            self.store.mark(self.geometry.pixel_of(inside), state)

    def _valid(self, name: str, counts: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Counts [n, channels] with NaN where missing or saturated; negative ones stay.

        Whether a negative count is valid is for each model to say.
        """
        spectra, masked = mask_invalid(counts, self.start.range(name).saturation, signed=True)
        if not self.models.takes_negative(name):
            masked += int(np.count_nonzero(spectra < 0))
        if masked:
            self.ledger.mask_channels(masked)
        return spectra

    def _reject(
        self, positions: npt.NDArray[np.int64], pixels: npt.NDArray[np.uint32], reason: str
    ) -> None:
        for begin, end in runs_of(np.sort(positions)):
            self.ledger.reject(begin, end, reason)
        self.store.mark(pixels, Coverage.REJECTED)

    def _note_progress(self, count: int, received_ns: int) -> None:
        now = time.monotonic()
        with self.lock:
            self._seen_ns.append((now, count))
            self._forget_old(now)
            self._lag_s = max(0.0, (time.time_ns() - received_ns) * 1e-9)

    def _forget_old(self, now: float) -> None:
        while self._seen_ns and now - self._seen_ns[0][0] > RATE_WINDOW_S:
            self._seen_ns.popleft()
