from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from zeroloss_export.cli import main
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS


@pytest.fixture
def cache(table: CrossSectionTable, tmp_path: Path) -> Path:
    path = tmp_path / "cross_sections.npz"
    table.save(path)
    return path


def _train(cache: Path, out: Path, *more: str) -> int:
    return main(
        [
            "train",
            "elements",
            "--out",
            str(out),
            "--cross-sections",
            str(cache),
            "--validation",
            "16",
            "--spectra",
            "24",
            "--batch",
            "8",
            *more,
        ]
    )


def test_train_and_evaluate_by_command(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mixer.pt"
    assert _train(cache, out) == 0
    energy = np.linspace(400, 900, 501)
    np.savez(
        tmp_path / "spectra.npz",
        ids=np.array(["a"]),
        offsets=np.array([0, 501]),
        energy=energy,
        counts=1e9 * energy**-2,
    )
    (tmp_path / "index.csv").write_text("id,elements\na,O\n", encoding="utf-8")
    table, card = tmp_path / "p.csv", tmp_path / "card.md"
    status = main(
        [
            "evaluate",
            "--checkpoint",
            str(out),
            "--cross-sections",
            str(cache),
            "--measured",
            str(tmp_path / "spectra.npz"),
            "--simulated",
            "32",
            "--csv",
            str(table),
            "--card",
            str(card),
            "--threshold",
            "0.5",
        ]
    )
    assert status == 0
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [set(row) for row in rows] == [{"id", *ELEMENTS}]
    text = card.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    assert "a: missed O; added -" in text


def test_a_wrong_recipe_gives_one_sentence(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(cache, tmp_path / "x.pt", "--recipe", "jump=1") == 1
    assert _train(cache, tmp_path / "x.pt", "--recipe", "jump_ratio=a,b") == 1
    assert _train(cache, tmp_path / "x.pt", "--recipe", "papper") == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        "zeroloss-export: unknown recipe field 'jump'",
        "zeroloss-export: expected --recipe FIELD=NUMBER[,NUMBER], got 'jump_ratio=a,b'",
        (
            "zeroloss-export: expected --recipe measured or paper or FIELD=NUMBER[,NUMBER], "
            "got 'papper'"
        ),
    ]


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ("train elements", "train zlp", "train paper", "evaluate", "package", "low-loss")
    for command in (*commands, "dataset", "table2"):
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        assert f"zeroloss-export {command} " in capsys.readouterr().out.split("examples:")[1]
