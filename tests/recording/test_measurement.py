"""A recording and a file of spectra give the same to whoever wants to look at what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.recordings import CHANNELS, T0_NS, record
from zeroloss.recording import RecordingError
from zeroloss.recording.spectrum_files import (
    SpectrumFileError,
    _measurement,
    blocks,
    is_recording,
    read_measurement,
    read_spectrum_file,
    run_start,
)
from zeroloss.wire import EnergyRange, Message, RunStart, ScanPlan, SpectraBlock


def make_run(**scan: object) -> RunStart:
    return RunStart(
        run=bytes(range(16)),
        t_ns=T0_NS,
        scan=ScanPlan(**({"shape": (2, 3), "dwell_s": 0.25} | scan)),  # type: ignore[arg-type]
        ranges=(
            EnergyRange(name="low_loss", offset_ev=-2.0, scale_ev=0.5, size=CHANNELS),
            EnergyRange(name="core", offset_ev=90.0, scale_ev=1.0, size=2, dtype="uint16"),
        ),
        beam_kev=60.0,
        title="vacuum",
    )


def counts_of(positions: range) -> dict[str, np.ndarray]:
    low = np.asarray(positions, np.uint32)[:, None] + np.arange(CHANNELS, dtype=np.uint32)
    return {"low_loss": low, "core": low[:, :2].astype(np.uint16)}


def block(start: RunStart, positions: range, **changes: object) -> SpectraBlock:
    fields: dict[str, object] = {
        "run": start.run,
        "seq": positions[0] + 1,
        "t_ns": T0_NS,
        "schema": start.schema,
        "first": positions[0],
        "counts": counts_of(positions),
    }
    return SpectraBlock(**(fields | changes))  # type: ignore[arg-type]


def measured(tmp_path: Path, *stream: Message):
    return read_measurement(record(tmp_path, stream).folder)


def test_a_recorded_scan(tmp_path: Path) -> None:
    start = make_run(pattern="serpentine")
    file = measured(tmp_path, start, block(start, range(4)), block(start, range(2, 6)))
    assert (file.shape, file.modality, file.title) == ((2, 3), "eels", "vacuum")
    assert (file.beam_kev, file.dwell_s, file.notes) == (60.0, 0.25, ())
    assert file.ranges == start.ranges
    order = [0, 1, 2, 5, 4, 3]
    for name, counts in counts_of(range(6)).items():
        np.testing.assert_array_equal(file.counts[name], counts[order])
        assert file.counts[name].dtype == counts.dtype


def test_one_segment_is_enough(tmp_path: Path) -> None:
    start = make_run()
    folder = record(tmp_path, [start, block(start, range(6))]).folder
    assert is_recording(folder / "000.mcap")
    np.testing.assert_array_equal(
        read_measurement(folder / "000.mcap").counts["low_loss"], counts_of(range(6))["low_loss"]
    )


def test_pixels_that_were_never_recorded_are_nan(tmp_path: Path) -> None:
    start = make_run()
    file = measured(tmp_path, start, block(start, range(1, 3)))
    assert np.isnan(file.counts["low_loss"]).all(axis=1).tolist() == [
        True,
        *2 * [False],
        *3 * [True],
    ]
    assert [item.dtype for item in file.ranges] == ["float64", "float64"]
    assert file.notes == ("4 of 6 pixels were not recorded",)


def test_passes_are_summed(tmp_path: Path) -> None:
    start = make_run(passes=2)
    saturated = replace(
        start, ranges=tuple(replace(item, saturation=11 + CHANNELS - 1) for item in start.ranges)
    )
    file = measured(tmp_path, saturated, block(saturated, range(12), schema=saturated.schema))
    both = counts_of(range(12))["low_loss"].reshape(2, 6, CHANNELS).sum(0).astype(float)
    both[5, -1] = np.nan
    np.testing.assert_array_equal(file.counts["low_loss"], both)
    assert file.dwell_s == 0.5
    assert {item.saturation for item in file.ranges} == {None}
    assert file.notes == ("the counts are sums of 2 to 2 visits of a pixel",)


def test_a_listed_scan_visits_pixels_unevenly(tmp_path: Path) -> None:
    start = make_run(pattern="list", passes=None)
    pixels = np.array([4, 4, 0], np.uint32)
    file = measured(tmp_path, start, block(start, range(3), pixels=pixels))
    low = counts_of(range(3))["low_loss"].astype(float)
    np.testing.assert_array_equal(file.counts["low_loss"][[4, 0]], [low[0] + low[1], low[2]])
    assert np.isnan(file.counts["low_loss"][[1, 2, 3, 5]]).all()
    assert file.dwell_s is None


def test_blocks_that_do_not_fit_are_left_out_and_told(tmp_path: Path) -> None:
    start = make_run()
    short = {name: counts[:, :1] for name, counts in counts_of(range(6)).items()}
    wrong = [
        block(start, range(6), counts=short),
        block(start, range(6), schema=bytes(8)),
        block(start, range(3, 9)),
    ]
    file = measured(tmp_path, start, block(start, range(6)), *wrong)
    np.testing.assert_array_equal(file.counts["core"], counts_of(range(6))["core"])
    assert file.notes == ("18 spectra do not fit the start of the run",)


def test_what_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = make_run()
    empty = record(tmp_path / "empty", [start]).folder
    with pytest.raises(SpectrumFileError, match="no spectra in this recording"):
        read_measurement(empty)
    with pytest.raises(SpectrumFileError, match="holds its own energy axis"):
        read_measurement(empty, axis=(0.0, 1.0))
    monkeypatch.setattr(_measurement, "MAX_BYTES", 100)
    with pytest.raises(SpectrumFileError, match="2 x 3 pixels of 18 channels take"):
        read_measurement(empty)
    with pytest.raises(RecordingError, match="cannot read the recording"):
        read_measurement(tmp_path / "none.mcap")


def test_a_file_and_its_recording_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "line_m1eV_6d5eV.txt"
    np.savetxt(path, np.random.default_rng(0).normal(size=(5, CHANNELS)), delimiter="\t")
    file = read_measurement(path)
    np.testing.assert_array_equal(
        file.counts["low_loss"], read_spectrum_file(path).counts["low_loss"]
    )
    start = run_start(file, t_ns=T0_NS)
    recorded = measured(tmp_path, start, *blocks(file, start, 2))
    np.testing.assert_array_equal(recorded.counts["low_loss"], file.counts["low_loss"])
    assert (recorded.ranges, recorded.shape) == (file.ranges, file.shape)
