"""Single blocks are found by position and pixel, and read without the rest of the recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.recordings import BLOCK, make_block, make_start, make_stream, record
from zeroloss.recording import (
    BlockIndex,
    BlockReader,
    Location,
    RecordedRun,
    Recorder,
    RecordingError,
)
from zeroloss.wire import SpectraBlock, encode

SEGMENT = Path("000.mcap")


def test_what_write_tells_is_where_the_block_is_read(tmp_path: Path) -> None:
    start = make_start()
    with Recorder(tmp_path, start, segment_bytes=2000) as recorder, BlockReader.opened() as reader:
        for index in range(20):
            block = make_block(start, index)
            read = reader.read(recorder.write(encode(block), index))
            assert read is not None
            assert read.first == block.first
            np.testing.assert_array_equal(read.counts["core"], block.counts["core"])
    assert len(list(recorder.folder.iterdir())) > 2


def test_a_recording_tells_where_its_messages_are(tmp_path: Path) -> None:
    start = make_start()
    folder = record(tmp_path, make_stream(start, 9), segment_bytes=2000).folder
    blocks = 0
    with BlockReader.opened() as reader:
        for item in RecordedRun(folder).messages():
            read = reader.read(item.location)
            if isinstance(item.message, SpectraBlock):
                blocks += 1
                assert read is not None
                assert read.first == item.message.first
                size = sum(map(len, item.parts))
                assert size < item.location.nbytes < size + 300
            else:
                assert read is None
    assert blocks == 9


def test_a_damaged_block_is_none_and_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    start = make_start()
    with Recorder(tmp_path, start) as recorder:
        at = recorder.write(encode(make_block(start, 0)), 0)
    data = bytearray(at.segment.read_bytes())
    data[at.offset + at.nbytes // 2] ^= 1
    at.segment.write_bytes(bytes(data))
    with BlockReader.opened() as reader:
        assert reader.read(at) is None
        assert reader.read(Location(at.segment, len(data) + 5, 10)) is None
        with pytest.raises(RecordingError, match="cannot read the recording"):
            reader.read(Location(tmp_path / "gone.mcap", 0, 10))


@given(st.permutations(range(12)), st.sets(st.integers(0, 50)))
def test_positions_lead_to_their_blocks_in_whatever_order_these_came(
    order: list[int], asked: set[int]
) -> None:
    index = BlockIndex()
    for block in order:
        # Every block has three spectra; the middle one came before, so it is indexed elsewhere.
        for begin in (3 * block, 3 * block + 2):
            location = Location(SEGMENT, block, 7) if block % 5 else None
            index.add(begin, begin + 1, first=3 * block, location=location)
    found = index.of_positions(np.array(sorted(asked), np.int64))
    expected = [position for position in sorted(asked) if position < 36 and position % 3 != 1]
    blocks = list(found.blocks())
    assert len(found) == len(expected)
    assert [int(p) for item in blocks for p in item.positions] == expected
    assert all(item.pixels is None for item in blocks)
    for item in blocks:
        assert item.first == 3 * (int(item.positions[0]) // 3)
        number = item.first // 3
        assert item.location == (Location(SEGMENT, number, 7) if number % 5 else None)
    assert found.nbytes == 7 * sum(item.location is not None for item in blocks)
    assert index.end == 36


@given(st.permutations(range(8)), st.lists(st.integers(0, 5), min_size=24, max_size=24))
def test_pixels_of_a_listed_scan_lead_to_every_visit(order: list[int], pixels: list[int]) -> None:
    index = BlockIndex()
    for block in order:
        part = slice(3 * block, 3 * block + 3)
        index.add(
            part.start,
            part.stop,
            first=part.start,
            location=Location(SEGMENT, block, 1),
            pixels=np.array(pixels[part], np.uint32),
        )
    found = index.of_pixels(np.array([1, 4], np.uint32))
    expected = [position for position, pixel in enumerate(pixels) if pixel in (1, 4)]
    blocks = list(found.blocks())
    assert [int(p) for item in blocks for p in item.positions] == expected
    assert [int(p) for item in blocks for p in item.pixels] == [pixels[p] for p in expected]  # type: ignore[union-attr]
    assert found.nbytes == len({position // 3 for position in expected})


def test_an_index_grows_and_may_be_read_meanwhile() -> None:
    index = BlockIndex()
    for block in range(1000):
        segment = Path(f"{block // 300:03d}.mcap")
        index.add(BLOCK * block, BLOCK * (block + 1), first=0, location=Location(segment, block, 1))
        if block == 70:
            early = index.of_positions(np.arange(200))
    assert [item.location.offset for item in early.blocks() if item.location] == list(range(71))
    late = list(index.of_positions(np.array([0, 1999])).blocks())
    assert [item.location for item in late] == [
        Location(Path("000.mcap"), 0, 1),
        Location(Path("003.mcap"), 999, 1),
    ]
    assert list(BlockIndex().of_positions(np.arange(5)).blocks()) == []
