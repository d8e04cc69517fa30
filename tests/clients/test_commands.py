"""The commands microscope, replay, watch and demo, over real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from support.live import MappedRun, Receiver, make_run_start, publisher
from support.polling import poll_until
from zeroloss.cli import main
from zeroloss.recording import Recorder
from zeroloss.wire import RunEnd, SpectraBlock, encode
from zeroloss_clients.commands.demo import _compare
from zeroloss_clients.local_daemon import LocalDaemon, LocalDaemonError
from zeroloss_clients.microscope import Specimen
from zeroloss_clients.microscope.replay import RecordedSource

SHAPE = (5, 20)
TOTAL = 100


def to(receiver):
    return ["--source", receiver.endpoint, "--requests", receiver.requests]


def record(root, blocks, *, end=TOTAL, shape=SHAPE, gap_s=0.0):
    """A recording whose blocks cover these [begin, end) in this order, counts = position."""
    start = make_run_start(shape)
    recorder = Recorder(root, start)
    recorder.write(encode(start), 1_000)
    received_ns = 1_000
    for seq, (begin, stop) in enumerate(blocks, 1):
        counts = np.repeat(np.arange(begin, stop, dtype=np.uint32)[:, None], 8, axis=1)
        block = SpectraBlock(
            run=start.run,
            seq=seq,
            t_ns=1,
            schema=start.schema,
            first=begin,
            counts={"core": counts},
        )
        received_ns += round(gap_s * 1e9)
        recorder.write(encode(block), received_ns)
    if end:
        message = RunEnd(run=start.run, seq=len(blocks) + 1, t_ns=1, spectra=end)
        recorder.write(encode(message), received_ns)
    recorder.close()
    return start, recorder.folder


def assert_kept(receiver, positions=range(TOTAL)):
    assert sorted(receiver.kept) == list(positions)
    assert all((counts == position).all() for position, counts in receiver.kept.items())


def test_the_microscope_scans_into_a_daemon(capsys):
    with Receiver() as receiver:
        options = ["--shape", "6x8", "--pattern", "serpentine", "--passes", "2", "--fast"]
        assert main(["microscope", *to(receiver), *options, "--fault", "drop=0.3"]) == 0
        assert sorted(receiver.kept) == list(range(96))
        assert receiver.run.start.scan.pattern == "serpentine"
        assert receiver.run.start.scan.passes == 2
        assert receiver.ends[0].status == "success"
    assert "the daemon has them all" in capsys.readouterr().err


def test_the_dwell_time_is_that_of_the_run():
    with Receiver() as receiver:
        options = ["--shape", "4x5", "--dwell", "0.002", "--region", "1,1,2,3"]
        assert main(["microscope", *to(receiver), *options]) == 0
        assert receiver.run.start.scan.dwell_s == 0.002
        assert receiver.run.start.scan.region == (1, 1, 2, 3)
        assert max(receiver.blocks) <= 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--shape", "big"], "expected ROWSxCOLUMNS"),
        (["--region", "1,2"], "expected Y,X,ROWS,COLUMNS"),
        (["--dwell", "-1"], "expected seconds"),
    ],
)
def test_senseless_flags_of_the_microscope(options, sentence, capsys):
    with pytest.raises(SystemExit):
        main(["microscope", *options])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--range", "nothing"], "it has core_loss"),
        (["--region", "0,0,900,900"], "does not fit"),
        (["--fault", "rust=1"], "expected one of drop=P"),
        (["--specimen", "nowhere.npz"], "no specimen file"),
        (["--source", "nowhere"], "cannot connect at nowhere"),
    ],
)
def test_what_cannot_be_scanned_is_one_sentence(options, sentence, capsys):
    assert main(["microscope", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_recording_is_replayed_as_a_new_run(tmp_path, capsys):
    blocks = [(0, 30), (30, 60), (30, 45), (80, 100), (60, 80)]
    start, folder = record(tmp_path, blocks)
    with Receiver() as receiver:
        assert main(["replay", str(folder), "--speed", "max", *to(receiver)]) == 0
        assert_kept(receiver)
        assert receiver.run.start.run != start.run
        assert receiver.run.start.scan == start.scan
        assert receiver.run.start.metadata["replay_of"] == start.run.hex()
        duplicates = receiver.run.totals().duplicates
    told = capsys.readouterr().err
    assert "100 spectra" in told
    # A slow receiver is sent spectra again that were on their way; nothing else may come twice.
    again = re.search(r"(\d+) sent again", told)
    assert duplicates <= (int(again[1]) if again else 0)


def test_what_was_recorded_twice_is_sent_once(tmp_path):
    blocks = [(0, 30), (30, 60), (30, 45), (80, 100), (60, 80)]
    source = RecordedSource(record(tmp_path, blocks)[1], speed=None)
    sent = [(item.first, item.first + len(item.readout)) for item in source]
    assert sent == [(0, 30), (30, 60), (80, 100), (60, 80)]


def test_a_replay_goes_on_where_the_network_failed(tmp_path):
    start, folder = record(tmp_path, [(50, 100), *((n, n + 5) for n in range(0, 50, 5))])
    with Receiver() as receiver:
        harm = ["--fault", "drop=0.4", "--fault", "reorder=0.2"]
        code = main(["replay", str(folder), "--speed", "max", "--same-run", *harm, *to(receiver)])
        assert code == 0
        assert_kept(receiver)
        assert receiver.run.start == start


def test_what_was_never_recorded_stays_lost(tmp_path, capsys):
    _, folder = record(tmp_path, [(0, 40), (60, 90)])
    with Receiver() as receiver:
        assert main(["replay", str(folder / "000.mcap"), "--speed", "max", *to(receiver)]) == 0
        assert_kept(receiver, [*range(40), *range(60, 90)])
        poll_until(lambda: receiver.run.totals().missed == 30)
    assert "20 are not in the source and stay lost" in capsys.readouterr().err


def test_the_speed_of_a_replay(tmp_path):
    _, folder = record(tmp_path, [(0, 50), (50, 100)], gap_s=4.0)
    assert [item.due_s for item in RecordedSource(folder)] == [0.0, 4.0]
    assert [item.due_s for item in RecordedSource(folder, speed=8)] == [0.0, 0.5]
    assert [item.due_s for item in RecordedSource(folder, speed=None)] == [0.0, 0.0]


def test_text_is_replayed_with_an_axis_given_by_hand(tmp_path, capsys):
    path = tmp_path / "line.txt"
    np.savetxt(path, np.arange(24).reshape(3, 8))
    options = ["--offset-ev", "500", "--scale-ev", "0.5"]
    with Receiver() as receiver:
        assert main(["replay", str(path), "--speed", "max", *options, *to(receiver)]) == 0
        (energy,) = receiver.run.start.ranges
    assert (energy.offset_ev, energy.scale_ev, energy.size) == (500.0, 0.5, 8)
    _, folder = record(tmp_path, [(0, TOTAL)])
    assert main(["replay", str(folder), *options]) == 2
    assert "holds its own energy axis" in capsys.readouterr().err


def test_files_are_replayed_as_ranges_of_one_scan(tmp_path):
    for name, offset in (("low", -10.0), ("core", 500.0)):
        energy = offset + 0.5 * np.arange(200)
        np.savetxt(tmp_path / f"{name}.txt", np.stack([energy, np.arange(200.0)], axis=1))
    paths = [str(tmp_path / "low.txt"), str(tmp_path / "core.txt")]
    names = ["--range-name", "first", "--range-name", "second"]
    with Receiver() as receiver:
        assert main(["replay", *paths, *names, *to(receiver)]) == 0
        assert [item.name for item in receiver.run.start.ranges] == ["first", "second"]
        assert receiver.run.start.ranges[1].offset_ev == 500.0
        np.testing.assert_array_equal(receiver.kept[0], np.arange(200))


def test_what_cannot_be_replayed_is_one_sentence(tmp_path, capsys):
    _, folder = record(tmp_path / "a", [(0, 10)])
    assert main(["replay", str(folder), str(folder)]) == 2
    assert "one recording at a time" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "absent.dm4")]) == 2
    assert "absent.dm4: no such file" in capsys.readouterr().err
    (tmp_path / "000.mcap").write_bytes(b"nothing")
    assert main(["replay", str(tmp_path / "000.mcap")]) == 2
    assert capsys.readouterr().err.startswith("zeroloss replay: ")
    with pytest.raises(SystemExit):
        main(["replay", str(folder), "--speed", "0"])
    assert "expected a factor above 0, or max" in capsys.readouterr().err


def test_watch_once_prints_the_finished_maps(capsys):
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, TOTAL, 0.3)
        source.close()
        ends = ["--maps", publishing.maps_endpoint, "--requests", publishing.requests_endpoint]
        assert main(["watch", "--once", *ends]) == 0
    out = capsys.readouterr().out
    assert "detected: O Fe" in out
    assert "100 announced = 100 mapped" in out


def test_watch_once_can_give_up(capsys):
    with publisher() as publishing:
        ends = ["--maps", publishing.maps_endpoint, "--requests", publishing.requests_endpoint]
        assert main(["watch", "--once", "--timeout", "0.2", *ends]) == 2
    assert "no run was finished within 0.2 s" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to another process there")
def test_ctrl_c_ends_the_run_as_aborted():
    with Receiver() as receiver:
        options = ["--passes", "0", "--shape", "4x5", "--dwell", "0.001"]
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroloss.cli", "microscope", *to(receiver), *options],
            stderr=subprocess.DEVNULL,
        )
        try:
            poll_until(lambda: len(receiver.kept) > 40)
            assert receiver.run.start.expected is None
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()
            process.wait()
        poll_until(lambda: receiver.ends, "the end of the run")
        assert receiver.ends[0].status == "abort"
        assert receiver.ends[0].reason == "stopped by the user"


def test_the_demo_finds_what_was_put_in(tmp_path, capsys):
    options = ["--once", "--shape", "12x16", "--fault", "drop=0.1", "--keep", str(tmp_path)]
    assert main(["demo", *options, "--seed", "7"]) == 0
    out = capsys.readouterr().out
    assert "found and put in agree" in out
    assert out.count("yes") == 5
    (run,) = (tmp_path / "recordings").glob("*/")
    ledger = json.loads((run / "closed.json").read_text())["ledger"]
    assert ledger["processed"] == ledger["announced"] == 192
    assert (run / "maps.hspy").exists()


def test_the_demo_fails_when_found_and_put_in_differ(capsys):
    from rich.console import Console

    from zeroloss_clients import LiveMaps

    source = MappedRun(make_run_start(SHAPE))
    with (
        publisher() as publishing,
        LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint) as maps,
    ):
        publishing.open(source)
        source.fill(0, TOTAL, 0.3)
        source.close()
        assert _compare(maps.wait_for_close(10), Specimen.shipped(), Console()) == 1
    out = capsys.readouterr().out
    assert "DIFFER" in out
    assert out.count("NO") == 3


def test_a_daemon_that_does_not_start_tells_why(tmp_path):
    with (
        pytest.raises(LocalDaemonError, match=r"exit code 2(?s:.*)nonsense"),
        LocalDaemon(tmp_path, ["--provider", "nonsense"]),
    ):
        pass
