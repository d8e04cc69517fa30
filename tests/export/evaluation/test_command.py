from __future__ import annotations

from pathlib import Path

import pytest

from zeroloss.models import load_package
from zeroloss.models.store import builtin_folder
from zeroloss_export.cli import main
from zeroloss_export.commands.evaluate_elements import TEST_SEED
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.training.trainer import VALIDATION_SEED, LearnerSettings

PACKAGE = builtin_folder() / "elements"


def _evaluate(table: CrossSectionTable, tmp_path: Path, *more: str) -> int:
    cache = tmp_path / "cross_sections.npz"
    table.save(cache)
    common = ["--cross-sections", str(cache), "--simulated", "4", *more]
    return main(["evaluate", "--package", str(PACKAGE), *common])


def test_a_folder_gets_the_full_card(
    table: CrossSectionTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "a" / "page"
    assert _evaluate(table, tmp_path, "--card", str(page)) == 0
    text = (page / "card.md").read_text(encoding="utf-8")
    package = load_package(PACKAGE)
    assert package.sha256 in text
    assert f"- threshold: {package.manifest.output('probability').threshold:.2f}" in text
    assert f"seed {TEST_SEED}" in text
    assert len(list(page.glob("*.png"))) == 4
    assert "spectra of single elements judged" in capsys.readouterr().out


def test_a_file_gets_the_scores_alone(table: CrossSectionTable, tmp_path: Path) -> None:
    card = tmp_path / "card.json"
    assert _evaluate(table, tmp_path, "--card", str(card)) == 0
    assert card.read_text(encoding="utf-8").startswith("{")
    assert not list(tmp_path.glob("**/*.png"))


def test_test_spectra_are_neither_for_training_nor_for_validation() -> None:
    assert TEST_SEED != VALIDATION_SEED
    assert LearnerSettings().seed < VALIDATION_SEED < TEST_SEED
