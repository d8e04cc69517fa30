"""Whatever happens to a recording, every message that was not hit comes back."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Chunk
from mcap.records import Message as McapMessage

from support.recordings import BLOCK, Recorded, make_start, make_stream, read_frames, record
from zeroloss.recording import RecordedRun, RecordingError

WRITER = """
import sys
from pathlib import Path
from support.recordings import make_block, make_start
from zeroloss.recording import Recorder
from zeroloss.wire import encode
import time

start = make_start(run=b"0123456789abcdef")
recorder = Recorder(Path(sys.argv[1]), start, segment_bytes=100_000)
index = int(sys.argv[2])
while True:
    recorder.write(encode(make_block(start, index)), time.time_ns())
    print(index, flush=True)
    index += 1
"""


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    chance = random.Random(1)
    acknowledged = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(acknowledged)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        for _ in range(chance.randrange(1, 400)):
            process.stdout.readline()
        process.kill()
        rest, _ = process.communicate()
        whole = rest[: rest.rfind(b"\n") + 1].split()
        [folder] = tmp_path.iterdir()
        run = RecordedRun(folder)
        firsts = [block.first // BLOCK for _, block in run.blocks()]
        # The last message may be on disk although nobody was told any more.
        assert firsts == list(range(len(firsts)))
        if whole:
            assert len(firsts) in (int(whole[-1]) + 1, int(whole[-1]) + 2)
        assert len(firsts) > acknowledged
        acknowledged = len(firsts)
    assert [path.name for path in sorted(folder.iterdir())][:5] == [
        f"{number:03d}.mcap" for number in range(5)
    ]


@cache
def sample() -> tuple[Recorded, bytes]:
    """A finished recording of one segment, and its bytes."""
    with TemporaryDirectory() as folder:
        stream = make_stream(make_start(run=b"0123456789abcdef"), 12)
        recorded = record(Path(folder), stream)
        return recorded, (recorded.folder / "000.mcap").read_bytes()


def read(data: bytes, folder: Path) -> list[list[bytes]]:
    """What can be read of a segment with these bytes."""
    path = folder / "000.mcap"
    path.write_bytes(data)
    return read_frames(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def untouched(hit: list[tuple[int, int]]) -> list[list[bytes]]:
    """The messages whose bytes none of the half-open ranges touches."""
    recorded, _ = sample()
    begins = [0, *recorded.ends]
    return [
        item
        for item, begin, end in zip(recorded.frames, begins, recorded.ends, strict=False)
        if not any(low < end and high > begin for low, high in hit)
    ]


def check(data: bytes, folder: Path, hit: list[tuple[int, int]]) -> None:
    """Everything untouched survives in order, and nothing is there that was never written."""
    recorded, _ = sample()
    survivors = untouched(hit)
    try:
        found = read(data, folder)
    except RecordingError:
        # Allowed only when every run start is gone: the head, and the start in the stream.
        assert recorded.frames[0] not in survivors
        return
    rest = iter(found)
    assert all(item in rest for item in survivors)
    everything = iter(recorded.frames)
    assert all(item in everything for item in found)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_truncation_at_any_byte(folder: Path, data: st.DataObject) -> None:
    _, whole = sample()
    size = data.draw(st.integers(0, len(whole)))
    check(whole[:size], folder, [(size, len(whole) + 1)])


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_flipped_bytes_anywhere(folder: Path, data: st.DataObject) -> None:
    _, whole = sample()
    damaged = bytearray(whole)
    places = data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8))
    for place in places:
        damaged[place] ^= data.draw(st.integers(1, 255))
    check(bytes(damaged), folder, [(place, place + 1) for place in places])


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_stretch_replaced_by_garbage_of_another_length(folder: Path, data: st.DataObject) -> None:
    _, whole = sample()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 600)))
    garbage = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.integers(0, 300).map(bytes),
            st.sampled_from([b"\x06", b"\x06\0\0", b"\x07\xff", b"\x89MCAP0\r\n"]),
        )
    )
    check(whole[:begin] + garbage + whole[end:], folder, [(begin, max(end, begin + 1))])


@settings(deadline=None, max_examples=100)
@given(garbage=st.binary(max_size=2000))
def test_random_files_are_no_recordings(folder: Path, garbage: bytes) -> None:
    with pytest.raises(RecordingError):
        read(garbage, folder)
    with pytest.raises(RecordingError):
        read(b"\x89MCAP0\r\n" + garbage, folder)


@pytest.mark.parametrize("tail", [bytes(5000), b"\xff" * 5000, random.Random(0).randbytes(5000)])
def test_a_garbage_tail_costs_nothing_and_is_told(folder: Path, tail: bytes) -> None:
    recorded, whole = sample()
    cut = recorded.ends[-1]
    for data in (whole + tail, whole[:cut] + tail):
        assert read(data, folder) == recorded.frames
        run = RecordedRun(folder / "000.mcap")
        list(run.messages())
        assert len(run.damage) == 1
        assert "damaged or incomplete" in run.damage[0]


def test_a_damaged_chunk_in_the_middle_is_skipped_and_counted_once(folder: Path) -> None:
    recorded, whole = sample()
    damaged = bytearray(whole)
    damaged[recorded.ends[5] + 200] ^= 1
    assert read(bytes(damaged), folder) == recorded.frames[:6] + recorded.frames[7:]
    run = RecordedRun(folder / "000.mcap")
    for _ in range(2):
        list(run.messages())
    assert len(run.damage) == 1
    assert run.damage[0].startswith("000.mcap: ")


def test_an_unfinished_message_at_the_end_is_damage_only_once_another_segment_follows(
    tmp_path: Path,
) -> None:
    start = make_start()
    stream = make_stream(start, 6)
    recorded = record(tmp_path, stream[:5], close=False)
    path = recorded.folder / "000.mcap"
    path.write_bytes(path.read_bytes()[: recorded.ends[-1] - 100])
    run = RecordedRun(recorded.folder)
    assert len(list(run.messages())) == 4
    assert run.damage == []
    record(tmp_path, [start, *stream[5:]])
    run = RecordedRun(recorded.folder)
    assert [item.parts for item in run.messages()] == [
        *recorded.frames[:4],
        recorded.frames[0],
        *([bytes(part) for part in item.parts] for item in list(run.messages())[5:]),
    ]
    assert len(run.damage) == 1


def test_without_the_first_head_the_run_is_known_from_the_next_segment(tmp_path: Path) -> None:
    start = make_start()
    recorded = record(tmp_path, [start, *make_stream(start, 20)[1:]], segment_bytes=6000)
    path = recorded.folder / "000.mcap"
    data = bytearray(path.read_bytes())
    data[: recorded.ends[0]] = bytes(recorded.ends[0])
    path.write_bytes(data)
    run = RecordedRun(recorded.folder)
    assert run.start == start
    assert [item.parts for item in run.messages()] == recorded.frames
    assert len(run.damage) == 1


def chunk(payload: bytes, **changes: int) -> bytes:
    """A chunk whose CRC is right around a payload, with some fields changed afterwards."""
    inner = RecordBuilder()
    McapMessage(channel_id=2, log_time=0, publish_time=0, sequence=9, data=payload).write(inner)
    data = inner.end()
    outer = RecordBuilder()
    Chunk(
        compression="",
        data=data,
        message_start_time=0,
        message_end_time=0,
        uncompressed_crc=zlib.crc32(data),
        uncompressed_size=changes.get("plain_bytes", len(data)),
    ).write(outer)
    record_bytes = bytearray(outer.end())
    if "length" in changes:
        struct.pack_into("<Q", record_bytes, 1, changes["length"])
    if "data_bytes" in changes:
        struct.pack_into("<Q", record_bytes, 41, changes["data_bytes"])
    return bytes(record_bytes)


HOSTILE = {
    "an absurd record": struct.pack("<BQ", Opcode.MESSAGE_INDEX, 1 << 62),
    "an absurd chunk": chunk(b"x", length=1 << 39, data_bytes=(1 << 39) - 40, plain_bytes=1 << 39),
    "a chunk beyond the end": chunk(
        b"x", length=(1 << 30) + 40, data_bytes=1 << 30, plain_bytes=1 << 30
    ),
    "too many frames": chunk(struct.pack("<I", 0xFFFFFFFF)),
    "absurd frames": chunk(struct.pack("<I2Q", 2, 1, 1 << 60) + b"xx"),
    "frames that do not add up": chunk(struct.pack("<I2Q", 2, 1, 1) + b"xxx"),
    "no frames": chunk(b""),
    "not a message": chunk(struct.pack("<I2Q", 2, 1, 1) + b"xx"),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_lengths_beyond_the_caps_cost_neither_memory_nor_other_messages(
    folder: Path, hostile: bytes
) -> None:
    recorded, whole = sample()
    at = recorded.ends[5]
    (folder / "000.mcap").write_bytes(whole[:at] + hostile + whole[at:])
    tracemalloc.start()
    try:
        run = RecordedRun(folder / "000.mcap")
        found = [item.parts for item in run.messages()]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == recorded.frames
    assert len(run.damage) == 1
    assert peak < 4 << 20


def test_a_file_that_is_all_beginnings_of_chunks_is_read_in_time(folder: Path) -> None:
    recorded, whole = sample()
    (folder / "000.mcap").write_bytes(whole + chunk(os.urandom(64))[:60] * 20_000)
    assert read_frames(folder / "000.mcap") == recorded.frames
