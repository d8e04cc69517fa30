"""A real, small implementation of a published run."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import numpy as np

from support.raw_spectra import raw_spectra
from zeroloss.maps import Closing, MapStore
from zeroloss.scan import Ledger
from zeroloss.wire import (
    EnergyRange,
    LedgerTotals,
    OutputInfo,
    PackageInfo,
    Refusal,
    Request,
    RunStart,
    ScanPlan,
    Spectra,
)

LABELS = ("B", "C", "N", "O")
PROBABILITY = "elements/probability"
SPREAD = "elements/spread"


def package(labels: tuple[str, ...] = LABELS) -> PackageInfo:
    """A package with a probability and its spread per label."""
    return PackageInfo(
        name="elements",
        version="1",
        sha256="0" * 64,
        provider="CPUExecutionProvider",
        precision="float32",
        range_name="core",
        outputs=(
            OutputInfo(
                name="probability",
                kind="probability",
                shape=(len(labels),),
                labels=labels,
                uncertainty="spread",
                threshold=0.5,
            ),
            OutputInfo(name="spread", kind="scalar", shape=(len(labels),), labels=labels),
        ),
    )


def run_start(shape: tuple[int, int]) -> RunStart:
    """A run over a map of this shape."""
    return RunStart(
        run=secrets.token_bytes(16),
        t_ns=1,
        scan=ScanPlan(shape=shape, step=(0.5, 0.25)),
        ranges=(EnergyRange(name="core", offset_ev=100.0, scale_ev=1.0, size=64),),
        expected=shape[0] * shape[1],
        title="a test scan",
    )


@dataclass
class SmallRun:
    """A published run whose map is written directly, without spectra or models."""

    start: RunStart
    packages: tuple[PackageInfo, ...]
    store: MapStore
    ledger: Ledger = field(default_factory=Ledger)
    ended: bool = False
    closing: Closing | None = None

    @classmethod
    def create(cls, shape: tuple[int, int], labels: tuple[str, ...] = LABELS) -> SmallRun:
        """An empty run."""
        start, packages = run_start(shape), (package(labels),)
        return cls(start, packages, MapStore(start, packages))

    def totals(self) -> LedgerTotals:
        return self.ledger.totals()

    def gaps(self) -> list[tuple[int, int]]:
        return self.ledger.gaps()

    def lag_s(self) -> float:
        return 0.0

    def rate_hz(self) -> float:
        return 0.0

    def spectra(self, request: Request) -> Spectra | Refusal:
        return raw_spectra(self.start, self.ledger, request)

    def fill(self, begin: int, end: int, rng: np.random.Generator) -> None:
        """Spectra [begin, end) arrive and are mapped with random values."""
        positions = np.arange(begin, end, dtype=np.int64)
        self.ledger.receive(begin, end)
        self.store.write(
            positions.astype(np.uint32),
            {
                f"elements/{item.name}": rng.random((end - begin, *item.shape), dtype=np.float32)
                for item in self.packages[0].outputs
            },
            np.zeros_like(positions),
        )
        self.ledger.process(positions)

    def close(self) -> None:
        """Nothing more will be written."""
        self.ended = True
        self.closing = Closing("success", detected=self.store.detected())
