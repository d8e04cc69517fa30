"""Small recorded streams, and the bytes that each of their messages takes on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeroloss.recording import RecordedRun, Recorder
from zeroloss.wire import (
    EnergyRange,
    Heartbeat,
    Message,
    RunEnd,
    RunStart,
    ScanPlan,
    SpectraBlock,
    encode,
)

T0_NS = 1_700_000_000_000_000_000
BLOCK = 2
CHANNELS = 16


def make_start(run: bytes | None = None, t_ns: int = T0_NS) -> RunStart:
    """The start of a run of few, short spectra."""
    return RunStart(
        run=run or os.urandom(16),
        t_ns=t_ns,
        scan=ScanPlan(shape=(100, 100)),
        ranges=(EnergyRange(name="core", offset_ev=100.0, scale_ev=0.5, size=CHANNELS),),
    )


def make_block(start: RunStart, index: int) -> SpectraBlock:
    """Block number `index` of the run; its counts are mostly small numbers, as real ones are."""
    counts = np.random.default_rng(index).poisson(3.0, (BLOCK, CHANNELS)).astype(np.uint32)
    return SpectraBlock(
        run=start.run,
        seq=index + 1,
        t_ns=T0_NS + index,
        schema=start.schema,
        first=BLOCK * index,
        counts={"core": counts},
    )


def make_stream(start: RunStart, blocks: int) -> list[Message]:
    """The run start, blocks with heartbeats between them, and the end."""
    stream: list[Message] = [start]
    for index in range(blocks):
        stream.append(make_block(start, index))
        if index % 4 == 3:
            stream.append(
                Heartbeat(run=start.run, seq=index + 1, t_ns=T0_NS, spectra=BLOCK * (index + 1))
            )
    stream.append(RunEnd(run=start.run, seq=blocks + 1, t_ns=T0_NS, spectra=BLOCK * blocks))
    return stream


def frames(message: Message) -> list[bytes]:
    """The frames of a message, as bytes that compare."""
    return [bytes(part) for part in encode(message)]


@dataclass
class Recorded:
    """A recording: its folder, the frames in it, and where each message ends in its segment."""

    folder: Path
    frames: list[list[bytes]]
    ends: list[int]


def record(
    root: Path, stream: Sequence[Message], *, close: bool = True, segment_bytes: int = 1 << 30
) -> Recorded:
    """Record a stream that begins with its run start; message i is received at T0_NS + i."""
    start = stream[0]
    assert isinstance(start, RunStart)
    recorder = Recorder(root, start, segment_bytes=segment_bytes, received_ns=T0_NS)
    ends = []
    for index, message in enumerate(stream):
        recorder.write(encode(message), T0_NS + index)
        ends.append(recorder.bytes_written)
    if close:
        recorder.close()
    return Recorded(recorder.folder, [frames(message) for message in stream], ends)


def read_frames(path: Path) -> list[list[bytes]]:
    """The frames of every message that can be read."""
    return [item.parts for item in RecordedRun(path).messages()]
