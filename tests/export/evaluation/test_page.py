from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zeroloss.models import ModelPackage, load_package
from zeroloss.models.store import builtin_folder
from zeroloss_export.evaluation.card import Card
from zeroloss_export.evaluation.garbage import GarbageScore
from zeroloss_export.evaluation.judged import judge
from zeroloss_export.evaluation.page import as_markdown, write_page
from zeroloss_export.evaluation.report import Report, evaluate_elements
from zeroloss_export.evaluation.session import about_package, session_predictor
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe

SEED, SPECTRA, THRESHOLD = 77, 16, 0.6


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return load_package(builtin_folder() / "elements")


@pytest.fixture(scope="module")
def report(package: ModelPackage, table: CrossSectionTable) -> Report:
    """A very short evaluation of the package that ships."""
    predictor = session_predictor(package)
    test = judge(predictor, table, Recipe(), SEED, SPECTRA)
    return evaluate_elements(predictor, table, test, THRESHOLD, seed=SEED)


def test_an_evaluation_counts_every_decision(report: Report) -> None:
    assert report.everything.decisions.sum() == report.test.known.sum()
    contested = report.test.known & (report.test.probability >= 0.01)
    assert report.contested.decisions.sum() == contested.sum()
    claims = report.test.known & (report.test.probability >= THRESHOLD)
    assert report.claimed is not None
    assert report.claimed.decisions.sum() == claims.sum()
    assert sum(row.claimed for row in report.elements) == claims.sum()
    assert [row.element for row in report.elements] == list(ELEMENTS)
    assert len(report.singles.probability) == SPECTRA // 2
    assert {row.spectra for row in report.garbage} == {SPECTRA}
    assert [row.kind for row in report.garbage if row.refused] == [
        "reversed axis: negative eV per channel"
    ]


def test_the_page_has_its_tables_and_plots(
    report: Report, package: ModelPackage, tmp_path: Path
) -> None:
    card = Card("Elements", ["mixer seed 1"], THRESHOLD)
    write_page(tmp_path / "page", card, report, about_package(package))
    text = (tmp_path / "page" / "card.md").read_text(encoding="utf-8")
    assert package.sha256 in text
    assert text.startswith("# Elements\n")
    for element in ELEMENTS:
        assert f"\n| {element} |" in text
    for row in report.garbage:
        verdict = "met" if row.refused or row.claiming == 0 else "missed"
        line = next(line for line in text.splitlines() if line.startswith(f"| {row.kind} |"))
        assert line.endswith(f"| {verdict} |")
    plots = sorted((tmp_path / "page").glob("*.png"))
    assert [plot.name for plot in plots] == [
        "conditions.png",
        "confusions.png",
        "elements.png",
        "reliability.png",
    ]
    for plot in plots:
        assert plot.read_bytes().startswith(b"\x89PNG")
        assert f"]({plot.name})" in text
        assert plot.stat().st_size < 100_000


def test_every_table_row_has_as_many_cells_as_its_head(report: Report) -> None:
    broken = GarbageScore("a kind", 3, 0.0, 0.0, 0.1, (), not_finite=2)
    more = dataclasses.replace(report, garbage=[*report.garbage, broken])
    blocks = as_markdown(Card("Elements", [], THRESHOLD), more, []).split("\n\n")
    tables = [block.splitlines() for block in blocks if block.startswith("|")]
    assert len(tables) == 7
    for rows in tables:
        assert {row.count("|") for row in rows} == {rows[0].count("|")}
    assert "(2 values not finite)" in "\n".join(blocks)
