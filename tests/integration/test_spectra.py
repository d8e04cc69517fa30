"""Spectra asked of a real daemon: during a run, after it, after a restart, also by the command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.daemons import RunningDaemon, make_config, running_daemon
from support.packages import REASONS, make_masked_package
from support.polling import poll_until
from support.streams import counts_at, make_blocks, make_end, make_start
from zeroloss.cli import main
from zeroloss.scan import Coverage
from zeroloss.wire import ScanPlan
from zeroloss_clients import LiveMaps, LiveRun, SpectrumRefusedError, SummedSpectra

PLAN = ScanPlan(shape=(6, 10))
SPECTRA = 60
WHAT = ("raw/core_loss", "tiny/probability", "tiny/spread")


@contextmanager
def following(running: RunningDaemon) -> Iterator[LiveMaps]:
    publisher = running.daemon.publisher
    with LiveMaps(publisher.maps_endpoint, publisher.requests_endpoint) as maps:
        yield maps


def received(run: LiveRun, spectra: int) -> bool:
    return run.ledger.processed >= spectra


def assert_same(first: SummedSpectra, second: SummedSpectra) -> None:
    assert list(first) == list(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_run_is_asked_while_it_goes_on_and_when_it_is_over(tmp_path: Path, models: Path) -> None:
    start = make_start(PLAN, expected=SPECTRA)
    blocks = list(make_blocks(start, SPECTRA, block=10))
    with running_daemon(make_config(tmp_path, models)) as running, following(running) as maps:
        running.send(start, *blocks[:3])
        run = maps.wait_for_run(20)
        poll_until(lambda: np.count_nonzero(run.coverage == Coverage.DONE) == 30, "half of the map")
        early = run.spectrum(rows=(2, 5), columns=4, what=WHAT)
        assert (early.pixels, early.counted, early.empty) == (3, 1, 2)
        np.testing.assert_array_equal(early["raw/core_loss"], counts_at([24])[0])
        np.testing.assert_array_equal(
            early["tiny/probability"], run.layer("tiny/probability")[2, 4]
        )
        with pytest.raises(SpectrumRefusedError, match="no usable spectrum of these 10 pixels"):
            run.spectrum(rows=5)
        running.send(*blocks[3:], make_end(start, SPECTRA))
        live = maps.wait_for_close(20).spectrum(rows=(2, 5), columns=4, what=WHAT)
        assert (live.pixels, live.counted, live.empty) == (3, 3, 0)
        expected = counts_at([24, 34, 44]).sum(axis=0, dtype=float)
        np.testing.assert_array_equal(live["raw/core_loss"], expected)
        assert_same(live, run.spectrum(rows=(2, 5), columns=4, what=WHAT))
        assert live["tiny/spread"].sha256 == run.packages[0].sha256
        with pytest.raises(SpectrumRefusedError, match="nothing is called tiny/thickness; this"):
            run.spectrum(rows=0, what="tiny/thickness")


@pytest.mark.parametrize("record", [True, False])
def test_passes_are_summed_while_the_run_is_open_and_read_when_it_is_closed(
    tmp_path: Path, models: Path, record: bool
) -> None:
    start = make_start(ScanPlan(shape=(3, 5), passes=4), expected=SPECTRA)
    config = make_config(tmp_path, models, recording={"record": record})
    with running_daemon(config) as running, following(running) as maps:
        running.send(start, *make_blocks(start, SPECTRA))
        run = maps.wait_for_run(20)
        poll_until(lambda: received(run, SPECTRA), "all passes")
        summed = run.spectrum(rows=1, columns=(1, 3), what=WHAT)
        positions = [15 * number + pixel for number in range(4) for pixel in (6, 7)]
        assert (summed.pixels, summed.counted, summed.counts_from) == (2, 8, "sums")
        np.testing.assert_array_equal(
            summed["raw/core_loss"], counts_at(positions).sum(axis=0, dtype=float)
        )
        running.send(make_end(start, SPECTRA))
        finished = running.wait_finished()
        poll_until(lambda: finished.run.sums is None, "the sums to be let go")
        if record:
            read = run.spectrum(rows=1, columns=(1, 3), what=WHAT)
            assert (read.counted, read.counts_from) == (8, "recording")
            assert_same(summed, read)
        else:
            with pytest.raises(SpectrumRefusedError, match="is not recorded"):
                run.spectrum(rows=1)


def test_without_a_recording_the_refusal_says_so(tmp_path: Path, models: Path) -> None:
    config = make_config(tmp_path, models, recording={"record": False})
    with running_daemon(config) as running, following(running) as maps:
        running.send_run(make_start(PLAN, expected=SPECTRA), SPECTRA)
        run = maps.wait_for_close(20)
        with pytest.raises(SpectrumRefusedError, match="let the daemon record"):
            run.spectrum(rows=0)


def test_more_pixels_than_a_request_takes(tmp_path: Path, models: Path) -> None:
    start = make_start(ScanPlan(shape=(600, 600)))
    with running_daemon(make_config(tmp_path, models)) as running, following(running) as maps:
        running.send(start, *make_blocks(start, 16))
        run = maps.wait_for_run(20)
        poll_until(lambda: received(run, 16), "the first block")
        with pytest.raises(SpectrumRefusedError, match="360000 pixels: the cap is 262144"):
            run.spectrum()
        assert run.spectrum(rows=(0, 400)).counted == 16
        most = np.arange(262_144, dtype=np.uint32)
        assert run.spectrum(pixels=most).counted == 16


def test_a_restarted_daemon_knows_where_the_spectra_are(tmp_path: Path, models: Path) -> None:
    config = make_config(tmp_path, models, recording={"segment_mb": 1})
    start = make_start(ScanPlan(shape=(20, 32)), expected=640)
    blocks = list(make_blocks(start, 640))
    with running_daemon(config) as running, following(running) as maps:
        running.send(start, *blocks[:25])
        run = maps.wait_for_run(20)
        poll_until(lambda: received(run, 400), "the first blocks")
        before = run.spectrum(rows=(3, 5), what=WHAT)
    with running_daemon(config) as running, following(running) as maps:
        running.send(start, *blocks[25:], make_end(start, 640))
        run = maps.wait_for_close(20)
        assert_same(before, run.spectrum(rows=(3, 5), what=WHAT))
        whole = run.spectrum()
    assert (whole.counted, whole.empty) == (640, 0)
    np.testing.assert_array_equal(
        whole["raw/core_loss"], counts_at(range(640)).sum(axis=0, dtype=float)
    )


def test_the_command_asks_a_daemon(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_daemon(make_config(tmp_path, models)) as running:
        running.send_run(make_start(PLAN, expected=SPECTRA, title="a scan"), SPECTRA)
        running.wait_finished()
        ask = ["spectrum", "--requests", running.daemon.publisher.requests_endpoint]
        assert main([*ask, "--list"]) == 0
        assert capsys.readouterr().out.split() == list(WHAT)
        assert main([*ask, "--pixel", "2", "4", "--what", WHAT[0], "--what", WHAT[1]]) == 0
        out = capsys.readouterr().out
        assert "1 spectrum of 1 pixel summed" in out
        assert "tiny/probability = C 0." in out
        assert "tiny/spread = C 0." in out
        assert main([*ask, "--region", ":,0:2", "--out", str(tmp_path / "sum.csv")]) == 0
    rows = (tmp_path / "sum.csv").read_text("utf-8").splitlines()
    table = np.array([row.split(",") for row in rows if row[0].isdigit()], float)
    positions = [10 * row + column for row in range(6) for column in range(2)]
    np.testing.assert_array_equal(table[:, 1], counts_at(positions).sum(axis=0))
    np.testing.assert_array_equal(table[:, 0], 100.0 + np.arange(900))


def test_the_command_says_why_a_number_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"takes.window_ev": [100.0, 900.0]}
    folder = make_masked_package(tmp_path / "models", changes=changes).parent
    config = make_config(tmp_path, folder, models={"use": ("masked",)})
    start = make_start(PLAN, expected=SPECTRA)
    with running_daemon(config) as running:
        dark = [
            replace(block, counts={"core_loss": block.counts["core_loss"] // 1000})
            for block in make_blocks(start, SPECTRA)
        ]
        running.send(start, *dark, make_end(start, SPECTRA))
        running.wait_finished()
        ask = ["spectrum", "--requests", running.daemon.publisher.requests_endpoint]
        assert main([*ask, "--pixel", "0", "0", "--what", "masked/mean"]) == 0
        out = capsys.readouterr().out
    assert "masked/mean = no value" in out
    assert f"masked/reason = {REASONS[1]}" in out
    assert "masked/mean_error = no value" in out


def test_the_embedded_network_gives_its_evidence(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path, models, models={"use": ("elements",)})
    with running_daemon(config) as running, following(running) as maps:
        running.send_run(make_start(PLAN, expected=SPECTRA), SPECTRA)
        running.wait_finished()
        what = ["elements/edge_onset_ev", "elements/edge_snr", "elements/edge_expected_ev"]
        run = maps.wait_for_run(20)
        assert {*what, "elements/unlike"} <= {*run.askable}
        found = run.spectrum(what=what)
        labels = found[what[0]].labels
        assert labels == found[what[1]].labels
        assert found[what[0]].energies_ev is None
        onset, snr, expected = (found[name].values for name in what)
        oxygen = labels.index("O K")
        assert expected[oxygen] == pytest.approx(532.0, abs=0.1)
        assert abs(onset[oxygen] - expected[oxygen]) <= 12.0
        # The range ends at 999 eV.
        assert onset[labels.index("Al K")] == snr[labels.index("Al K")] == 0.0
        endpoint = running.daemon.publisher.requests_endpoint
        ask = ["spectrum", "--requests", endpoint, "--region", ":,:", "--what", what[1]]
        assert main(ask) == 0
        assert "elements/edge_snr = Be K " in capsys.readouterr().out
