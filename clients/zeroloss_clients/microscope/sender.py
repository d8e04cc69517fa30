"""Streams the spectra of one run to the daemon, and sends again whatever did not arrive.

A thread of its own owns the sockets: it numbers the messages, repeats the run start for late
listeners, sends a heartbeat also when nothing happens, notices when the daemon comes back, and asks
the daemon which spectra are missing, as specified in docs/protocol.md.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import zmq

from zeroloss.scan import IntervalSet
from zeroloss.wire import (
    ExitStatus,
    Gaps,
    Heartbeat,
    Message,
    Part,
    Refusal,
    RunEnd,
    RunStart,
    SpectraBlock,
    encode,
)

from .._requests import Requester
from ._outlet import Outlet
from .faults import Deliver, FaultPlan, FaultySender, SourceAbortedError
from .readout import MAX_BLOCK, Reread, block_size
from .report import SenderState, SendReport

START_EVERY_S = 2.0
HEARTBEAT_EVERY_S = 0.5
REPAIR_EVERY_S = 5.0
ASK_EVERY_S = 0.2
ASK_REFUSED_S = 0.5
END_EVERY_S = 1.0
IDLE_S = 0.02
FLUSH_S = 5.0
QUEUED_BLOCKS = 8
UNANSWERED_S = 5.0
"""Patience with a receiver that takes spectra and has never answered a question."""
UNKNOWN = "whether every spectrum arrived is not known"
GAVE_UP = "the daemon has not confirmed that it has every spectrum"


class StreamSender:
    """Sends one run over a PUSH or PUB socket; its methods may be called from any thread.

    `start` is the run; `endpoint` the daemon's ingest (connected to, or bound with `bind=True`);
    `requests` its request socket, None to never ask what is missing; `reread` gives spectra again
    for a repair. `on_state(state)` is called from the sender's thread when the state changes.
    """

    def __init__(
        self,
        start: RunStart,
        endpoint: str = "tcp://127.0.0.1:5550",
        *,
        requests: str | None = "tcp://127.0.0.1:5552",
        reread: Reread | None = None,
        pattern: Literal["push", "pub"] = "push",
        bind: bool = False,
        faults: FaultPlan | None = None,
        on_state: Callable[[SenderState], object] | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self.run_start = start
        self._schema = start.schema
        self._reread = reread
        self.on_state = on_state
        spectrum_bytes = sum(item.size * np.dtype(item.dtype).itemsize for item in start.ranges)
        context = context or zmq.Context.instance()
        self._outlet = Outlet(
            context,
            endpoint,
            pattern=pattern,
            bind=bind,
            bytes_each=spectrum_bytes * block_size(start.scan.dwell_s),
        )
        self.endpoint = self._outlet.endpoint
        self._way: Deliver = self._deliver
        if faults is not None and not faults.harmless:
            self._way = FaultySender(self._deliver, faults, self._pause).send
        self._requester = None
        if requests is not None and reread is not None:
            self._requester = Requester(context, requests)
        self._queue: queue.Queue[SpectraBlock | RunEnd] = queue.Queue(QUEUED_BLOCKS)
        self._stop = threading.Event()
        self._over = threading.Event()
        self._state = SenderState.WAITING
        self._offered = 0
        self._seq = self._spectra = self._messages = self._repaired = 0
        self._repairs: list[tuple[int, int]] = []
        self._lost = IntervalSet()
        self._end: RunEnd | None = None
        self._complete: bool | None = None
        self._reason = ""
        self._next_start = self._next_heartbeat = self._next_ask = self._next_end = 0.0
        self._patience_s = 0.0
        self._give_up = self._unanswered = math.inf
        self._fewest_missing = math.inf
        self._improved = False
        self._answers = 0
        self._thread = threading.Thread(target=self._work, name="zeroloss-sender", daemon=True)
        self._thread.start()

    # -- what the acquisition calls -----------------------------------------------------------

    def send(
        self,
        first: int,
        counts: Mapping[str, npt.NDArray[np.generic]],
        pixels: npt.NDArray[np.uint32] | None = None,
    ) -> None:
        """Queue the spectra from position `first` on; waits while eight blocks are queued.

        `counts` holds [n, channels] per energy range and must not change afterwards; `pixels`
        uint32 [n] goes with the scan pattern `list`. Raises `SourceAbortedError` when the sender
        has stopped.
        """
        self._put(self._block(first, counts, pixels))
        self._offered = max(self._offered, first + len(next(iter(counts.values()))))

    def finish(
        self,
        status: ExitStatus = "success",
        reason: str = "",
        *,
        spectra: int = 0,
        patience_s: float = 30.0,
    ) -> SendReport:
        """Send the run end, then repair until the daemon misses nothing; closes the sender.

        `spectra` is the number of spectra of the run where more existed than were sent. Gives up
        when nothing has got better for `patience_s`.
        """
        end = RunEnd(
            run=self.run_start.run,
            seq=1,
            t_ns=time.time_ns(),
            spectra=max(spectra, self._offered),
            status=status,
            reason=reason,
        )
        self._patience_s = patience_s
        self._give_up = time.monotonic() + patience_s
        with contextlib.suppress(SourceAbortedError):
            self._put(end)
            while not self._over.wait(0.1):
                pass
        self.close()
        return self.report

    @property
    def report(self) -> SendReport:
        """What has been sent so far."""
        return SendReport(
            self._spectra,
            self._messages,
            self._repaired,
            len(self._lost),
            self._complete,
            self._reason,
        )

    @property
    def state(self) -> SenderState:
        """What the sender is doing."""
        return self._state

    def close(self) -> None:
        """Stop; without `finish` before it, the run stays without an end. Safe to call twice."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> StreamSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, item: SpectraBlock | RunEnd) -> None:
        while not self._stop.is_set() and not self._over.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
        raise SourceAbortedError(f"the sender has stopped: {self._reason or self._state}")

    def _block(
        self,
        first: int,
        counts: Mapping[str, npt.NDArray[np.generic]],
        pixels: npt.NDArray[np.uint32] | None,
    ) -> SpectraBlock:
        return SpectraBlock(
            run=self.run_start.run,
            seq=1,
            t_ns=time.time_ns(),
            schema=self._schema,
            first=first,
            counts=counts,
            pixels=pixels,
        )

    # -- the sender's thread ------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stop.is_set() and not self._over.is_set():
                self._step()
        except SourceAbortedError as error:
            self._reason = str(error)
            self._show(SenderState.ABORTED)
        except Exception as error:
            self._reason = f"{type(error).__name__}: {error}"
            self._show(SenderState.ABORTED)
            raise
        finally:
            self._over.set()
            self._outlet.close(linger_s=FLUSH_S if self._state is SenderState.DONE else 0.0)
            if self._requester is not None:
                self._requester.close()

    def _step(self) -> None:
        if self._outlet.came_back():
            self._next_start = self._next_heartbeat = 0.0
            if self._spectra:
                self._next_ask = time.monotonic() + ASK_EVERY_S
        now = time.monotonic()
        if now >= self._next_start:
            self._emit(self.run_start)
            self._next_start = time.monotonic() + START_EVERY_S
        if now >= self._next_heartbeat:
            self._emit(
                Heartbeat(
                    run=self.run_start.run,
                    seq=self._seq,
                    t_ns=time.time_ns(),
                    spectra=self._spectra,
                )
            )
            self._next_heartbeat = time.monotonic() + HEARTBEAT_EVERY_S
        self._ask()
        repairing = self._repair()
        if self._end is None:
            with contextlib.suppress(queue.Empty):
                self._take(self._queue.get(timeout=0.0005 if repairing else IDLE_S))
        elif self._requester is None:
            self._settle(None, "")
        elif not repairing and time.monotonic() > self._give_up:
            self._settle(False, GAVE_UP)
        elif not self._answers and self._outlet.connected and now > self._unanswered:
            self._settle(None, f"nobody answers at {self._requester.endpoint}: {UNKNOWN}")
        elif not repairing:
            self._stop.wait(IDLE_S)

    def _take(self, item: SpectraBlock | RunEnd) -> None:
        self._seq += 1
        if isinstance(item, RunEnd):
            self._end = replace(item, seq=self._seq)
            self._emit(self._end)
            self._next_ask = time.monotonic()
            self._next_end = self._next_ask + END_EVERY_S
            self._unanswered = self._next_ask + UNANSWERED_S
        else:
            self._emit(replace(item, seq=self._seq))
            self._spectra = max(self._spectra, item.first + item.n)
        self._give_up = time.monotonic() + self._patience_s if self._patience_s else math.inf

    def _emit(self, message: Message) -> None:
        self._way(encode(message))

    def _deliver(self, parts: Sequence[Part]) -> None:
        """Put the frames on the socket as soon as it takes them; shows why it does not."""
        wait_s = 0.0
        while not self._outlet.ready(wait_s):
            behind = self._outlet.connected
            self._show(SenderState.BEHIND if behind else SenderState.WAITING)
            if time.monotonic() > self._give_up:
                self._settle(False, GAVE_UP)
            if self._stop.is_set() or self._over.is_set():
                return
            wait_s = 0.1
        self._outlet.send(parts)
        self._messages += 1
        if self._state is not SenderState.REPAIRING:
            self._show(SenderState.STREAMING)

    def _ask(self) -> None:
        """Ask what is missing and read the answer; never waits."""
        if self._requester is None:
            return
        reply = self._requester.poll()
        now = time.monotonic()
        self._answers += reply is not None
        if isinstance(reply, Gaps) and reply.run == self.run_start.run:
            self._answered(reply)
        elif isinstance(reply, Refusal):
            # A daemon that does not know the run must hear its start before it can tell.
            self._next_start = self._next_end = 0.0
            self._next_ask = now + ASK_REFUSED_S
        if now >= self._next_ask and not self._repairs and not self._requester.waiting:
            self._next_ask = now + (REPAIR_EVERY_S if self._end is None else ASK_EVERY_S)
            if self._outlet.connected:
                self._requester.ask("gaps", self.run_start.run)

    def _answered(self, reply: Gaps) -> None:
        sent = self._spectra
        self._repairs = [
            piece
            for begin, end in reply.ranges
            if begin < sent
            for piece in self._lost.missing(begin, min(end, sent))
        ]
        if self._end is None:
            return
        now = time.monotonic()
        missing = max(0, sent - reply.announced) + sum(e - b for b, e in self._repairs)
        if missing < self._fewest_missing:
            self._fewest_missing = missing
            self._give_up = now + self._patience_s
            self._improved = True
        unheard = not reply.ended or reply.announced < sent
        if unheard and now >= self._next_end:
            self._next_end = now + END_EVERY_S
            self._emit(self._end)
        if not unheard and not self._repairs and reply.complete:
            self._settle(True, "")

    def _repair(self) -> bool:
        """Send the next block of what is missing; tells whether there was one."""
        if not self._repairs or self._reread is None:
            return False
        self._show(SenderState.REPAIRING)
        begin, end = self._repairs[0]
        stop = min(end, begin + MAX_BLOCK)
        at = begin
        for first, readout in self._reread(begin, stop):
            self._lost.add(at, first)
            at = first + len(readout)
            self._seq += 1
            block = self._block(first, readout.counts, readout.pixels)
            self._emit(replace(block, seq=self._seq))
            self._repaired += len(readout)
        self._lost.add(at, stop)
        self._repairs[:1] = [(stop, end)] if stop < end else []
        if not self._repairs:
            self._next_heartbeat = 0.0
            self._next_ask = time.monotonic() + ASK_EVERY_S
            if self._improved:
                self._give_up = time.monotonic() + self._patience_s
            self._improved = False
            self._show(SenderState.STREAMING)
        return True

    def _pause(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _show(self, state: SenderState) -> None:
        if state is not self._state:
            self._state = state
            if self.on_state is not None:
                self.on_state(state)

    def _settle(self, complete: bool | None, reason: str) -> None:
        self._complete, self._reason = complete, reason
        self._show(SenderState.DONE)
        self._over.set()
