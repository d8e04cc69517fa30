"""What was received is on disk, byte for byte, in files that stand alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from mcap.reader import make_reader

from support.polling import poll_until
from support.recordings import (
    BLOCK,
    T0_NS,
    frames,
    make_block,
    make_start,
    make_stream,
    read_frames,
    record,
)
from zeroloss.recording import RecordedRun, Recorder, RecordingError, _segment_writer, find_runs
from zeroloss.wire import RunEnd, RunStart, WireError, encode


def test_the_stream_comes_back_as_it_was_received(tmp_path: Path) -> None:
    stream = make_stream(make_start(), 10)
    recorded = record(tmp_path, stream)
    run = RecordedRun(recorded.folder)
    messages = list(run.messages())
    assert [item.parts for item in messages] == recorded.frames
    assert [item.received_ns for item in messages] == [T0_NS + i for i in range(len(stream))]
    assert run.start == stream[0]
    assert run.end() == stream[-1]
    assert run.damage == []


def test_blocks_come_with_their_counts(tmp_path: Path) -> None:
    start = make_start()
    run = RecordedRun(record(tmp_path, make_stream(start, 6)).folder)
    blocks = list(run.blocks())
    assert [block.first for _, block in blocks] == [BLOCK * i for i in range(6)]
    for index, (received_ns, block) in enumerate(blocks):
        assert received_ns > T0_NS
        np.testing.assert_array_equal(block.counts["core"], make_block(start, index).counts["core"])
        assert not block.counts["core"].flags.writeable


def test_the_folder_is_named_by_time_and_run(tmp_path: Path) -> None:
    start = make_start(run=bytes.fromhex("00112233445566778899aabbccddeeff"))
    recorded = record(tmp_path / "new" / "recordings", make_stream(start, 1))
    assert recorded.folder == tmp_path / "new" / "recordings" / "20231114T221320Z-00112233"
    assert [path.name for path in recorded.folder.iterdir()] == ["000.mcap"]


def test_the_run_start_is_in_the_stream_once_even_if_nobody_wrote_it(tmp_path: Path) -> None:
    start = make_start()
    with Recorder(tmp_path, start) as recorder:
        assert read_frames(recorder.folder) == [frames(start)]
        recorder.write(encode(make_block(start, 0)), T0_NS)
    assert read_frames(recorder.folder) == [frames(start), frames(make_block(start, 0))]


def test_a_run_without_an_end_has_none(tmp_path: Path) -> None:
    recorded = record(tmp_path, make_stream(make_start(), 3)[:-1])
    assert RecordedRun(recorded.folder).end() is None


def test_a_finished_segment_is_a_valid_mcap_file(tmp_path: Path) -> None:
    start = make_start()
    recorded = record(tmp_path, make_stream(start, 8))
    with (recorded.folder / "000.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = [
            (channel.topic, message.log_time) for _, channel, message in reader.iter_messages()
        ]
        summary = reader.get_summary()
        metadata = {item.name: item.metadata for item in reader.iter_metadata()}
    assert summary is not None
    assert summary.statistics is not None
    # The head of the segment is a message too, and every message is a chunk.
    assert len(found) == summary.statistics.chunk_count == len(recorded.frames) + 1
    assert {topic for topic, _ in found} == {"run", "spec", "hb", "end"}
    assert metadata["zeroloss"]["run"] == start.run.hex()


def test_segments_turn_over_and_each_stands_alone(tmp_path: Path) -> None:
    start = make_start()
    recorded = record(tmp_path, make_stream(start, 40), segment_bytes=6000)
    segments = sorted(recorded.folder.iterdir())
    assert len(segments) > 3
    assert all(path.stat().st_size < 12_000 for path in segments)
    assert read_frames(recorded.folder) == recorded.frames
    parts = [read_frames(path) for path in segments]
    assert all(part[0] == frames(start) for part in parts)
    assert [item for part in parts for item in part[1:]] == recorded.frames[1:]
    assert RecordedRun(segments[-1]).end() == RecordedRun(recorded.folder).end() is not None


def test_a_message_longer_than_a_segment_still_goes_in(tmp_path: Path) -> None:
    recorded = record(tmp_path, make_stream(make_start(), 3), segment_bytes=1)
    assert len(list(recorded.folder.iterdir())) == len(recorded.frames)
    assert read_frames(recorded.folder) == recorded.frames


def test_a_segment_holds_a_bounded_number_of_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zeroloss.recording.recorder.MAX_MESSAGES", 5)
    recorded = record(tmp_path, make_stream(make_start(), 9))
    assert len(list(recorded.folder.iterdir())) == 4
    assert read_frames(recorded.folder) == recorded.frames


def test_a_run_that_goes_on_later_continues_its_folder(tmp_path: Path) -> None:
    start = make_start()
    stream = make_stream(start, 6)
    first = record(tmp_path, stream[:4], close=False)
    again = Recorder(tmp_path, make_start(run=start.run, t_ns=T0_NS + 5_000_000_000))
    assert again.folder == first.folder
    for message in stream[4:]:
        again.write(encode(message), T0_NS)
    again.close()
    assert sorted(path.name for path in first.folder.iterdir()) == ["000.mcap", "001.mcap"]
    assert read_frames(first.folder) == [frames(message) for message in stream]


def test_runs_with_the_same_first_digits_stay_apart(tmp_path: Path) -> None:
    one = record(tmp_path, make_stream(make_start(run=b"same" + bytes(12)), 2))
    two = record(tmp_path, make_stream(make_start(run=b"same" + bytes(11) + b"x"), 3))
    assert one.folder != two.folder
    assert read_frames(one.folder) == one.frames
    assert read_frames(two.folder) == two.frames
    again = record(tmp_path, make_stream(make_start(run=b"same" + bytes(11) + b"x"), 1))
    assert again.folder == two.folder


def test_find_runs_oldest_first_and_without_what_is_no_run(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "nowhere") == []
    starts = [make_start(t_ns=T0_NS + i * 1_000_000_000) for i in (2, 0, 1)]
    for start in starts:
        record(tmp_path, make_stream(start, 1))
    (tmp_path / "20200101T000000Z-00000000").mkdir()
    (tmp_path / "20200101T000000Z-00000000" / "000.mcap").write_bytes(os.urandom(500))
    (tmp_path / "notes.txt").write_text("none", "utf-8")
    found = [run.run for run in find_runs(tmp_path)]
    assert found == [starts[1].run, starts[2].run, starts[0].run]


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    start = make_start()
    stream = make_stream(start, 10)
    with Recorder(tmp_path, start, segment_bytes=4000) as recorder:
        run = RecordedRun(recorder.folder)
        for index, message in enumerate(stream, 1):
            recorder.write(encode(message), T0_NS)
            assert len(list(run.messages())) == index
        assert isinstance(run.end(), RunEnd)
        assert run.damage == []


def test_frames_beyond_the_caps_are_refused_and_the_recording_goes_on(tmp_path: Path) -> None:
    start = make_start()
    with Recorder(tmp_path, start) as recorder:
        with pytest.raises(WireError, match="frame 0 of 65 bytes: the cap is 64"):
            recorder.write([b"x" * 65, b""], T0_NS)
        with pytest.raises(WireError, match="expected 2 to 66"):
            recorder.write([b""] * 67, T0_NS)
        recorder.write(encode(make_block(start, 0)), T0_NS)
    assert read_frames(recorder.folder) == [frames(start), frames(make_block(start, 0))]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", "utf-8")
    with pytest.raises(RecordingError, match=r"cannot record to .*file.*choose another folder"):
        Recorder(tmp_path / "file", make_start())


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RecordingError, match="not writable"):
        Recorder(tmp_path, make_start())


FULL_DISK = """
import resource, sys
from pathlib import Path
from support.recordings import T0_NS, make_block, make_start
from zeroloss.recording import Recorder, RecordingError
from zeroloss.wire import encode

start = make_start(run=b"0123456789abcdef")
recorder = Recorder(Path(sys.argv[1]), start)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
written = 0
sentences = set()
for index in range(200):
    try:
        recorder.write(encode(make_block(start, index)), T0_NS + index)
        written += 1
    except RecordingError as error:
        sentences.add(str(error))
recorder.close()
print(written, len(sentences), sentences.pop())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_full_disk_stops_the_recording_with_one_sentence_and_keeps_what_it_has(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    written, sentences, sentence = done.stdout.split(maxsplit=2)
    assert int(written) > 10
    assert sentences == "1"
    assert "the file may not grow any further; make room or choose another folder" in sentence
    [run] = find_runs(tmp_path)
    assert [block.first for _, block in run.blocks()] == [BLOCK * i for i in range(int(written))]
    assert run.damage == []


def test_messages_are_forced_to_the_disk_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = Event()
    real = _segment_writer._sync_to_disk

    def sync(descriptor: int) -> None:
        real(descriptor)
        synced.set()

    monkeypatch.setattr(_segment_writer, "_sync_to_disk", sync)
    start = make_start()
    with Recorder(tmp_path, start, fsync_s=0.01) as recorder:
        assert synced.wait(10)
        synced.clear()
        recorder.write(encode(make_block(start, 0)), T0_NS)
        assert synced.wait(10)
    synced.clear()
    with Recorder(tmp_path, make_start(), fsync_s=1e6) as recorder:
        recorder.write(encode(start), T0_NS)
        assert not synced.is_set()
    assert synced.is_set()


def test_a_disk_that_fails_to_sync_stops_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_segment_writer, "_sync_to_disk", sync)
    start = make_start()
    recorder = Recorder(tmp_path, start, fsync_s=0.01)

    def failed() -> bool:
        try:
            recorder.write(encode(make_block(start, 0)), T0_NS)
        except RecordingError as error:
            return "Input/output error" in str(error)
        return False

    poll_until(failed, "the failed sync to be told")
    recorder.close()


def test_nothing_can_be_written_after_close(tmp_path: Path) -> None:
    start = make_start()
    recorder = Recorder(tmp_path, start)
    recorder.close()
    recorder.close()
    with pytest.raises(RecordingError, match="is closed"):
        recorder.write(encode(start), T0_NS)


def test_no_recording_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recorded run in"):
        RecordedRun(tmp_path)
    with pytest.raises(RecordingError, match="cannot read the recording"):
        RecordedRun(tmp_path / "missing.mcap")


def test_a_stray_segment_of_another_run_is_told_and_left_out(tmp_path: Path) -> None:
    one = record(tmp_path / "a", make_stream(make_start(), 2))
    two = record(tmp_path / "b", make_stream(make_start(), 2))
    (two.folder / "000.mcap").rename(one.folder / "001.mcap")
    run = RecordedRun(one.folder)
    assert [item.parts for item in run.messages()] == one.frames
    assert any("another run" in sentence for sentence in run.damage)
    assert isinstance(run.start, RunStart)
