"""Answers that take their time, worked out beside the publisher's thread, which sends them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue, SimpleQueue
from threading import Event, Thread

import zmq

from zeroloss.wire import Refusal, Request, Spectra

from .metrics import Metrics
from .run import PublishedRun

log = logging.getLogger(__name__)

MAX_WAITING = 8
"""Requests that wait for the one being answered; further ones are refused."""


class Answers:
    """One worker thread. All methods are for the publisher's thread, or while it does not run.

    `bell` is a socket that can be read as soon as there is an answer to `take`.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], metrics: Metrics) -> None:
        self._metrics = metrics
        self._asked: Queue[tuple[bytes, PublishedRun, Request] | None] = Queue(MAX_WAITING)
        self._done: SimpleQueue[tuple[bytes, Spectra | Refusal]] = SimpleQueue()
        self._stopping = Event()
        self._thread = Thread(target=self._work, name="zeroloss-answers", daemon=True)
        self.bell = context.socket(zmq.PAIR)
        self._ring = context.socket(zmq.PAIR)
        for socket in (self.bell, self._ring):
            socket.setsockopt(zmq.LINGER, 0)
        address = f"inproc://zeroloss-answers-{id(self)}"
        self.bell.bind(address)
        self._ring.connect(address)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def ask(self, peer: bytes, run: PublishedRun, request: Request) -> bool:
        """Have it answered; False when too many requests wait already."""
        try:
            self._asked.put_nowait((peer, run, request))
        except Full:
            return False
        return True

    def take(self) -> Iterator[tuple[bytes, Spectra | Refusal]]:
        """The answers that are ready, and whom they are for."""
        with suppress(zmq.Again):
            while True:
                self.bell.recv(zmq.NOBLOCK)
        with suppress(Empty):
            while True:
                yield self._done.get_nowait()

    def close(self) -> None:
        """Finish the answer under way and stop; requests that wait get none."""
        self._stopping.set()
        if self._thread.ident is not None:
            with suppress(Empty):
                while True:
                    self._asked.get_nowait()
            self._asked.put(None)
            self._thread.join()
        self.bell.close()
        self._ring.close()

    def _work(self) -> None:
        while (item := self._asked.get()) is not None and not self._stopping.is_set():
            peer, run, request = item
            began = time.monotonic()
            try:
                answer = run.spectra(request)
            except Exception as error:
                log.exception("a request for spectra failed")
                answer = Refusal(
                    ticket=request.ticket,
                    t_ns=time.time_ns(),
                    reason=f"the spectra could not be worked out: {type(error).__name__}",
                    run=run.start.run,
                )
            self._metrics.stage("spectra", time.monotonic() - began)
            self._done.put((peer, answer))
            # A full bell has been rung already.
            with suppress(zmq.Again):
                self._ring.send(b"", zmq.NOBLOCK)
