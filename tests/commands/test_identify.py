"""`zeroloss identify` on files that the test writes, with a model whose answer it can compute."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.packages import (
    expected_answer,
    make_package,
    make_spectra,
    read_manifest,
    replace_graph,
    write_manifest,
)
from zeroloss.cli import main

LABELS = ("C", "N", "O", "Fe")


@pytest.fixture
def identify(tmp_path, monkeypatch, capsys):
    """Runs the command in a folder of its own; returns exit code, output and rows of the CSV."""
    make_package(tmp_path / "models", labels=LABELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out.csv"

    def run(*arguments, model="tiny"):
        options = ["--models", "models", "--model", model, "--csv", str(out)]
        code = main(["identify", *map(str, arguments), *options])
        rows = None
        if out.exists():
            with out.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
        captured = capsys.readouterr()
        return code, captured.out + captured.err, rows

    return run


def write_npz(path, spectra, offset_ev=100.0, scale_ev=1.0, names=None):
    sizes = [len(row) for row in spectra]
    np.savez(
        path,
        ids=np.array(names or [f"s{i}" for i in range(len(spectra))]),
        offsets=np.cumsum([0, *sizes]),
        energy=np.concatenate([offset_ev + scale_ev * np.arange(n) for n in sizes]),
        counts=np.concatenate(spectra),
    )
    return path


def write_image(path, counts, shape, signal="EELS", unit="eV"):
    """A .hspy spectrum image from 100 eV in steps of 1 eV."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        group = file.create_group("Experiments/scan")
        group["data"] = counts.reshape(*shape, -1)
        units = ["nm"] * len(shape) + [unit]
        for index, (name, size) in enumerate(
            zip(["y", "x", "Energy loss"][-len(units) :], group["data"].shape, strict=True)
        ):
            axis = group.create_group(f"axis-{index}").attrs
            axis["name"], axis["units"], axis["size"] = name, units[index], size
            axis["offset"] = 100.0 if index == len(units) - 1 else 0.0
            axis["scale"] = 1.0
        group.create_group("metadata/Signal").attrs["signal_type"] = signal
        group["metadata"].create_group("General").attrs["title"] = "scan"
        group.create_group("original_metadata")
    return path


def probabilities(rows):
    return np.array([[float(value) for value in row[1:]] for row in rows[1:]])


def test_npz_gives_a_row_per_spectrum(identify, tmp_path):
    spectra = make_spectra([["C"], ["N", "Fe"], []])
    code, output, rows = identify(write_npz(tmp_path / "s.npz", spectra))
    assert code == 0
    assert rows[0] == ["id", *LABELS]
    assert [row[0] for row in rows[1:]] == ["s0", "s1", "s2"]
    probability, _ = expected_answer(spectra, 100.0, 1.0, LABELS)
    np.testing.assert_allclose(probabilities(rows), probability, atol=1e-4)
    assert "C 0.99" in output
    assert "nothing" in output
    assert "100 to 999 eV" in output


def test_spectra_of_different_axes_in_one_npz(identify, tmp_path):
    spectra = [make_spectra([["Fe"]], channels=n)[0] for n in (900, 850, 700)]
    code, _, rows = identify(write_npz(tmp_path / "s.npz", spectra))
    assert code == 0
    for row, counts in zip(probabilities(rows), spectra, strict=True):
        probability, _ = expected_answer(counts[None], 100.0, 1.0, LABELS)
        np.testing.assert_allclose(row, probability[0], atol=1e-4)


def test_invalid_channels_are_masked_and_counted(identify, tmp_path):
    spectra = make_spectra([["C"], ["C"]])
    spectra[1, [300, 301, 302]] = np.nan, -5.0, np.inf
    code, output, rows = identify(write_npz(tmp_path / "s.npz", spectra))
    assert code == 0
    assert "s1: 3 of 900 channels are NaN, negative or saturated" in output
    assert "s0: " not in output
    masked = spectra.copy()
    masked[1, 300:303] = np.nan
    probability, _ = expected_answer(masked, 100.0, 1.0, LABELS)
    np.testing.assert_allclose(probabilities(rows), probability, atol=1e-4)


def test_channels_that_were_cut_out_count_as_not_measured(identify, tmp_path):
    counts = make_spectra([["C"]])[0]
    energy = 100.0 + np.arange(900.0)
    keep = (energy < 600) | (energy > 611)
    np.savez(
        tmp_path / "s.npz",
        ids=np.array(["spliced"]),
        offsets=np.array([0, keep.sum()]),
        energy=energy[keep],
        counts=counts[keep],
    )
    code, output, rows = identify(tmp_path / "s.npz")
    assert code == 0
    assert "spliced: 12 of 900 channels" in output
    counts[~keep] = np.nan
    probability, _ = expected_answer(counts[None], 100.0, 1.0, LABELS)
    np.testing.assert_allclose(probabilities(rows), probability, atol=1e-4)


def test_image_pixel_by_pixel_and_its_one_percent_rule(identify, tmp_path):
    pytest.importorskip("rsciio", reason="reading .hspy needs the extra hyperspy")
    present = [["O"]] * 300
    present[17] = ["O", "Fe"]  # one of 300 pixels: below 1 %
    present[40:44] = [["O", "N"]] * 4  # 1.3 %
    spectra = make_spectra(present)
    path = write_image(tmp_path / "si.hspy", spectra, (15, 20))
    code, output, rows = identify("si.hspy")
    assert code == 0
    assert len(rows) == 301
    assert [row[0] for row in rows[1:3]] == ["si.hspy[0,0]", "si.hspy[0,1]"]
    assert rows[-1][0] == "si.hspy[14,19]"
    probability, _ = expected_answer(spectra, 100.0, 1.0, LABELS)
    np.testing.assert_allclose(probabilities(rows), probability, atol=1e-4)
    assert "15 x 20" in output
    assert "in 100%" in output
    assert "N 0." in output
    assert "Fe" not in output
    _, output, _ = identify(path, "--detect-share", "0.001")
    assert "Fe 0." in output


def test_mean_of_an_image(identify, tmp_path):
    pytest.importorskip("rsciio", reason="reading .hspy needs the extra hyperspy")
    spectra = make_spectra([["O"]] * 3 + [["C"]])
    spectra[3, 5] = np.nan  # the mean is over the pixels that measured the channel
    write_image(tmp_path / "line.hspy", spectra, (4,))
    code, output, rows = identify("line.hspy", "--mean")
    assert code == 0
    assert [row[0] for row in rows[1:]] == ["line.hspy"]
    assert "mean of 4" in output
    mean = np.nanmean(spectra, axis=0)[None]
    probability, _ = expected_answer(mean, 100.0, 1.0, LABELS)
    np.testing.assert_allclose(probabilities(rows), probability, atol=1e-4)


def test_text_file(identify, tmp_path):
    counts = make_spectra([["N"]])[0]
    lines = [f"{100 + i} {value}" for i, value in enumerate(counts)]
    (tmp_path / "n.txt").write_text("\n".join(lines))
    code, output, rows = identify("n.txt")
    assert code == 0
    assert rows[1][0] == "n.txt"
    assert "N 0.99" in output


def test_rows_of_counts_with_an_axis_given_by_hand(identify, tmp_path):
    np.savetxt(tmp_path / "rows.txt", make_spectra([["N"], ["C"]]))
    code, output, rows = identify("rows.txt", "--offset-ev", "100", "--scale-ev", "1")
    assert code == 0
    assert [row[0] for row in rows[1:]] == ["rows.txt[0,0]", "rows.txt[0,1]"]
    assert "was given by hand" in output
    assert identify("rows.txt")[0] == 2
    code, output, _ = identify("rows.txt", "--offset-ev", "-4.5")
    assert code == 2
    assert "--scale-ev is missing" in output
    spectra = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    code, output, _ = identify(spectra, "--offset-ev", "100", "--scale-ev", "1")
    assert code == 2
    assert "give none" in output


def test_threshold(identify, tmp_path):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    assert "C 0.99" in identify(path)[1]
    assert "nothing" in identify(path, "--threshold", "0.9999")[1]


def test_a_bad_file_among_good_ones(identify, tmp_path):
    good = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    (tmp_path / "bad.txt").write_text("no numbers here\n")
    code, output, rows = identify("bad.txt", good)
    assert code == 1
    assert "bad.txt: no numbers in it" in output
    assert len(rows) == 2


def test_spectra_outside_the_models_window(identify, tmp_path):
    spectra = make_spectra([["C"], ["C"]])
    far = write_npz(tmp_path / "far.npz", spectra, offset_ev=2000.0)
    near = write_npz(tmp_path / "near.npz", spectra)
    code, output, rows = identify(far, near)
    assert code == 1
    assert "s0: not identified, 2000 to 2899 eV overlaps the 244 to 748 eV" in output
    assert rows[1] == ["s0", "", "", "", ""]
    assert rows[3][1] != ""
    assert identify(far)[0] == 2


def test_x_ray_spectra_are_not_for_this_model(identify, tmp_path):
    pytest.importorskip("rsciio", reason="reading .hspy needs the extra hyperspy")
    write_image(tmp_path / "x.hspy", make_spectra([["C"]] * 4), (2, 2), signal="EDS_TEM")
    code, output, _ = identify("x.hspy")
    assert code == 2
    assert "x.hspy: edx spectra; the model takes eels" in output


def test_a_dispersion_that_the_model_does_not_take(identify, tmp_path):
    make_package(
        tmp_path / "models", name="fine", labels=LABELS, changes={"takes.scale_ev": [0.1, 0.5]}
    )
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    code, output, _ = identify(path, model="fine")
    assert code == 2
    assert "1 eV per channel: the model takes 0.1 to 0.5 eV" in output
    assert identify(path)[0] == 0


def test_negative_counts_of_a_model_that_takes_them(identify, tmp_path):
    changes = {"takes.signed_counts": True}
    make_package(tmp_path / "models", name="signed", labels=LABELS, changes=changes)
    spectra = make_spectra([["C"]])
    spectra[0, 184:190], spectra[0, 0] = -30.0, np.nan
    path = write_npz(tmp_path / "s.npz", spectra)
    _, output, rows = identify(path, model="signed")
    assert "s0: 1 of 900 channels are NaN or saturated" in output
    probability, _ = expected_answer(spectra, 100.0, 1.0, LABELS)
    np.testing.assert_allclose(probabilities(rows), probability, atol=1e-4)


def test_too_many_channels(identify, tmp_path):
    path = write_npz(tmp_path / "s.npz", [np.ones(20_000)], scale_ev=0.1)
    code, output, _ = identify(path)
    assert code == 2
    assert "20000 channels: the model takes at most 16384" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--threshold", "1.5"], "--threshold 1.5: expected"),
        (["--detect-share", "0"], "--detect-share 0: expected"),
        (["--provider", "cuda"], "cuda"),
    ],
)
def test_what_cannot_be_asked(identify, tmp_path, arguments, sentence):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    code, output, rows = identify(path, *arguments)
    assert code == 2
    assert sentence.lower() in output.lower()
    assert rows is None


def test_unknown_and_unsuitable_models(identify, tmp_path):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    code, output, _ = identify(path, model="nobody")
    assert code == 2
    assert "there is no model package 'nobody'" in output


def test_csv_keeps_the_old_file_when_it_cannot_be_finished(identify, tmp_path, monkeypatch):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    assert identify(path)[0] == 0
    before = (tmp_path / "out.csv").read_bytes()
    monkeypatch.setattr(
        "zeroloss.models.ModelSession.run",
        lambda *args, **kwargs: (_ for _ in ()).throw(OSError("device lost")),
    )
    assert identify(path)[0] == 2
    assert (tmp_path / "out.csv").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("absent/p.csv", "there is no folder"), (".", "it is a folder")],
)
def test_csv_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys, name, complaint):
    make_package(tmp_path / "models", labels=LABELS)
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    options = ["--models", str(tmp_path / "models"), "--model", "tiny"]
    assert main(["identify", str(path), "--csv", str(tmp_path / name), *options]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a matter of POSIX")
def test_csv_goes_into_a_pipe_and_does_not_replace_it(tmp_path):
    make_package(tmp_path / "models", labels=LABELS)
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = ["--models", str(tmp_path / "models"), "--model", "tiny"]
    # Opened for both ways, so that neither side waits for the other.
    reader = os.open(pipe, os.O_RDWR)
    try:
        assert main(["identify", str(path), "--csv", str(pipe), *options]) == 0
        assert os.read(reader, 1000).startswith(b"id,C,N,O,Fe\ns0,")
    finally:
        os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no full device")
def test_full_disk_is_told_with_the_name_of_the_file(tmp_path, capsys):
    make_package(tmp_path / "models", labels=LABELS)
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    options = ["--models", str(tmp_path / "models"), "--model", "tiny"]
    assert main(["identify", str(path), "--csv", "/dev/full", *options]) == 2
    assert "/dev/full could not be written: No space left" in capsys.readouterr().err


def test_spectrum_without_a_valid_channel_is_not_identified(identify, tmp_path):
    blank = np.full_like(make_spectra([["C"]])[0], np.nan, dtype=np.float32)
    path = write_npz(tmp_path / "s.npz", [blank, make_spectra([["C"]])[0]])
    code, output, rows = identify(path)
    assert code == 1
    assert "s0: not identified, no channel is valid" in output
    assert rows[1] == ["s0", "", "", "", ""]


def test_folder_is_no_spectrum_file(identify, tmp_path):
    (tmp_path / "recordings").mkdir()
    code, output, _ = identify(tmp_path / "recordings")
    assert code == 2
    assert "recordings: a folder without a recording in it" in output


def test_spectra_file_is_only_read(identify, tmp_path):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    shutil.copy(path, tmp_path / "copy.npz")
    identify(path)
    assert path.read_bytes() == (tmp_path / "copy.npz").read_bytes()


def test_parameters_are_those_of_the_file_or_set(identify, tmp_path):
    parser = pytest.importorskip("onnx.parser", reason="building model packages needs onnx")
    beam = {
        "name": "beam_kev",
        "unit": "keV",
        "description": "of the electrons",
        "source": "beam_kev",
        "low": 20.0,
        "high": 400.0,
    }
    # The probability of everything is the beam energy over 400 keV.
    folder = make_package(tmp_path / "models", name="beam", changes={"parameters": [beam]})
    graph = """
        <ir_version: 10, opset_import: ["": 20]> g (
            float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev,
            float[batch] beam_kev
        ) => (float[batch, 4] probability, float[batch, 4] spread) {
            axes = Constant <value_ints = [1]> ()
            shares = Constant <value = float[1, 4] {0.0025, 0.0025, 0.0025, 0.0025}> ()
            column = Unsqueeze (beam_kev, axes)
            probability = Mul (column, shares)
            spread = Mul (probability, shares)
        }
    """
    replace_graph(folder, parser.parse_model(graph))
    path = write_image(tmp_path / "scan.hspy", make_spectra([["C"], ["N"]]), (2,))
    code, said, rows = identify(path, "--set", "beam.beam_kev=100", model="beam")
    assert (code, "note: " in said) == (0, False)
    np.testing.assert_allclose(probabilities(rows), 0.25, rtol=1e-6)
    with h5py.File(path, "a") as file:
        microscope = file["Experiments/scan/metadata"].create_group("Acquisition_instrument/TEM")
        microscope.attrs["beam_energy"] = 300.0
    _, _, rows = identify(path, "--set", "beam.beam_kev=100", model="beam")
    np.testing.assert_allclose(probabilities(rows), 0.75, rtol=1e-6)
    for given, sentence in (
        ("beam.beam_kev=1", "the model beam: beam_kev = 1 keV, expected 20 to 400 keV"),
        ("beam.n=1", "the model beam has no parameter n; it has beam_kev"),
        ("tiny.n=1", "--set tiny.n: the model that runs is beam"),
    ):
        code, said, _ = identify(path, "--set", given, model="beam")
        assert code == 2
        assert sentence in said


EDGES = ("C K", "N K", "O K", "Fe L3")
EVIDENCE_GRAPH = """
    <ir_version: 10, opset_import: ["": 20]> g (
        float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev
    ) => (
        float[batch, 4] probability, float[batch, 4] spread, float[batch, 1] unlike,
        float[batch, 2] axis_error_ev, float[batch, 4] edge_onset_ev, float[batch, 4] edge_snr,
        float[batch, 4] edge_expected_ev
    ) {
        axes = Constant <value_ints = [1]> ()
        column = Unsqueeze (offset_ev, axes)
        nothing = Sub (column, column)
        p = Constant <value = float[1, 4] {0.9, 0.1, 0.8, 0.0}> ()
        probability = Add (p, nothing)
        s = Constant <value = float[1, 4] {0.1, 0.0, 0.1, 0.0}> ()
        spread = Add (s, nothing)
        u = Constant <value = float[1, 1] {0.25}> ()
        unlike = Add (u, nothing)
        shift = Constant <value = float[1, 2] {6.5, -4.0}> ()
        axis_error_ev = Add (shift, nothing)
        o = Constant <value = float[1, 4] {285.5, 400.0, 0.0, 710.0}> ()
        edge_onset_ev = Add (o, nothing)
        n = Constant <value = float[1, 4] {12.25, 1.0, 0.0, 2.0}> ()
        edge_snr = Add (n, nothing)
        e = Constant <value = float[1, 4] {284.0, 401.6, 532.0, 708.1}> ()
        edge_expected_ev = Add (e, nothing)
    }
"""


@pytest.fixture
def proven(tmp_path):
    """A package that sees C and O everywhere, with an edge in range of C only."""
    parser = pytest.importorskip("onnx.parser", reason="building model packages needs onnx")
    folder = make_package(tmp_path / "models", name="proven", labels=LABELS)
    manifest = read_manifest(folder)
    unlike = {"name": "unlike", "kind": "probability", "shape": [1], "threshold": 0.2}
    manifest["outputs"].append({**unlike, "labels": ["unlike training"]})
    manifest["outputs"].append(
        {"name": "axis_error_ev", "kind": "scalar", "shape": [2], "unit": "eV"}
    )
    for name in ("edge_onset_ev", "edge_snr", "edge_expected_ev"):
        output = {"name": name, "kind": "spectrum", "shape": [4], "labels": list(EDGES)}
        manifest["outputs"].append(output)
    write_manifest(folder, manifest)
    replace_graph(folder, parser.parse_model(EVIDENCE_GRAPH))
    return folder


def test_one_spectrum_comes_with_its_evidence(identify, tmp_path, proven):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    code, said, rows = identify(path, "--threshold", "0.5", model="proven")
    assert code == 0
    assert "C 0.90 ± 0.10, O 0.80 ± 0.10; unlike training 0.25" in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "edge tabulated eV found eV signal / noise" in lines
    assert "C K 284.0 285.5 12.2" in lines
    assert "s0: energies seem too high by 6.5 eV at the first and -4.0 eV at the last" in said
    assert not any(line.startswith(("O K", "N K")) for line in lines)
    assert rows[0] == ["id", *LABELS]


def test_evidence_of_several_spectra_is_printed_when_asked_for(identify, tmp_path, proven):
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"], ["N"]]))
    _, said, _ = identify(path, "--threshold", "0.5", model="proven")
    assert "285.5" not in said
    out = tmp_path / "edges.csv"
    more = ("--evidence", "--evidence-csv", out)
    code, said, _ = identify(path, "--threshold", "0.5", *more, model="proven")
    assert code == 0
    assert said.count("285.5") == 2
    assert f"evidence written to {out}" in said
    assert out.read_text(encoding="utf-8").splitlines() == [
        "id,element,probability,edge,tabulated_ev,found_ev,snr",
        "s0,C,0.9,C K,284,285.5,12.25",
        "s1,C,0.9,C K,284,285.5,12.25",
    ]


def test_evidence_of_an_image_is_that_of_its_mean(identify, tmp_path, proven):
    path = write_image(tmp_path / "scan.hspy", make_spectra([["C"], ["N"]]), (2,))
    _, said, _ = identify(path, "--threshold", "0.5", "--evidence", model="proven")
    assert said.count("285.5") == 1
    assert "unlike training in 100%" in said


def test_a_package_may_be_named_by_either_flag(tmp_path, capsys):
    make_package(tmp_path / "models", labels=LABELS)
    path = write_npz(tmp_path / "s.npz", make_spectra([["C"]]))
    options = ["--models", str(tmp_path / "models"), "--package", "tiny"]
    assert main(["identify", str(path), *options]) == 0
    assert "C 0." in capsys.readouterr().out
