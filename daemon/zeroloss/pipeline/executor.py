"""Worker threads that take batches from the queue and put results on the maps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread

from .batcher import Batcher
from .work import Work

log = logging.getLogger(__name__)

MAX_BATCH = 4096
WAIT_S = 0.1


class LocalExecutor:
    """`workers` threads of this process, all on the same model sessions.

    ONNX Runtime releases the interpreter while it computes. Batches may finish out of order; maps
    do not care. `observe` is told the size of each batch and the seconds it took.
    """

    def __init__(
        self,
        batcher: Batcher,
        *,
        workers: int,
        latency_s: float,
        observe: Callable[[Sequence[Work], float], None],
    ) -> None:
        self._batcher = batcher
        self._latency_s = latency_s
        self._observe = observe
        self._stop = Event()
        self._threads = [
            Thread(target=self._loop, name=f"worker-{index}", daemon=True)
            for index in range(workers)
        ]
        self.failures = 0
        self.fault: str | None = None
        """Why a model failed on the last batch; None after one that went well."""

    def start(self) -> None:
        """Start the workers."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Finish the batches under way and stop."""
        self._stop.set()
        self._batcher.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def limit(self, work: Work) -> int:
        """Most spectra of one batch such that the models answer within the latency budget."""
        per_spectrum = sum(analysis.session.seconds_per_spectrum for analysis in work.run.analyses)
        if per_spectrum <= 0:
            return MAX_BATCH
        bucket = max(analysis.session.smallest_bucket for analysis in work.run.analyses)
        return int(min(MAX_BATCH, max(bucket, self._latency_s / per_spectrum)))

    def _loop(self) -> None:
        while not self._stop.is_set():
            batch = self._batcher.take(self.limit, WAIT_S)
            if not batch:
                continue
            begin = time.perf_counter()
            try:
                self.fault = batch[0].run.process(batch)
                self.failures += self.fault is not None
            except Exception as error:
                self.failures += 1
                self.fault = str(error)
                if self.failures & (self.failures - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                    log.exception("a batch of %d spectra failed", sum(map(len, batch)))
                batch[0].run.refuse(batch, f"model failure: {type(error).__name__}")
            self._observe(batch, time.perf_counter() - begin)
