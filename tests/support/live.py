"""Real sockets for tests of clients: a small receiver with ledger, map and publisher."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import zmq

from support.published_runs import package
from support.raw_spectra import raw_spectra
from zeroloss.maps import Closing, MapStore
from zeroloss.outputs import Publisher
from zeroloss.scan import Ledger, ScanGeometry
from zeroloss.wire import (
    EnergyRange,
    Heartbeat,
    LedgerTotals,
    OutputInfo,
    PackageInfo,
    Refusal,
    Request,
    RunEnd,
    RunStart,
    ScanPlan,
    Spectra,
    SpectraBlock,
    WireError,
    decode,
)

LABELS = ("C", "N", "O", "Fe")
_ELEMENTS = package(LABELS)
THICKNESS = OutputInfo(name="thickness", kind="scalar", shape=(), unit="t/λ")
PACKAGES = (replace(_ELEMENTS, outputs=(*_ELEMENTS.outputs, THICKNESS)),)
LOW_LOSS = replace(
    _ELEMENTS,
    name="low_loss",
    outputs=(
        OutputInfo(
            name="gap", kind="scalar", shape=(), unit="eV", uncertainty="gap_error", reason="why"
        ),
        OutputInfo(name="gap_error", kind="scalar", shape=(), unit="eV", reason="why"),
        OutputInfo(name="why", kind="label", shape=(), labels=("given", "metal", "vacuum")),
    ),
)


def make_run_start(shape: tuple[int, int], **changes: object) -> RunStart:
    """A run with one energy range `core` of 8 channels over a map of this shape."""
    fields: dict[str, object] = {
        "run": secrets.token_bytes(16),
        "t_ns": time.time_ns(),
        "scan": ScanPlan(shape=shape, step=(0.5, 0.25)),
        "ranges": (EnergyRange(name="core", offset_ev=500.0, scale_ev=1.0, size=8),),
        "expected": shape[0] * shape[1],
        "title": "a test scan",
    }
    return RunStart(**(fields | changes))  # type: ignore[arg-type]


class MappedRun:
    """A published run whose map is written directly: probability k is value + k / 10."""

    def __init__(self, start: RunStart, packages: tuple[PackageInfo, ...] = PACKAGES) -> None:
        self.start = start
        self.packages = packages
        self.store = MapStore(start, packages)
        self.ledger = Ledger()
        self.geometry = ScanGeometry(start.scan)
        self.ended = False
        self.closing: Closing | None = None

    def totals(self) -> LedgerTotals:
        return self.ledger.totals()

    def gaps(self) -> list[tuple[int, int]]:
        return self.ledger.gaps()

    def lag_s(self) -> float:
        return 0.25

    def rate_hz(self) -> float:
        return 1000.0

    def spectra(self, request: Request) -> Spectra | Refusal:
        return raw_spectra(self.start, self.ledger, request)

    def fill(self, begin: int, end: int, value: float) -> None:
        """Spectra [begin, end) are mapped."""
        n = end - begin
        probability = np.full((n, len(LABELS)), value, np.float32)
        probability += np.arange(len(LABELS), dtype=np.float32) / 10
        self.write(
            begin,
            {
                "elements/probability": probability,
                "elements/spread": np.full((n, len(LABELS)), 0.125, np.float32),
                "elements/thickness": np.full(n, value, np.float32),
            },
        )

    def fill_low_loss(self, gaps: Sequence[float], codes: Sequence[int]) -> None:
        """The first spectra are mapped with these gaps and reasons of `LOW_LOSS`."""
        gap = np.array(gaps, np.float32)
        layers = {"gap": gap, "gap_error": gap / 10, "why": np.array(codes, np.float32)}
        self.write(0, {f"low_loss/{name}": values for name, values in layers.items()})

    def write(self, begin: int, layers: dict[str, np.ndarray]) -> None:
        """Spectra from `begin` on arrive and are mapped with these layers."""
        positions = np.arange(begin, begin + len(next(iter(layers.values()))))
        self.ledger.receive(begin, begin + len(positions))
        pixels, passes = self.geometry.pixel_of(positions), self.geometry.pass_of(positions)
        self.store.write(pixels, layers, passes)
        self.ledger.process(positions)

    def close(self) -> None:
        """Nothing more comes."""
        self.ended = True
        self.closing = Closing("success", detected=self.store.detected())


@contextmanager
def publisher(
    maps: str = "tcp://127.0.0.1:*", requests: str = "tcp://127.0.0.1:*"
) -> Iterator[Publisher]:
    """A publisher on random ports, or where an earlier one was; at its end the ports are free."""
    context = zmq.Context()
    publishing = Publisher(
        maps=maps,
        requests=requests,
        software="zeroloss test",
        config_sha256="c" * 64,
        context=context,
    )
    publishing.start()
    try:
        yield publishing
    finally:
        publishing.close()
        context.term()


class Receiver:
    """A PULL socket that accounts for what comes, and answers requests. `kept` are the counts."""

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:*",
        requests: str = "tcp://127.0.0.1:*",
        *,
        run: MappedRun | None = None,
    ) -> None:
        self.run = run
        self.kept: dict[int, np.ndarray] = {}
        self.pixels: dict[int, int] = {}
        self.beats: list[Heartbeat] = []
        self.starts = 0
        self.ends: list[RunEnd] = []
        self.malformed = 0
        self.blocks: list[int] = []
        self._stop = threading.Event()
        # Its own context: once that is terminated, the ports are free again.
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.bind(endpoint)
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._publisher = Publisher(
            maps="tcp://127.0.0.1:*",
            requests=requests,
            software="zeroloss test",
            config_sha256="c" * 64,
            context=self._context,
        )
        self.requests = self._publisher.requests_endpoint
        if run is not None:
            self._publisher.open(run)
        self._publisher.start()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(20):
                continue
            try:
                message = decode(self._socket.recv_multipart())
            except WireError:
                self.malformed += 1
                continue
            if isinstance(message, RunStart):
                self.starts += 1
                if self.run is None:
                    self.run = MappedRun(message)
                    self._publisher.open(self.run)
            elif self.run is None or message.run != self.run.start.run:
                continue
            elif isinstance(message, SpectraBlock):
                self._keep(self.run, message)
            elif isinstance(message, Heartbeat):
                self.beats.append(message)
                self.run.ledger.announce(message.spectra)
            elif isinstance(message, RunEnd):
                self.ends.append(message)
                self.run.ledger.announce(message.spectra)
                self.run.ended = True

    def _keep(self, run: MappedRun, block: SpectraBlock) -> None:
        self.blocks.append(block.n)
        for index in range(block.n):
            position = block.first + index
            self.kept[position] = np.array(next(iter(block.counts.values()))[index])
            if block.pixels is not None:
                self.pixels[position] = int(block.pixels[index])
        # Last, since whoever is told that nothing is missing looks at what was kept.
        run.ledger.receive(block.first, block.first + block.n)

    def close(self) -> None:
        """Gone, as if killed: nothing is said to anybody."""
        self._stop.set()
        self._thread.join()
        self._socket.close(0)
        self._publisher.close()
        self._context.term()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
