from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.low_loss_spectra import INSTRUMENT
from zeroloss.models import ModelSession, load_package
from zeroloss.models.check import try_out
from zeroloss_export.cli import main
from zeroloss_export.simulate.low_loss import LowLossScan, specimen_scan, vacuum_scan
from zeroloss_export.simulate.low_loss_file import write_scan


@pytest.fixture(scope="module")
def vacuum() -> LowLossScan:
    return vacuum_scan(1, (4, 5), INSTRUMENT)


@pytest.fixture(scope="module")
def files(vacuum: LowLossScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_scan(folder / "vacuum.hspy", vacuum)
    write_scan(folder / "flake.hspy", specimen_scan(2, (8, 8), INSTRUMENT))
    write_scan(folder / "core.hspy", vacuum_scan(1, (2, 2), replace(INSTRUMENT, offset_ev=100.0)))
    write_scan(folder / "short.hspy", vacuum_scan(1, (2, 2), replace(INSTRUMENT, channels=100)))
    dark = np.zeros_like(vacuum.counts)
    write_scan(folder / "dark.hspy", vacuum, dark)
    return folder


# The export of the graph alone takes half a minute of a quiet core.
@pytest.mark.timeout(900)
@pytest.mark.slow
def test_a_vacuum_scan_becomes_a_package_that_answers(
    files: Path, vacuum: LowLossScan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zero_loss"
    status = main(
        [
            *("train", "zlp", str(files / "vacuum.hspy")),
            *("--specimen", str(files / "flake.hspy")),
            *("--lines", "3", "--clusters", "1", "--replicas", "8", "--no-gap", "--peaks", "0"),
            *("--out", str(out)),
        ]
    )
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "15 of 15 spectra with a sound zero-loss peak, 1 cluster" in printed.out
    stages = r"[\d.]+ s \(reading [\d.]+, training .*, export and comparison .*, report [\d.]+\)"
    assert re.search(stages, printed.out)
    report = tmp_path / "zero_loss-report"
    names = {path.name for path in report.iterdir()}
    assert names == {"report.md", "fit.png", "band.png", "cost.png"}
    package = load_package(out)
    trained = package.manifest.trained
    assert trained.spectra == 15
    assert trained.data == "vacuum: vacuum.hspy"
    assert trained.metrics["replicas_trained"] == 8
    assert trained.metrics["chi2_per_point"] < 2
    # Compared on spectra that it answers: exactly the same would be no answer at all.
    assert package.manifest.graph.max_error > 0
    session = ModelSession(package)
    try_out(session, INSTRUMENT.channels)
    # The line that was not trained on.
    rows = vacuum.counts[3].astype(np.float32)
    answer = session.run(rows, INSTRUMENT.offset_ev, INSTRUMENT.scale_ev)
    assert (answer["reason"] == 0).all()
    departure = answer["zero_loss_shift"].ravel() - vacuum.shift_ev[3]
    # The vertex of an asymmetric core lies beside its maximum, by the same in every pixel.
    assert np.ptp(departure) < 0.005
    assert np.abs(departure).max() < 0.03
    np.testing.assert_allclose(answer["zero_loss_width"], INSTRUMENT.peak.fwhm_ev, rtol=0.08)
    axis = package.manifest.output("subtracted").axis
    assert axis is not None
    left = answer["subtracted"][:, 1]
    energy = axis.offset_ev + axis.scale_ev * np.arange(left.shape[-1])
    tail = (energy > 2.0) & (energy < 6.0)
    zero = answer["zero_loss"][:, 1]
    # A vacuum without its zero loss is nothing but noise, which the mean over the tail averages.
    share = np.nanmean(left[:, tail], 1) / np.nanmean(zero[:, tail], 1)
    assert np.abs(share).max() < 0.1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["core.hspy"], "core.hspy: no energy range holds the zero loss at 0 eV"),
        (["short.hspy", "--mode", "sample"], "too few measured channels beside the peak"),
        (["dark.hspy"], "none of the 20 spectra has a zero-loss peak to train on"),
        (["vacuum.hspy", "core.hspy"], "core.hspy: no energy range holds the zero loss"),
        (["vacuum.hspy", "--lines", "0"], "0 lines of a scan: expected 1 or more"),
        (["vacuum.hspy", "--clusters", "99"], "99 clusters: expected 1 to 20"),
        (["vacuum.hspy", "--replicas", "1"], "1 replicas: expected at least 2"),
        (
            ["flake.hspy", "--mode", "sample", "--ruling", "3", "--gone", "2"],
            "the zero loss cannot be gone from 2 eV on while it rules up to 3.00 eV",
        ),
        (["vacuum.hspy", "--match", "2", "1"], "the matching window, 2.00 to 1.00 eV, holds 0"),
        (["vacuum.hspy", "--gap-range", "3", "2"], "a gap cannot be looked for from 3.00 to 2.00"),
        (["vacuum.hspy", "--condition", "beam_kev=a"], "expected --condition NAME=NUMBER,NUMBER"),
        (["vacuum.hspy", "--condition", "slit"], "vacuum.hspy does not tell slit"),
        (["vacuum.hspy", "--specimen", "core.hspy"], "core.hspy: no energy range holds"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(
    arguments: list[str],
    sentence: str,
    files: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = [str(files / item) if item.endswith(".hspy") else item for item in arguments]
    assert main(["train", "zlp", *told, "--out", str(tmp_path / "zl")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("zeroloss-export: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "zl").exists()


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "zl"
    assert main(["train", "zlp", str(tmp_path / "none.hspy"), "--out", str(out)]) == 1
    assert "none.hspy" in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "zlp", "--help"])
    printed = capsys.readouterr().out
    assert "zeroloss-export train zlp" in printed
    assert "--specimen" in printed
