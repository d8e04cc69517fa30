from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zeroloss_export.cli import main
from zeroloss_export.evaluation.metrics import Scores
from zeroloss_export.evaluation.table2 import (
    Budget,
    Column,
    Row,
    as_markdown,
    confused_pairs,
    measured_column,
    predict,
    simulated_column,
)
from zeroloss_export.networks.paper.grid import PaperGrid
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.spectra import LabelledSpectra


class Knowing(nn.Module):
    """Reads its answer from the first 80 bins: the brightest is the element."""

    grid = PaperGrid

    def forward(self, features: Tensor) -> Tensor:
        return 8 * features[:, 0, :80] - 4


def _spectra(elements: list[str], also: dict[str, str] | None = None) -> LabelledSpectra:
    counts = torch.full((len(elements), 3072), 1.0)
    present = torch.zeros(len(elements), 80)
    for row, element in enumerate(elements):
        present[row, ELEMENTS.index(element)] = 1
        counts[row, ELEMENTS.index(element)] = 1000.0
        if also and element in also:
            counts[row, ELEMENTS.index(also[element])] = 900.0
    zero = torch.zeros(len(elements))
    return LabelledSpectra(counts, zero, zero + 1, present, torch.ones_like(present))


def test_a_network_that_knows_is_right_everywhere() -> None:
    spectra = _spectra(["Fe", "O", "Ti", "Fe"])
    probability = predict([Knowing(), Knowing()], spectra)
    column = simulated_column(probability, spectra, probability, spectra)
    assert column.scores.f1 == 1
    assert column.scores.exact_match == 1


def test_pairs_are_counted_by_the_element_that_is_there() -> None:
    spectra = _spectra(["Er", "Er", "Tm", "O"], also={"Er": "Tm"})
    pairs = confused_pairs(predict([Knowing()], spectra), spectra, 0.5)
    assert [(pair.element, pair.claimed, pair.share) for pair in pairs] == [("Er", "Tm", 1.0)]


def test_measured_scores_come_from_the_half_that_set_no_threshold() -> None:
    random = np.random.default_rng(1)
    truth = random.random((60, 80)) < 0.03
    probability = np.where(truth, 0.9, 0.1).astype(np.float32)
    column = measured_column(probability, truth)
    assert column.scores.exact_match == 1
    assert 0.1 < column.threshold <= 0.9
    # Carbon does not count.
    carbon = ELEMENTS.index("C")
    probability[:, carbon] = 1 - probability[:, carbon]
    assert measured_column(probability, truth).scores.exact_match == 1
    with pytest.raises(ValueError, match="expected two measured spectra or more, got 1"):
        measured_column(probability[:1], truth[:1])


def test_a_budget_says_what_an_earlier_run_had_seen() -> None:
    assert str(Budget("paper", 1000, 1000, 5.2)) == "1,000 spectra, 5 min, paper recipe"
    later = str(Budget("measured", 3000, 1000, 5.2))
    assert later == "3,000 spectra, 1,000 of them in a last run, 5 min, measured recipe"


def test_the_page_holds_our_rows_and_those_of_the_paper() -> None:
    column = Column(Scores(0.91, 0.92, 0.93, 0.71, 0.05), 0.64)
    row = Row("vit seed 1", 2_000_000, column, None, 12.3, "1,000 spectra, 5 min, paper recipe")
    page = as_markdown([row], [], ["a note"])
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {17}
    assert "| vit seed 1 | 2.0 | 0.91 | 0.92 | 0.93 | 0.71 | 0.05 | 0.64 |" in page
    assert "*2 ViT + 3 U-Net of the paper*" in page
    assert "0.86 | 0.88 | 0.88 | 0.70 |  | 0.75" in page


@pytest.mark.timeout(300)
def test_table_of_trained_networks_by_command(table: CrossSectionTable, tmp_path: Path) -> None:
    cache = tmp_path / "cross_sections.npz"
    table.save(cache)
    shared = ["--cross-sections", str(cache)]
    out = [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]
    budget = ["--spectra", "32", "--batch", "16", "--validation", "16", "--seed", "1", "2"]
    more = ["--recipe", "paper", "--schedule", "plateau"]
    assert main(["train", "elements", *shared, "--out", *out, *budget, *more]) == 0
    energy = np.tile(np.linspace(400, 900, 501), 2)
    np.savez(
        tmp_path / "spectra.npz",
        ids=np.array(["a", "b"]),
        offsets=np.array([0, 501, 1002]),
        energy=energy,
        counts=1e9 * energy**-2,
    )
    (tmp_path / "index.csv").write_text("id,elements\na,O\nb,Fe O\n", encoding="utf-8")
    data = tmp_path / "set.h5"
    assert main(["dataset", *shared, "--spectra", "400", "--out", str(data)]) == 0
    page = tmp_path / "table.md"
    command = ["table2", *shared, "--networks", *out, "--measured", str(tmp_path / "spectra.npz")]
    assert main([*command, "--data", str(data), "--simulated", "24", "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| mixer seed 1 |" in text
    assert "| all 2 together |" in text
    assert "32 spectra, " in text
    assert "paper recipe" in text
    assert "set.h5, seed 1" in text
    afresh = ["table2", *shared, "--networks", out[0], "--simulated", "16", "--out", str(page)]
    assert main(afresh) == 0
    assert "16 test, 16 single spectra (drawn afresh)" in page.read_text(encoding="utf-8")
