"""`zeroloss quantify` on simulated specimens of known truth, with the package that is shipped."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("torch", reason="specimens are simulated with torch")

from zeroloss.cli import main
from zeroloss.commands._quantification import Quantifier, find_package
from zeroloss.commands._quantification_table import amount_variances, ratio
from zeroloss.models import ModelStore
from zeroloss.recording import Recorder
from zeroloss.recording.spectrum_files import (
    SpectrumFile,
    blocks,
    read_spectrum_file,
    run_start,
)
from zeroloss.wire import EnergyRange, RunEnd, encode
from zeroloss_export.simulate.specimens import (
    Conditions,
    SpecimenScan,
    simulate,
    write_specimen,
)

SHAPE = (4, 6)
ELEMENTS = ("O", "Ti", "Mn", "La")
CHOSEN = ("--elements", "O,Ti,Mn,La")
LOW = ("--low-loss", "super-low-loss.hspy")

Call = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def scan() -> SpecimenScan:
    return simulate("superlattice", SHAPE, 1, Conditions(dose=1e9))


@pytest.fixture(scope="module")
def folder(scan: SpecimenScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("specimen")
    write_specimen(path / "super.hspy", scan)
    return path


def quantify(folder: Path, *arguments: object) -> tuple[int, str]:
    """Runs the command beside the files of a folder; gives exit code and what it said."""
    said = io.StringIO()
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "240")
        with redirect_stdout(said), redirect_stderr(said):
            code = main(["quantify", *map(str, arguments)])
    return code, said.getvalue()


@pytest.fixture
def call(folder: Path) -> Call:
    return partial(quantify, folder)


@dataclass
class Quantified:
    """What the command said, and the files that it wrote."""

    said: str
    csv: Path
    map: Path


def quantified(folder: Path, out: Path, *arguments: object) -> Quantified:
    table, maps = out / "out.csv", out / "out.hspy"
    code, said = quantify(folder, *arguments, "--csv", table, "--map", maps)
    assert code == 0, said
    return Quantified(said, table, maps)


@pytest.fixture(scope="module")
def with_low_loss(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantified:
    """The scan with its low loss, by one thread; exposures are not told."""
    flags = ("--ratio", "Mn/O", "--ratio", "Ti/Mn", "--workers", 1)
    return quantified(folder, tmp_path_factory.mktemp("low"), "super.hspy", *LOW, *CHOSEN, *flags)


@pytest.fixture(scope="module")
def core_alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantified:
    """The scan without its low loss."""
    return quantified(folder, tmp_path_factory.mktemp("core"), "super.hspy", *CHOSEN)


def rows(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV; words where they are no numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    out = {}
    for name in lines[0]:
        cells = [line[name] for line in lines]
        try:
            out[name] = np.array([float(cell or "nan") for cell in cells])
        except ValueError:
            out[name] = np.array(cells)
    return out


def test_a_scan_with_its_low_loss_is_quantified_pixel_by_pixel(
    call: Call, scan: SpecimenScan, tmp_path: Path
) -> None:
    out = tmp_path / "pixels.csv"
    code, said = call("super.hspy", *LOW, *CHOSEN, "--exposure-ratio", 100, "--csv", out)
    assert code == 0, said
    found = rows(out)
    assert found["row"].tolist() == [i // 6 for i in range(24)]
    assert found["column"].tolist() == [i % 6 for i in range(24)]
    # How near the truth is for the benchmark to tell: near-edge structure is in these spectra.
    fraction, density = scan.atomic_fraction(ELEMENTS), scan.areal_density
    for index, element in enumerate(ELEMENTS):
        truth = density[scan.elements.index(element)].ravel()
        value = found[f"areal_density {element}"]
        assert value.mean() == pytest.approx(truth.mean(), rel=0.2)
        assert (found[f"areal_density_error {element}"] > 0).all()
        value = found[f"atomic_fraction {element}"]
        assert value.mean() == pytest.approx(fraction[index].mean(), abs=2.5)
        assert np.corrcoef(value, fraction[index].ravel())[0, 1] > 0.8
    assert set(found["why"]) == {"given"}
    assert "24 pixels, core_loss with low_loss beside; quantify" in said
    for element in ELEMENTS:
        (line,) = [item for item in said.splitlines() if item.split()[:1] == [element]]
        assert line.count("±") == 4


def test_maps_hold_what_the_csv_holds(with_low_loss: Quantified) -> None:
    found = rows(with_low_loss.csv)
    with h5py.File(with_low_loss.map) as file:
        signal = file["Experiments/quantify atomic_fraction"]
        assert signal["data"].shape == (4, *SHAPE)
        labels = [item.decode() for item in signal["metadata/Zeroloss/_list_labels"][()]]
        assert sorted(labels) == sorted(ELEMENTS)
        for index, element in enumerate(labels):
            values = found[f"atomic_fraction {element}"]
            np.testing.assert_allclose(signal["data"][index].ravel(), values, rtol=1e-6)
        assert signal["metadata/Zeroloss/package/parameters"].attrs["beam_kev"] == 200.0


def test_ratios_are_told_with_an_error(with_low_loss: Quantified, scan: SpecimenScan) -> None:
    total = {e: scan.areal_density[scan.elements.index(e)].sum() for e in ELEMENTS}
    for above, below in (("Mn", "O"), ("Ti", "Mn")):
        lines = with_low_loss.said.splitlines()
        (line,) = [item for item in lines if item.startswith(f"{above}/{below} ")]
        value, _, error = line.split(":")[1].split("(")[0].split()
        assert float(value) == pytest.approx(total[above] / total[below], rel=0.2)
        assert 0 < float(error) < 0.2 * float(value)
        assert "amounts taken as independent" in line


def test_without_exposures_or_low_loss_there_are_percentages_and_the_reason(
    with_low_loss: Quantified, core_alone: Quantified
) -> None:
    assert "note: no areal densities: exposure ratio" in with_low_loss.said
    assert "note: no areal densities: no low loss" in core_alone.said


def test_auto_asks_which_elements_there_are(call: Call) -> None:
    code, said = call("super.hspy", *LOW)
    assert code == 0, said
    (line,) = [item for item in said.splitlines() if item.startswith("elements found by elements")]
    assert {"Ti", "O"} <= set(line.split(": ")[1].split())


def test_elements_of_the_form_that_the_daemon_takes_are_respected(
    call: Call, core_alone: Quantified, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    chosen = ("--set", f"quantify.elements={','.join(ELEMENTS)}")
    code, said = call("super.hspy", *chosen, "--ratio", "Mn/O", "--csv", out)
    assert code == 0, said
    assert "elements found by" not in said
    assert "Mn/O of the sum: " in said
    assert out.read_bytes() == core_alone.csv.read_bytes()
    # A flag goes over --set, auto too.
    code, said = call("super.hspy", "--elements", "auto", *chosen)
    assert (code, "elements found by elements" in said) == (0, True), said


def test_a_wrong_axis_is_mended_and_said(call: Call, folder: Path, scan: SpecimenScan) -> None:
    right, wrong = folder / "super.hspy", folder / "wrong.hspy"
    shutil.copyfile(right, wrong)
    with h5py.File(wrong, "r+") as file:
        axes = []
        file.visititems(lambda _, item: axes.append(item) if "scale" in item.attrs else None)
        energy = max(axes, key=lambda item: item.attrs["size"])
        # 6 eV too low, and 2 % of the dispersion away.
        energy.attrs["offset"] -= 6.0
        energy.attrs["scale"] *= 0.98
    truth = scan.areal_density[scan.elements.index("Ti")].sum()
    truth /= scan.areal_density[scan.elements.index("O")].sum()
    found = {}
    for flags in ((), ("--axis", "as-is")):
        code, said = call("wrong.hspy", *CHOSEN, "--ratio", "Ti/O", *flags)
        assert code == 0, said
        assert ("energy axis mended" in said) == (not flags)
        (line,) = [item for item in said.splitlines() if item.startswith("Ti/O ")]
        found[flags] = float(line.split(":")[1].split()[0])
    assert found[()] == pytest.approx(truth, rel=0.2)
    assert abs(found[()] - truth) < abs(found["--axis", "as-is"] - truth)


def test_flags_go_over_the_file_and_say_so(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out.hspy"
    flags = ("--collection-mrad", 20, "--convergence-mrad", 0)
    code, said = call("super.hspy", *CHOSEN, *flags, "--map", out)
    assert code == 0, said
    assert "collection_mrad = 20 as given; the file says 36" in said
    # A parallel beam is taken as given.
    assert "convergence_mrad = 0 as given; the file says 22" in said
    with h5py.File(out) as file:
        parameters = file["Experiments/quantify why/metadata/Zeroloss/package/parameters"]
        assert parameters.attrs["collection_mrad"] == 20.0
        assert parameters.attrs["convergence_mrad"] == 0.0


def test_what_nobody_tells_of_the_microscope_is_asked_for(
    call: Call, folder: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.hspy"
    bare.write_bytes((folder / "super.hspy").read_bytes())
    with h5py.File(bare, "r+") as file:
        del file["Experiments/core loss/metadata/Acquisition_instrument"]
    for elements in (CHOSEN, ()):
        code, said = call(bare, *elements)
        assert code == 2
        assert "give --beam-kev --convergence-mrad --collection-mrad" in said
        # Before the elements are looked for, which takes long.
        assert said.count("\n") == 1
    code, said = call(bare, "--beam-kev", 200, "--convergence-mrad", 0, "--collection-mrad", 300)
    assert (code, said.count("\n")) == (2, 1)
    assert "bare.hspy: the model quantify: collection_mrad = 300 mrad, expected 0.2 to 200" in said


def test_rows_of_counts_are_told_their_axis_and_the_microscope(
    call: Call, scan: SpecimenScan, core_alone: Quantified, tmp_path: Path
) -> None:
    text = tmp_path / "rows.txt"
    np.savetxt(text, scan.core_counts.reshape(24, -1), fmt="%d")
    known = ("--beam-kev", 200, "--convergence-mrad", 22, "--collection-mrad", 36)
    energy = ("--offset-ev", scan.core.offset_ev, "--scale-ev", scan.core.scale_ev)
    out = tmp_path / "text.csv"
    code, said = call(text, *CHOSEN, *known, *energy, "--csv", out)
    assert code == 0, said
    found, expected = rows(out), rows(core_alone.csv)
    for element in ELEMENTS:
        name = f"atomic_fraction {element}"
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
    code, said = call("super.hspy", *CHOSEN, *energy)
    assert (code, "such a file holds its own energy axis" in said) == (2, True)
    code, said = call("super.hspy", *CHOSEN, "--scale-ev", 1)
    assert (code, "--offset-ev is missing" in said) == (2, True)


def spectra_of(counts: np.ndarray, offset_ev: float, scale_ev: float) -> SpectrumFile:
    """Core losses [pixels, channels] as a file."""
    return SpectrumFile(
        path=Path("made.hspy"),
        title="made",
        modality="eels",
        shape=(1, len(counts)),
        ranges=(
            EnergyRange(
                name="core_loss",
                offset_ev=offset_ev,
                scale_ev=scale_ev,
                size=counts.shape[1],
                dtype="float32",
            ),
        ),
        counts={"core_loss": counts.astype(np.float32)},
    )


def test_an_element_in_exactly_1_percent_of_the_pixels_is_found() -> None:
    energy = 400.0 + 0.5 * np.arange(1000)
    # So many counts elsewhere that the sum does not show the edge of one pixel.
    rng = np.random.default_rng(2)
    shape = (energy / 400.0) ** -3.0
    counts = rng.poisson(1e6 * shape, (100, 1000)).astype(float)
    counts[41] = rng.poisson(1e3 * (shape + 0.6 * (energy > 532) * (energy / 532.0) ** -3.0))
    identifying = ModelStore(()).get("elements_fast")
    package = find_package("quantify", ModelStore())
    for pixels, expected in ((counts, "O"), (np.vstack([counts, counts[:1]]), None)):
        quantifier = Quantifier(spectra_of(pixels, 400.0, 0.5), package, ModelStore(), "cpu")
        looked_at: list[int] = []
        if expected is None:
            with pytest.raises(ValueError, match="finds no element"):
                quantifier.find(identifying, looked_at.append)
        else:
            assert quantifier.find(identifying, looked_at.append).elements == (expected,)
        assert sum(looked_at) == len(pixels)


def test_the_sum_leaves_out_pixels_without_counts() -> None:
    counts = np.random.default_rng(1).poisson(50.0, (1300, 40)).astype(float)
    counts[[3, 700, 1299]] = np.nan
    counts[9, 7] = np.nan
    quantifier = Quantifier(
        spectra_of(counts, 400.0, 1.0), find_package("quantify", ModelStore()), ModelStore(), "cpu"
    )
    expected = counts[np.isfinite(counts).any(axis=1)].sum(axis=0, keepdims=True)
    np.testing.assert_array_equal(quantifier._sums["core_loss"], expected.astype(np.float32))
    assert np.isnan(expected).sum() == 1
    nothing = spectra_of(np.full((2, 40), np.nan), 400.0, 1.0)
    sums = Quantifier(nothing, find_package("quantify", ModelStore()), ModelStore(), "cpu")._sums
    assert np.isnan(sums["core_loss"]).all()


def test_a_recorded_run_gives_what_its_files_give(
    call: Call, with_low_loss: Quantified, folder: Path, tmp_path: Path
) -> None:
    file = read_spectrum_file(folder / "super.hspy", folder / "super-low-loss.hspy")
    start = run_start(file, t_ns=1)
    recorder = Recorder(tmp_path / "recordings", start)
    messages = [start, *blocks(file, start, 8)]
    for message in (*messages, RunEnd(run=start.run, seq=9, t_ns=2, spectra=24)):
        recorder.write(encode(message), 1)
    recorder.close()
    out = tmp_path / "run.csv"
    assert call(recorder.folder, *CHOSEN, "--csv", out)[0] == 0
    assert out.read_bytes() == with_low_loss.csv.read_bytes()
    code, said = call(recorder.folder, *LOW, *CHOSEN)
    assert (code, "a recording holds its low loss itself" in said) == (2, True)


def test_pixels_without_counts_are_told_by_the_exit_code(
    call: Call, scan: SpecimenScan, tmp_path: Path
) -> None:
    path = tmp_path / "holes.hspy"
    write_specimen(path, scan)
    with h5py.File(path, "r+") as file:
        data = file["Experiments/core loss/data"]
        counts = data[()].astype(np.float32)
        del file["Experiments/core loss/data"]
        counts[0, :3] = np.nan
        file["Experiments/core loss/data"] = counts
    table = tmp_path / "holes.csv"
    code, said = call(path, *CHOSEN, "--csv", table)
    assert code == 1
    assert "3 of 24 pixels have no answer" in said
    assert "3 no answer" in said
    found = rows(table)
    assert np.isnan(found["atomic_fraction O"]).sum() == 3
    assert found["why"][:3].tolist() == ["no answer"] * 3


def test_threads_change_no_bit(call: Call, with_low_loss: Quantified, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    assert call("super.hspy", *LOW, *CHOSEN, "--workers", 3, "--csv", out)[0] == 0
    assert out.read_bytes() == with_low_loss.csv.read_bytes()


def test_ctrl_c_leaves_nothing_behind(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zeroloss.pipeline.answers.RunModels.ask", interrupted)
    code, said = call("super.hspy", *LOW, *CHOSEN, "--csv", tmp_path / "a.csv")
    assert (code, said.count("Traceback")) == (130, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.dm4", *CHOSEN], "none.dm4: no such file"),
        # Before any file is read.
        (["none.dm4", "--elements", "Ti,Xx"], "there is no Xx, expected 1 to 8 different of"),
        (["none.dm4", "--elements", "Ti,Ti"], "one is there twice"),
        (["none.dm4", "--elements", "B,C,N,O,F,Ti,Mn,Fe,Co"], "these are 9, expected 1 to 8"),
        (["none.dm4", "--set", "quantify.elements=Ti,Xx"], "there is no Xx, expected 1 to 8"),
        (["none.dm4", "--set", "quantify.elements=8"], "there is no 8, expected 1 to 8 different"),
        (["none.dm4", "--set", "quantify.elements=Ti,O", "--ratio", "Fe/O"], "of the elements Ti"),
        (["none.dm4", "--exposure-ratio", "0"], "exposure_ratio = 0, expected"),
        (["super.hspy", "--elements", "Au"], "quantified: Au: no edge in the range; choose"),
        (["super.hspy", *CHOSEN, "--ratio", "Fe/O"], "two different of the elements O Ti Mn La"),
        (["super.hspy", *CHOSEN, "--ratio", "O"], "--ratio O: expected"),
        (["super.hspy", *CHOSEN, "--low-loss", "super.hspy"], "holds no zero-loss peak"),
        (["super.hspy", *CHOSEN, "--low-loss", "none.hspy"], "none.hspy: no such file"),
        (["super.hspy", *CHOSEN, "--map", "a.npz"], "expected a file name ending in .hspy"),
        (["super.hspy", *CHOSEN, "--map", "super.hspy"], "super.hspy exists: name another"),
        (["super.hspy", *CHOSEN, "--csv", "no/a.csv"], "there is no folder no"),
        (["super.hspy", *CHOSEN, "--workers", "0"], "--workers 0: expected 1 to 64"),
        (["super.hspy", *CHOSEN, "--beam-kev", "-1"], "--beam-kev -1: expected a number above 0"),
        (["super.hspy", *CHOSEN, "--exposure-ratio", "0"], "exposure_ratio = 0, expected"),
        (["super.hspy", *CHOSEN, "--package", "elements"], "gives no atomic_fraction of chosen"),
        (["super.hspy", *CHOSEN, "--set", "other.n=2"], "the model that runs is quantify"),
        (["super-low-loss.hspy", "--elements", "auto"], "finds no element: name them"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    call: Call, arguments: list[str], sentence: str
) -> None:
    code, said = call(*arguments)
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 1


def test_words_that_are_no_symbols_are_refused(call: Call) -> None:
    with pytest.raises(SystemExit) as stop:
        call("super.hspy", "--elements", "Ti,,O")
    assert stop.value.code == 2


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["quantify", "--help"])
    assert "zeroloss quantify scan.dm4 --elements Ti,O" in capsys.readouterr().out


@pytest.mark.parametrize("amounts", [(3.0, 1.0), (60.0, 20.0, 15.0, 5.0), (10.0, 10.0, 80.0)])
def test_the_errors_of_amounts_come_back_out_of_those_of_their_shares(
    amounts: tuple[float, ...],
) -> None:
    rng = np.random.default_rng(3)
    relative = np.geomspace(0.005, 0.02, len(amounts))
    drawn = np.array(amounts) * (1 + relative * rng.standard_normal((400_000, len(amounts))))
    shares = 100 * drawn / drawn.sum(1, keepdims=True)
    found = amount_variances(shares.mean(0), shares.std(0))
    for i, j in ((0, 1), (1, 0), (0, len(amounts) - 1)):
        ratio = drawn[:, i] / drawn[:, j]
        expected = ratio.std() / ratio.mean()
        assert np.sqrt(found[i] + found[j]) == pytest.approx(expected, rel=0.05)


NAMES = ("O", "Ti", "Mn", "Au")


@pytest.mark.parametrize(
    ("percent", "errors", "pair", "expected"),
    [
        ((60, 20, 20, 0), (1, 1, 1, 1), ("Ti", "O"), "0.3333 ± 0.02 (from the errors of the"),
        ((60, 20, 20, 0), (1, 1, np.nan, 1), ("Mn", "O"), "0.3333 (from the errors of the"),
        ((100, 0), (3, 3), ("Ti", "O"), "below 0.06 (2 standard deviations; no Ti was found)"),
        ((0, 100), (3, 3), ("Ti", "O"), "above 17 (2 standard deviations; no O was found)"),
        ((0, 0, 100), (1, 1, 1), ("Ti", "O"), "not given: neither Ti nor O was found"),
        ((60, 40, np.nan), (1, 1, np.nan), ("Mn", "O"), "not given: Mn: no edge"),
        ((np.nan, np.nan), (np.nan, np.nan), ("O", "Ti"), "not given: O and Ti: no edge"),
        ((60, 40, 0), (1, 1, np.nan), ("O", "Mn"), "no Mn was found, and its error is not known"),
        ((70, 30, 0), (99, 99, 5), ("Mn", "O"), "no Mn was found, and O is not certain either"),
        ((60, 40, 0), (np.nan, 1, 1), ("Mn", "O"), "no Mn was found, and O is not certain either"),
    ],
)
def test_ratios_are_told_in_words_where_there_is_no_number(
    percent: tuple[float, ...], errors: tuple[float, ...], pair: tuple[str, str], expected: str
) -> None:
    shares, deviations = np.array(percent, float), np.array(errors, float)
    told = ratio(NAMES[: len(shares)], shares, deviations, pair, "no edge")
    assert expected in told
    assert "nan" not in told
    assert "inf" not in told


def test_shares_that_are_not_known_or_not_there_have_no_error() -> None:
    found = amount_variances(np.array([60.0, np.nan, 40.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    assert np.isnan(found).tolist() == [False, True, False, True]
