"""How fast spectra get through the daemon, and how late their maps are.

Three measurements in one run, each in separate processes over TCP loopback:

1. wire: PUSH to PULL of the same messages, nothing decoded (the ceiling of this machine);
2. intake: decode, check, account and record, without any model (a run that no model takes);
3. maps: the embedded models on every spectrum, as fast as they go, and at a paced rate with the
   latency from sending a spectrum to having its pixel in a subscriber.

    python benchmarks/live_stream.py
    python benchmarks/live_stream.py --channels 3072 --spectra 4000 --paced 100
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import zmq

from zeroloss.wire import (
    EnergyRange,
    MapClose,
    MapUpdate,
    Part,
    RunEnd,
    RunStart,
    ScanPlan,
    SpectraBlock,
    decode,
    encode,
)

ANY = "tcp://127.0.0.1:0"


def make_run(
    spectra: int, channels: int, block: int, modality: str
) -> tuple[RunStart, list[list[Part]]]:
    """A run start and the encoded messages of a run of `spectra` noisy falling spectra."""
    side = int(np.ceil(np.sqrt(spectra)))
    start = RunStart(
        run=os.urandom(16),
        t_ns=time.time_ns(),
        scan=ScanPlan(shape=(side, side)),
        ranges=(
            EnergyRange(
                name="core_loss", offset_ev=200.0, scale_ev=0.5, size=channels, dtype="uint16"
            ),
        ),
        modality="edx" if modality == "edx" else "eels",
    )
    energy = 200 + 0.5 * np.arange(channels)
    clean = 2000 * (energy / 200) ** -3
    noisy = np.random.default_rng(0).poisson(clean, (block, channels)).astype(np.uint16)
    messages = [encode(start)]
    for seq, first in enumerate(range(0, spectra, block), 1):
        n = min(block, spectra - first)
        messages.append(
            encode(
                SpectraBlock(
                    run=start.run,
                    seq=seq,
                    t_ns=time.time_ns(),
                    schema=start.schema,
                    first=first,
                    counts={"core_loss": noisy[:n]},
                )
            )
        )
    end = RunEnd(run=start.run, seq=len(messages), t_ns=time.time_ns(), spectra=spectra)
    return start, [*messages, encode(end)]


def drain(endpoint: str, count: int, ready: object, done: object) -> None:
    """Receive `count` messages and do nothing with them (a process of its own)."""
    socket = zmq.Context().socket(zmq.PULL)
    socket.connect(endpoint)
    ready.set()  # type: ignore[attr-defined]
    for _ in range(count):
        socket.recv_multipart(copy=False)
    done.set()  # type: ignore[attr-defined]


def measure_wire(messages: Sequence[Sequence[Part]], spectra: int) -> float:
    """Spectra per second through bare sockets."""
    socket = zmq.Context.instance().socket(zmq.PUSH)
    socket.bind(ANY)
    ready, done = multiprocessing.Event(), multiprocessing.Event()
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    process = multiprocessing.Process(target=drain, args=(endpoint, len(messages), ready, done))
    process.start()
    ready.wait()
    begin = time.perf_counter()
    for parts in messages:
        socket.send_multipart(parts, copy=False)
    done.wait()
    seconds = time.perf_counter() - begin
    process.join()
    socket.close()
    return spectra / seconds


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[dict[str, str]]:
    """A daemon process with random ports; gives its endpoints."""
    command = [sys.executable, "-m", "zeroloss.cli", "serve", "--announce", "--recordings"]
    ports = ["--source", ANY, "--maps", ANY, "--requests", ANY, "--http", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, str(folder), *ports, "--log-level", "error", *flags],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


def push_socket(endpoint: str) -> zmq.Socket[bytes]:
    """A PUSH socket into the daemon."""
    socket = zmq.Context.instance().socket(zmq.PUSH)
    socket.connect(endpoint)
    return socket


def subscribe(endpoint: str, http: str) -> zmq.Socket[bytes]:
    """A subscriber that surely hears everything from now on."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.subscribe(b"")
    socket.connect(endpoint)
    while not socket.poll(50):  # the daemon's heartbeat
        urlopen(f"http://{http}/health", timeout=5).close()
    return socket


def wait_close(socket: zmq.Socket[bytes]) -> MapClose:
    """The end of the run's map."""
    while True:
        message = decode(socket.recv_multipart())
        if isinstance(message, MapClose):
            return message


def measure_run(
    folder: Path, messages: Sequence[Sequence[Part]], spectra: int, *flags: str
) -> tuple[float, MapClose]:
    """Spectra per second from the first message sent to the map closed."""
    with serving(folder, *flags) as endpoints:
        maps = subscribe(endpoints["maps"], endpoints["http"])
        push = push_socket(endpoints["source"])
        begin = time.perf_counter()
        for parts in messages:
            push.send_multipart(parts, copy=False)
        close = wait_close(maps)
        seconds = time.perf_counter() - begin
        push.close()
        maps.close()
    return spectra / seconds, close


def measure_latency(
    folder: Path, messages: Sequence[Sequence[Part]], block: int, rate_hz: float
) -> np.ndarray:
    """Seconds from sending each spectrum to its pixel at a subscriber, [n], at a paced rate."""
    sent: dict[int, float] = {}
    seen: dict[int, float] = {}
    with serving(folder) as endpoints:
        maps = subscribe(endpoints["maps"], endpoints["http"])
        push = push_socket(endpoints["source"])
        push.send_multipart(messages[0])
        begin = time.perf_counter()
        for index, parts in enumerate(messages[1:-1]):
            due = begin + index * block / rate_hz
            while (left := due - time.perf_counter()) > 0:
                if maps.poll(max(1, int(left * 1000))):
                    note_pixels(maps, seen)
            now = time.perf_counter()
            sent.update(dict.fromkeys(range(index * block, (index + 1) * block), now))
            push.send_multipart(parts)
        while len(seen) < len(sent):
            if maps.poll(1000):
                note_pixels(maps, seen)
        push.close()
        maps.close()
    return np.array([seen[pixel] - at for pixel, at in sent.items() if pixel in seen])


def note_pixels(maps: zmq.Socket[bytes], seen: dict[int, float]) -> None:
    """Take one message; note when each finished pixel was first seen."""
    message = decode(maps.recv_multipart())
    if isinstance(message, MapUpdate):
        now = time.perf_counter()
        for pixel in message.pixels[message.coverage == 2].tolist():
            seen.setdefault(pixel, now)


def main() -> None:
    """Print the three measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=2048)
    parser.add_argument("--block", type=int, default=64, help="spectra per message")
    parser.add_argument("--spectra", type=int, default=1024, help="spectra of a mapped run")
    parser.add_argument("--intake", type=int, default=65536, help="spectra of the intake run")
    parser.add_argument("--paced", type=float, default=100.0, help="spectra/s of the paced run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zeroloss-bench-") as name:
        folder = Path(name)
        _, messages = make_run(args.intake, args.channels, args.block, "edx")
        wire = measure_wire(messages, args.intake)
        print(
            f"{args.channels} channels of uint16, {args.block} spectra a message, "
            f"{os.cpu_count()} cores"
        )
        print(f"wire, nothing decoded        {wire:10.0f} spectra/s")
        for label, flags in (
            ("intake with recording", ()),
            ("intake, no recording", ("--no-record",)),
        ):
            rate, close = measure_run(folder, messages, args.intake, *flags)
            assert close.totals.balanced
            print(f"{label:28} {rate:10.0f} spectra/s   {wire / rate:.2f} x the wire's time")
        _, messages = make_run(args.spectra, args.channels, args.block, "eels")
        rate, close = measure_run(folder, messages, args.spectra)
        assert close.totals.processed == args.spectra
        print(f"embedded models, all at once {rate:10.0f} spectra/s")
        block = 4
        _, messages = make_run(args.spectra, args.channels, block, "eels")
        seconds = measure_latency(folder, messages, block, args.paced)
        p50, p95, p99 = np.percentile(seconds * 1000, [50, 95, 99])
        print(
            f"paced at {args.paced:g} spectra/s: sent to seen p50 {p50:.0f}, p95 {p95:.0f}, "
            f"p99 {p99:.0f} ms (updates at most every 50 ms)"
        )


if __name__ == "__main__":
    main()
