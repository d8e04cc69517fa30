"""`zeroloss dielectric` on files that the test writes, with a model whose answer it can compute."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.packages import CURVE_CHANNELS, expected_dielectric, make_dielectric_package
from zeroloss.cli import main
from zeroloss.recording import Recorder
from zeroloss.wire import EnergyRange, RunEnd, RunStart, ScanPlan, SpectraBlock, encode

SHAPE = (3, 4)
COUNTS = np.random.default_rng(5).poisson(np.geomspace(3, 300, 12)[:, None], (12, 128))
KNOWN = ("--refractive-index", "2", "--beam-kev", "200")
SPECTRA = ("eps_real", "eps_imag", "subtracted")

Call = Callable[..., tuple[int, str]]


def write_image(path: Path, counts: np.ndarray, shape: tuple[int, ...] = SHAPE) -> Path:
    """A .hspy spectrum image from -2 eV in steps of 0.25 eV."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        group = file.create_group("Experiments/scan")
        group["data"] = counts.reshape(*shape, -1)
        names = ["y", "x", "Energy loss"][-len(shape) - 1 :]
        for index, (name, size) in enumerate(zip(names, group["data"].shape, strict=True)):
            energy = index == len(shape)
            axis = group.create_group(f"axis-{index}").attrs
            axis["name"], axis["units"], axis["size"] = name, "eV" if energy else "nm", size
            axis["offset"], axis["scale"] = (-2.0, 0.25) if energy else (0.0, 1.5)
        group.create_group("metadata/Signal").attrs["signal_type"] = "EELS"
        group["metadata"].create_group("General").attrs["title"] = "flake"
        microscope = group["metadata"].create_group("Acquisition_instrument/TEM").attrs
        microscope["beam_energy"] = 200.0
        group.create_group("original_metadata")
    return path


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Runs the command beside a package and an image; gives exit code and what it said."""
    make_dielectric_package(tmp_path / "models")
    write_image(tmp_path / "flake.hspy", COUNTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, models: bool = True) -> tuple[int, str]:
        flags = ["--models", "models"] if models else []
        code = main(["dielectric", *map(str, arguments), *flags])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def shaped(expected: dict[str, Any], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    return {name: values.reshape(*shape, *values.shape[1:]) for name, values in expected.items()}


def check_npz(path: Path, expected: dict[str, np.ndarray]) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        for name, values in expected.items():
            if name.endswith("reason"):
                words = np.array(["ok", "vacuum", "no refractive index or beam energy"])
                assert (file[name] == words[values.astype(int)]).all()
            else:
                np.testing.assert_allclose(file[name], values, rtol=1e-5, err_msg=name)
        for name in SPECTRA:
            energies = file[f"{name}:energies_ev"]
            np.testing.assert_allclose(energies, 0.5 + 0.25 * np.arange(CURVE_CHANNELS))
        about: dict[str, Any] = json.loads(str(file["about"]))
        return about


def test_an_image_pixel_by_pixel(call: Call, tmp_path: Path) -> None:
    code, said = call("flake.hspy", "--refractive-index", 2)
    assert code == 0
    expected = shaped(expected_dielectric(COUNTS, refractive_index=2, beam_kev=200), SHAPE)
    about = check_npz(tmp_path / "flake-dielectric.npz", expected)
    assert about["package"]["parameters"] == {
        "refractive_index": 2.0,
        "beam_kev": 200.0,
        "collection_mrad": 20.0,
    }
    assert (about["rows"], about["columns"], about["summed"]) == ([0, 3], [0, 4], False)
    dark = int(np.isnan(expected["thickness"]).sum())
    assert 0 < dark < 12
    for part in (
        "12 pixels (0:3, 0:4)",
        "refractive_index 2, beam_kev 200 keV, collection_mrad 20 mrad",
        f"{12 - dark} of 12",
        f"{dark} vacuum",
        "0.5 to 4.25 eV, 16 channels: low, median, high",
        "written to flake-dielectric.npz",
    ):
        assert part in said


def test_one_pixel_is_told_with_its_error(call: Call, tmp_path: Path) -> None:
    code, said = call("flake.hspy", "--pixel", 2, 3, *KNOWN, "--out", "one.npz")
    assert code == 0
    expected = expected_dielectric(COUNTS[-1:], refractive_index=2, beam_kev=200)
    check_npz(tmp_path / "one.npz", shaped(expected, (1, 1)))
    value, error = expected["thickness"][0], expected["thickness_error"][0]
    assert f"{value:.4g} ± {error:.3g} t/λ" in said


def test_a_region_may_be_added_up(call: Call, tmp_path: Path) -> None:
    flags = ("--region", "1:,1:3", *KNOWN, "--collection-mrad", 7)
    assert call("flake.hspy", *flags, "--out", "each.npz")[0] == 0
    part = COUNTS.reshape(*SHAPE, -1)[1:, 1:3].reshape(4, -1)
    told = {"refractive_index": 2.0, "beam_kev": 200.0, "collection_mrad": 7.0}
    check_npz(tmp_path / "each.npz", shaped(expected_dielectric(part, **told), (2, 2)))
    code, said = call("flake.hspy", *flags, "--sum", "--out", "sum.npz")
    assert code == 0
    assert "4 pixels (1:3, 1:3), added up" in said
    total = expected_dielectric(part.sum(axis=0, keepdims=True), **told)
    assert check_npz(tmp_path / "sum.npz", shaped(total, (1, 1)))["summed"]


def test_what_is_not_known_is_missing_and_told(call: Call, tmp_path: Path) -> None:
    code, said = call("flake.hspy")
    assert code == 0
    check_npz(
        tmp_path / "flake-dielectric.npz", shaped(expected_dielectric(COUNTS, beam_kev=200), SHAPE)
    )
    assert "refractive_index not known" in said
    assert "no refractive index or beam energy" in said


def test_flags_go_over_the_file_and_say_so(call: Call) -> None:
    code, said = call("flake.hspy", "--beam-kev", 80, "--set", "optics.refractive_index=3")
    assert code == 0
    assert "beam_kev = 80 as given; the file says 200" in said
    assert "refractive_index 3, beam_kev 80 keV" in said


def test_csv_has_a_line_per_energy_and_one_per_pixel(call: Call, tmp_path: Path) -> None:
    assert call("flake.hspy", "--region", ":,2:3", *KNOWN, "--out", "out.csv")[0] == 0
    part = COUNTS.reshape(*SHAPE, -1)[:, 2]
    expected = expected_dielectric(part, refractive_index=2, beam_kev=200)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["column"]) for row in rows[::CURVE_CHANNELS]] == [
        ("0", "2"),
        ("1", "2"),
        ("2", "2"),
    ]
    assert [float(row["energy_ev"]) for row in rows[:3]] == [0.5, 0.75, 1.0]
    for name in SPECTRA:
        for curve, label in enumerate(("low", "median", "high")):
            told = [float(row[f"{name} {label}"] or "nan") for row in rows]
            np.testing.assert_allclose(told, expected[name][:, curve].ravel(), rtol=1e-5)
    with (tmp_path / "out-pixels.csv").open(encoding="utf-8", newline="") as file:
        pixels = list(csv.DictReader(file))
    told = [float(row["thickness_nm"] or "nan") for row in pixels]
    np.testing.assert_allclose(told, expected["thickness_nm"], rtol=1e-5)
    assert [row["reason"] for row in pixels] == [
        ("ok", "vacuum")[int(code)] for code in expected["reason"]
    ]


def test_hspy_has_a_signal_per_output(call: Call, tmp_path: Path) -> None:
    assert call("flake.hspy", "--region", "1:3,0:4", *KNOWN, "--out", "out.hspy")[0] == 0
    expected = shaped(expected_dielectric(COUNTS[4:], refractive_index=2, beam_kev=200), (2, 4))
    with h5py.File(tmp_path / "out.hspy") as file:
        signals = {
            name.removeprefix("optics "): group for name, group in file["Experiments"].items()
        }
        assert set(signals) == set(expected)
        for name, values in expected.items():
            wanted = np.moveaxis(values, 2, 0) if name in SPECTRA else values
            np.testing.assert_allclose(signals[name]["data"], wanted, rtol=1e-5)
        axes = [dict(signals["eps_real"][f"axis-{number}"].attrs) for number in range(4)]
        assert [axis["name"] for axis in axes] == ["curve", "y", "x", "energy loss"]
        assert [axis["navigate"] for axis in axes] == [True, True, True, False]
        assert (axes[1]["offset"], axes[1]["scale"], axes[1]["units"]) == (1.5, 1.5, "nm")
        assert (axes[3]["offset"], axes[3]["scale"], axes[3]["units"]) == (0.5, 0.25, "eV")
        about = signals["thickness_nm"]["metadata/Zeroloss"]
        assert about["package/parameters"].attrs["refractive_index"] == 2.0
        assert about.attrs["reason"] == "thickness_nm_reason"
        assert about["looked_at/_list_rows"][()].tolist() == [1, 3]
        assert not about["looked_at"].attrs["summed"]


def test_hyperspy_opens_it(call: Call, tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api", reason="needs hyperspy")
    assert call("flake.hspy", *KNOWN, "--out", "out.hspy")[0] == 0
    signals = {item.metadata.Zeroloss.layer: item for item in hs.load(tmp_path / "out.hspy")}
    curves = signals["optics/eps_real"]
    assert curves.axes_manager.signal_shape == (CURVE_CHANNELS,)
    assert curves.axes_manager.navigation_shape == (4, 3, 3)
    assert signals["optics/thickness"].axes_manager.signal_shape == (4, 3)


def test_a_recorded_run_is_read_like_a_file(call: Call, tmp_path: Path) -> None:
    energies = EnergyRange(name="low_loss", offset_ev=-2.0, scale_ev=0.25, size=128)
    start = RunStart(
        run=bytes(16), t_ns=1, scan=ScanPlan(shape=SHAPE), ranges=(energies,), beam_kev=60.0
    )
    counts = {"low_loss": COUNTS.astype(np.uint32)}
    block = SpectraBlock(run=start.run, seq=1, t_ns=1, schema=start.schema, first=0, counts=counts)
    recorder = Recorder(tmp_path / "recordings", start)
    for message in (start, block, RunEnd(run=start.run, seq=2, t_ns=2, spectra=12)):
        recorder.write(encode(message), 1)
    recorder.close()
    code, _ = call(recorder.folder, "--refractive-index", 2, "--out", "run.npz")
    assert code == 0
    expected = expected_dielectric(COUNTS, refractive_index=2, beam_kev=60)
    check_npz(tmp_path / "run.npz", shaped(expected, SHAPE))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.dm4"], "no such file"),
        (["flake.hspy", "--out", "a.txt"], "expected a file name ending in .npz, .csv, .hspy"),
        (["flake.hspy", "--out", "no/a.npz"], "there is no folder no"),
        (["flake.hspy", "--out", "flake.hspy"], "flake.hspy exists: name another --out"),
        (["flake.hspy", "flake.hspy"], "two files of the same name"),
        (["flake.hspy", "b.hspy", "--out", "a.npz"], "one --out for 2 files"),
        (["flake.hspy", "--pixel", "3", "0"], "rows 3:4 and columns 0:1 are no pixels of 3 x 4"),
        (["flake.hspy", "--region", "2:1,:"], "rows 2:1 and columns 0:4 are no pixels of 3 x 4"),
        (["flake.hspy", "--refractive-index", "0.5"], "refractive_index = 0.5, expected 1 to 10"),
        (["flake.hspy", "--workers", "0"], "--workers 0: expected 1 to 64"),
        (["flake.hspy", "--beam-kev", "0"], "--beam-kev 0: expected a number above 0"),
        (["flake.hspy", "--set", "optics.n=2"], "has no parameter n; it has refractive_index"),
        (["flake.hspy", "--set", "other.n=2"], "--set other.n: the model that runs is optics"),
        (["flake.hspy", "--package", "elements"], "the model elements gives no eps_imag"),
        (["flake.hspy", "--package", "optic"], "there is no model package 'optic'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    call: Call, arguments: list[str], sentence: str
) -> None:
    code, said = call(*arguments)
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 1


def test_without_such_a_package_it_says_what_to_do(call: Call) -> None:
    code, said = call("flake.hspy", models=False)
    assert code == 2
    assert "no model package gives eps_real and eps_imag: train one" in said


def test_a_package_may_be_named_by_its_folder(call: Call) -> None:
    assert call("flake.hspy", "--package", "models/optics", models=False)[0] == 0


def test_of_two_packages_one_must_be_named(call: Call, tmp_path: Path) -> None:
    make_dielectric_package(tmp_path / "models", name="other")
    code, said = call("flake.hspy")
    assert code == 2
    assert "2 packages can do this (optics, other): choose with --package" in said
    assert call("flake.hspy", "--package", "other")[0] == 0


def test_spectra_that_the_model_does_not_take(call: Call, tmp_path: Path) -> None:
    make_dielectric_package(
        tmp_path / "models", name="fine", changes={"takes.scale_ev": [0.01, 0.05]}
    )
    code, said = call("flake.hspy", "--package", "fine")
    assert code == 2
    assert "in steps of 0.01 to 0.05 eV" in said
    assert "128 channels of 0.25 eV from -2 eV" in said


def test_pixels_without_counts_are_told_by_the_exit_code(call: Call, tmp_path: Path) -> None:
    counts = COUNTS.astype(np.float32)
    counts[:5] = np.nan
    write_image(tmp_path / "holes.hspy", counts)
    code, said = call("holes.hspy", *KNOWN)
    assert code == 1
    assert "5 no answer" in said
    with np.load(tmp_path / "holes-dielectric.npz", allow_pickle=False) as file:
        assert file["answered"].ravel().tolist() == [False] * 5 + [True] * 7
        assert np.isnan(file["eps_real"][0]).all()
        assert file["reason"][0, 0] == "no answer"
    write_image(tmp_path / "empty.hspy", np.full((12, 128), np.nan))
    assert call("empty.hspy", *KNOWN)[0] == 2
    assert call("empty.hspy", *KNOWN, "--sum", "--force")[0] == 2
    assert call("holes.hspy", *KNOWN, "--sum", "--out", "sum.npz")[0] == 0
    total = expected_dielectric(
        COUNTS[5:].sum(axis=0, keepdims=True), refractive_index=2, beam_kev=200
    )
    check_npz(tmp_path / "sum.npz", shaped(total, (1, 1)))


def test_threads_change_no_bit(call: Call, tmp_path: Path) -> None:
    counts = np.random.default_rng(9).poisson(40.0, (50 * 30, 128))
    write_image(tmp_path / "large.hspy", counts, (50, 30))
    for workers in (1, 4):
        out = f"{workers}.npz"
        assert call("large.hspy", *KNOWN, "--workers", workers, "--out", out)[0] == 0
    with np.load("1.npz", allow_pickle=False) as one, np.load("4.npz", allow_pickle=False) as four:
        for name in one.files:
            assert one[name].tobytes() == four[name].tobytes()


def test_one_bad_file_does_not_stop_the_others(call: Call, tmp_path: Path) -> None:
    code, said = call("none.dm4", "flake.hspy")
    assert code == 1
    assert "none.dm4: no such file" in said
    assert (tmp_path / "flake-dielectric.npz").exists()
