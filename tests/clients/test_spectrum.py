"""Spectra asked of a daemon: through LiveMaps, into files and HyperSpy, and by the command."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from support.live import MappedRun, make_run_start, publisher
from support.polling import poll_until
from zeroloss.cli import main
from zeroloss.recording.spectrum_files import read_spectrum_file
from zeroloss.wire.limits import MAX_ASKED_PIXELS
from zeroloss_clients import LiveMaps, PixelError, Spectrum, SpectrumRefusedError, SummedSpectra
from zeroloss_clients.spectrum import flat_pixels
from zeroloss_clients.spectrum_files import SpectrumFileError, write_spectra
from zeroloss_clients.terminal.plot import plot_lines

SHAPE = (5, 20)


@pytest.fixture(scope="module")
def half():
    """A publisher with a run whose first 50 of 100 pixels came: pixel p has p + c counts."""
    start = make_run_start(SHAPE, beam_kev=200.0, convergence_mrad=25.0, collection_mrad=50.0)
    source = MappedRun(start)
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, 50, 0.3)
        yield publishing


@pytest.fixture(scope="module")
def run(half):
    with LiveMaps(half.maps_endpoint, half.requests_endpoint) as maps:
        found = maps.wait_for_run(10)
        poll_until(lambda: (found.coverage == 2).sum() == 50)
        yield found


def expected(pixels):
    return np.array(pixels)[:, None].sum() + len(pixels) * np.arange(8.0)


@pytest.mark.parametrize(
    ("where", "pixels", "empty"),
    [
        ({"rows": 1, "columns": 3}, [23], 0),
        ({"rows": (1, 3), "columns": (18, 20)}, [38, 39, 58, 59], 2),
        ({"columns": 0}, [0, 20, 40, 60, 80], 2),
        ({"pixels": [(0, 7), (2, 1), (0, 7)]}, [7, 41], 0),
        ({"pixels": np.array([99, 3])}, [3, 99], 1),
        ({"pixels": np.arange(100).reshape(SHAPE) < 4}, [0, 1, 2, 3], 0),
        ({}, list(range(100)), 50),
    ],
)
def test_pixels_can_be_named_in_many_ways(run, where, pixels, empty):
    found = run.spectrum(**where)
    assert (found.pixels, found.counted, found.empty) == (len(pixels), len(pixels) - empty, empty)
    spectrum = found["raw/core"]
    np.testing.assert_array_equal(spectrum, expected([p for p in pixels if p < 50]))
    np.testing.assert_array_equal(spectrum.energies_ev, 500.0 + np.arange(8))
    assert (spectrum.unit, spectrum.kind, spectrum.range_name) == ("counts", "raw", "core")
    assert list(found) == ["raw/core"]


def test_the_newest_run_is_asked_by_default(half):
    with LiveMaps(half.maps_endpoint, half.requests_endpoint) as maps:
        maps.wait_for_run(10)
        assert maps.spectrum(rows=0, columns=0, what="raw/core").counted == 1


def test_what_can_be_asked_for(run):
    assert run.askable == (
        "raw/core",
        "elements/probability",
        "elements/spread",
        "elements/thickness",
    )
    with pytest.raises(KeyError, match="was not asked for; there are raw/core"):
        run.spectrum(rows=0)["raw/low"]


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ({"pixels": (0, 1)}, "expected pairs"),
        ({"pixels": [(5, 0)]}, "outside the map of 5 x 20"),
        ({"pixels": [(0, -1)]}, "outside the map of 5 x 20"),
        ({"pixels": np.array([100])}, "outside the map"),
        ({"pixels": np.array([-1])}, "outside the map"),
        ({"pixels": np.zeros(SHAPE, bool)}, "0 pixels: one request takes 1 to"),
        ({"pixels": np.zeros((20, 5), bool)}, "expected pairs"),
        ({"pixels": [(0.5, 1.0)]}, "expected pairs"),
        ({"pixels": [(0, 0)], "rows": 1}, "not both"),
        ({"rows": 5}, r"rows \[5, 6\)"),
        ({"columns": (4, 4)}, r"columns \[4, 4\)"),
        ({"rows": (-1, 2)}, r"rows \[-1, 2\)"),
    ],
)
def test_pixels_that_cannot_be_asked_for(run, where, sentence):
    with pytest.raises(PixelError, match=sentence):
        run.spectrum(**where)


def test_more_pixels_than_one_request_takes():
    shape = (1024, 1024)
    with pytest.raises(PixelError, match=f"takes 1 to {MAX_ASKED_PIXELS}"):
        flat_pixels(np.ones(shape, bool), shape)


def test_the_refusal_of_the_daemon_is_the_error(run):
    with pytest.raises(SpectrumRefusedError, match="nothing is called elements/nothing"):
        run.spectrum(rows=0, what=["elements/nothing"])
    with pytest.raises(SpectrumRefusedError, match="no usable spectrum has come"):
        run.spectrum(rows=4)
    with pytest.raises(SpectrumRefusedError, match="17 entries, cap 16"):
        run.spectrum(rows=0, what=[f"raw/{index}" for index in range(17)])


def test_a_daemon_that_is_gone_is_not_waited_for_for_ever():
    with publisher() as publishing:
        publishing.open(MappedRun(make_run_start(SHAPE)))
        with LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint) as maps:
            run = maps.wait_for_run(10)
            publishing.close()
            with pytest.raises(TimeoutError, match=r"no answer .* within 0.2 s"):
                run.spectrum(rows=0, timeout_s=0.2)


def summed(**arrays):
    """An answer made by hand: values by name."""
    start = make_run_start(SHAPE, title="a: b")
    spectra = {}
    for name, (kind, values, offset_ev, labels) in arrays.items():
        values = np.array(values, np.float32)
        energies = None if offset_ev is None else offset_ev + 0.5 * np.arange(values.shape[-1])
        spectra[name] = Spectrum(name, kind, values, energies, "eV", labels, "core")
    return SummedSpectra(start, spectra, 4, 5, 1, {"no valid channel": 2}, "recording")


def test_curves_and_words():
    found = summed(
        band=("spectrum", [[1, 2, 3], [4, 5, np.nan]], 10.0, ("low", "high")),
        plain=("spectrum", [1, 2], 0.0, ()),
        gap=("scalar", 1.25, None, ()),
        missing=("scalar", np.nan, None, ()),
        phase=("label", 1, None, ("vacuum", "diamond")),
        present=("probability", [0.5, 1], None, ("C", "N")),
    )
    assert {name: list(item) for name, item in found["band"].curves.items()}.keys() == {
        "low",
        "high",
    }
    assert list(found["plain"].curves) == ["plain"]
    texts = [found[name].text for name in ("gap", "missing", "phase", "present")]
    assert texts == ["1.25 eV", "no value", "diamond", "C 0.5 N 1"]
    with pytest.raises(ValueError, match="gap is no spectrum"):
        _ = found["gap"].curves


def test_a_csv_file_is_read_by_people_and_by_zeroloss(run, tmp_path):
    path = tmp_path / "sum.csv"
    write_spectra(path, run.spectrum(rows=(0, 2)))
    signal = read_spectrum_file(path)
    assert signal.ranges[0].offset_ev == 500.0
    found = summed(
        band=("spectrum", [[1, 2], [4, np.nan]], 10.0, ("low", "high")),
        gap=("scalar", 1.25, None, ()),
    )
    write_spectra(path, found)
    lines = path.read_text("utf-8").splitlines()
    assert lines[1].startswith("# 5 spectra of 4 pixels summed, 1 of them gave none, 2 left out: ")
    assert lines[2:] == ["# gap = 1.25 eV", "energy_ev,band low,band high", "10,1,4", "10.5,2,nan"]


def test_files_refuse_what_they_cannot_hold(tmp_path):
    two = summed(a=("spectrum", [1, 2], 0.0, ()), b=("spectrum", [1, 2], 5.0, ()))
    with pytest.raises(SpectrumFileError, match="have different energy axes"):
        write_spectra(tmp_path / "two.csv", two)
    with pytest.raises(SpectrumFileError, match="holds one spectrum"):
        write_spectra(tmp_path / "two.msa", two)
    assert list(tmp_path.iterdir()) == []


def test_an_npz_file_holds_everything(tmp_path):
    found = summed(
        **{"m/band": ("spectrum", [[1, 2], [4, 5]], 10.0, ("low", "high"))},
        gap=("scalar", 1.25, None, ()),
    )
    write_spectra(tmp_path / "all.npz", found)
    with np.load(tmp_path / "all.npz", allow_pickle=False) as saved:
        assert set(saved) == {"about", "m/band", "m/band:energies_ev", "gap"}
        np.testing.assert_array_equal(saved["m/band"], found["m/band"])
        np.testing.assert_array_equal(saved["m/band:energies_ev"], [10.0, 10.5])
        about = json.loads(str(saved["about"]))
    assert about["counted"] == 5
    assert about["answers"]["m/band"]["labels"] == ["low", "high"]


def test_an_msa_file_is_read_by_others(run, tmp_path):
    msa = pytest.importorskip("rsciio.msa")
    write_spectra(tmp_path / "one.msa", run.spectrum(rows=0, columns=4))
    (signal,) = msa.file_reader(tmp_path / "one.msa")
    np.testing.assert_array_equal(signal["data"], 4 + np.arange(8))
    assert (signal["axes"][0]["offset"], signal["axes"][0]["scale"]) == (500.0, 1.0)
    assert signal["metadata"]["Signal"]["signal_type"] == "EELS"
    assert signal["metadata"]["Acquisition_instrument"]["TEM"]["beam_energy"] == 200.0


@pytest.mark.filterwarnings("default")  # of the libraries that HyperSpy brings
def test_a_spectrum_becomes_a_hyperspy_signal(run):
    pytest.importorskip("exspy")
    found = run.spectrum(rows=0, columns=(2, 4))
    signal = found.to_hyperspy()
    assert signal.metadata.Signal.signal_type == "EELS"
    (axis,) = signal.axes_manager.signal_axes
    assert (axis.offset, axis.scale, axis.units) == (500.0, 1.0, "eV")
    np.testing.assert_array_equal(signal.data, found["raw/core"])
    assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    assert signal.metadata.Acquisition_instrument.TEM.Detector.EELS.collection_angle == 50.0
    assert signal.metadata.zeroloss.counted == 2
    many = summed(band=("spectrum", [[1, 2, 3], [4, 5, 6]], 10.0, ("low", "high")))
    stack = many.to_hyperspy("band")
    assert stack.data.shape == (2, 3)
    assert stack.metadata.zeroloss.labels == ["low", "high"]


def test_hyperspy_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "exspy", None)
    with pytest.raises(ImportError, match=r'pip install "zeroloss\[hyperspy\]"'):
        summed(plain=("spectrum", [1, 2], 0.0, ())).to_hyperspy()


# In the terminal.


@pytest.mark.parametrize("blocks", [True, False])
def test_the_plot_of_a_spectrum(blocks):
    energies = np.arange(400.0)
    values = np.where(energies < 200, 1.0, 10.0)
    values[:100] = np.nan
    lines = plot_lines(energies, values, columns=51, lines=12, blocks=blocks)
    assert len(lines) == 12
    assert max(map(len, lines)) <= 51
    assert lines[0].split("|")[0].strip() == "10"
    full = "█" if blocks else "#"
    assert lines[0].split("|")[1] == " " * 20 + full * 20
    assert lines[-3].split("|")[1].strip() != ""
    assert lines[-3].split("|")[1].startswith(" " * 10)
    assert lines[-1].split() == ["0", "399", "eV"]


def test_the_plot_of_counts_over_many_decades():
    energies, values = np.arange(3.0), np.array([1.0, 0.0, 1e6])
    lines = plot_lines(energies, values, columns=80, lines=6, log=True)
    assert (lines[0].split("|")[0].strip(), lines[-3].split("|")[0].strip()) == ("1e+06", "1")
    assert lines[-3].split("|")[1][1] == " "
    assert plot_lines(energies, np.full(3, np.nan), columns=80, lines=6) == ["no channel is valid"]


def ask(half, *arguments):
    return main(["spectrum", "--requests", half.requests_endpoint, *arguments])


def test_the_command_draws_a_pixel(half, capsys):
    assert ask(half, "--pixel", "0", "3") == 0
    out = capsys.readouterr().out
    assert "1 spectrum of 1 pixel summed" in out
    assert "raw/core (counts)" in out
    assert "500 507 eV" in out


def test_the_command_tells_incomplete_regions_by_its_exit_code(half, capsys):
    assert ask(half, "--region", "2:3,:", "--log") == 1
    assert "10 spectra of 20 pixels summed, 10 of them gave none" in capsys.readouterr().out


def test_the_command_lists_what_can_be_asked_for(half, run, capsys):
    assert ask(half, "--list", "--run", run.run.hex()) == 0
    assert capsys.readouterr().out.split() == list(run.askable)


@pytest.mark.parametrize("suffix", ["csv", "npz", "msa"])
def test_the_command_writes_a_file_once(half, tmp_path, suffix, capsys):
    path = tmp_path / f"sum.{suffix}"
    arguments = ["--pixel", "0", "1", "--pixel", "0", "2", "--out", str(path)]
    assert ask(half, *arguments) == 0
    assert path.stat().st_size > 100
    assert ask(half, *arguments) == 2
    assert "exists: name another file or add --force" in capsys.readouterr().err
    assert ask(half, *arguments, "--force") == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "which pixels? Give --pixel"),
        (["--pixel", "9", "0"], "a pixel outside the map of 5 x 20 pixels"),
        (["--region", "0:9,:"], "rows [0, 9)"),
        (["--pixel", "0", "0", "--what", "x/y"], "nothing is called x/y"),
        (["--pixel", "0", "0", "--out", "sum.txt"], "expected a file name ending in .csv"),
        (["--list", "--run", "00" * 16], "is not known here"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(half, arguments, sentence, capsys):
    assert ask(half, *arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--region", "3,4"], "expected R0:R1,C0:C1"),
        (["--pixel", "0", "0", "--region", ":,:"], "not allowed with"),
        (["--list", "--timeout", "0"], "expected seconds above zero"),
        (["--list", "--run", "abc"], "expected the 32 hex digits"),
    ],
)
def test_senseless_flags(half, arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        ask(half, *arguments)
    assert sentence in capsys.readouterr().err


def test_no_daemon_is_one_sentence(capsys):
    arguments = ["--list", "--requests", "tcp://127.0.0.1:9", "--timeout", "0.2"]
    assert main(["spectrum", *arguments]) == 2
    assert "is a daemon running there?" in capsys.readouterr().err
