"""How soon a subscriber that joins half-way has the whole map.

A publisher in a process of its own holds a map of 80 probabilities and 80 spreads a pixel and goes
on writing it; a subscriber joins over TCP loopback. Printed is the time from opening the
subscriber until it holds every pixel that was on the map when it joined, beside the time of one
plain copy of the same bytes.

    python benchmarks/late_join.py
    python benchmarks/late_join.py --side 64 128 256 512 --repeat 5
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from zeroloss.maps import Closing, MapStore
from zeroloss.outputs import Publisher
from zeroloss.scan import Coverage, Ledger
from zeroloss.wire import EnergyRange, LedgerTotals, OutputInfo, PackageInfo, RunStart, ScanPlan
from zeroloss_clients import LiveMaps

LABELS = tuple(f"E{index}" for index in range(80))
ANY = "tcp://127.0.0.1:0"


@dataclass
class HalfRun:
    """A run whose map is half there."""

    start: RunStart
    packages: tuple[PackageInfo, ...]
    store: MapStore
    ledger: Ledger = field(default_factory=Ledger)
    ended: bool = False
    closing: Closing | None = None

    def totals(self) -> LedgerTotals:
        """The ledger of this moment."""
        return self.ledger.totals()

    def gaps(self) -> list[tuple[int, int]]:
        """Nothing is missing."""
        return []

    def lag_s(self) -> float:
        """Nothing waits."""
        return 0.0

    def rate_hz(self) -> float:
        """Not measured here."""
        return 0.0


def make_run(side: int) -> HalfRun:
    """A map of side x side pixels whose first half is done."""
    outputs = tuple(
        OutputInfo(
            name=name,
            kind="probability" if name == "probability" else "scalar",
            shape=(80,),
            labels=LABELS,
            threshold=0.5 if name == "probability" else None,
        )
        for name in ("probability", "spread")
    )
    package = PackageInfo(
        name="elements",
        version="0",
        sha256="",
        provider="none",
        precision="float32",
        range_name="core_loss",
        outputs=outputs,
    )
    start = RunStart(
        run=secrets.token_bytes(16),
        t_ns=time.time_ns(),
        scan=ScanPlan(shape=(side, side)),
        ranges=(EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=1024),),
    )
    run = HalfRun(start, (package,), MapStore(start, (package,)))
    write(run, 0, side * side // 2)
    return run


def write(run: HalfRun, first: int, n: int) -> None:
    """Put `n` pixels on the map."""
    values = np.random.default_rng(first).random((n, 80), dtype=np.float32)
    pixels = np.arange(first, first + n, dtype=np.uint32)
    layers = {"elements/probability": values, "elements/spread": values}
    run.store.write(pixels, layers, np.zeros(n, np.int64))
    run.ledger.receive(first, first + n)
    run.ledger.process(pixels.astype(np.int64))


def publish(side: int) -> None:
    """The publisher's process: goes on writing 64 pixels every 20 ms until stdin closes."""
    run = make_run(side)
    publisher = Publisher(maps=ANY, requests=ANY, software="benchmark", config_sha256="")
    publisher.start()
    publisher.open(run)
    print(json.dumps([publisher.maps_endpoint, publisher.requests_endpoint]), flush=True)
    os.set_blocking(sys.stdin.fileno(), False)
    first = side * side // 2
    while sys.stdin.buffer.read(1) is None:
        if first + 64 <= side * side:
            write(run, first, 64)
            first += 64
        time.sleep(0.02)
    publisher.close()


def measure(side: int) -> float:
    """Seconds until a late subscriber has the half of the map that was there."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--publish", str(side)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    maps_endpoint, requests_endpoint = json.loads(process.stdout.readline())
    half = side * side // 2
    begin = time.perf_counter()
    with LiveMaps(maps_endpoint, requests_endpoint) as maps:
        run = maps.wait_for_run(60)
        while np.count_nonzero(run["E0"].coverage.ravel()[:half] == Coverage.DONE) < half:
            time.sleep(0.002)
        seconds = time.perf_counter() - begin
    process.communicate(input="")
    return seconds


def copy_seconds(side: int) -> float:
    """Seconds of one copy of as many bytes."""
    block = np.ones(side * side * 160, np.float32)
    begin = time.perf_counter()
    block.copy()
    return time.perf_counter() - begin


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per map size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--publish", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.publish is not None:
        publish(args.publish)
        return
    print("pixels       map MiB   whole map after s (median, worst)   one copy s")
    for side in args.side:
        seconds = [measure(side) for _ in range(args.repeat)]
        print(
            f"{side:4} x {side:<4}  {side * side * 640 / 2**20:8.1f}   "
            f"{np.median(seconds):.3f}, {max(seconds):.3f}"
            f"                      {copy_seconds(side):.3f}"
        )


if __name__ == "__main__":
    main()
