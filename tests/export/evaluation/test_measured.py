from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from zeroloss_export.evaluation.card import Card
from zeroloss_export.evaluation.measured import (
    Spectrum,
    as_inputs,
    predict,
    read_spectra,
    read_truth,
    write_predictions,
)
from zeroloss_export.evaluation.metrics import Scores
from zeroloss_export.evaluation.scans import Scan, pixel_shares, predict_scan
from zeroloss_export.physics.elements import ELEMENTS, element_index


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    energy = np.concatenate([np.linspace(100, 200, 101), np.linspace(400, 900, 251)])
    counts = np.concatenate([np.full(101, 5.0), np.linspace(900, 100, 251)])
    counts[3] = -2.0
    path = tmp_path / "spectra.npz"
    np.savez(
        path,
        ids=np.array(["a", "b"]),
        offsets=np.array([0, 101, 352]),
        energy=energy,
        counts=counts,
    )
    (tmp_path / "index.csv").write_text("id,elements\nb,O Mn\na,Be\n", encoding="utf-8")
    return path


def _by_size(
    counts: torch.Tensor, offset_ev: torch.Tensor, scale_ev: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A predictor that claims Be below 300 eV and O above."""
    out = torch.zeros(len(counts), len(ELEMENTS))
    high = offset_ev > 300
    out[high, element_index("O")] = 0.9
    out[~high, element_index("Be")] = 0.8
    return out, torch.zeros_like(out)


def test_spectra_and_truth_are_read_and_predictions_written(archive: Path) -> None:
    spectra = read_spectra(archive)
    assert [spectrum.id for spectrum in spectra] == ["a", "b"]
    truth = read_truth(archive.with_name("index.csv"), spectra)
    assert truth.sum() == 3
    assert truth[1, element_index("Mn")]
    counts, offset, scale = as_inputs(spectra[0])
    assert torch.isnan(counts[0, 3])
    assert (float(offset), float(scale)) == (100.0, 1.0)
    assert float(as_inputs(spectra[1])[2]) == 2.0
    probability = predict(_by_size, spectra)
    out = archive.with_name("p.csv")
    write_predictions(out, spectra, probability)
    with out.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["id"] == "a"
    assert float(rows[0]["Be"]) == 0.8
    assert list(rows[0])[1:] == list(ELEMENTS)


def test_channels_left_out_of_a_file_are_not_measured() -> None:
    energy = np.concatenate([np.arange(100, 200, 4.0), np.arange(240, 400, 4.0)])
    counts, offset, scale = as_inputs(Spectrum("gap", energy, np.ones(len(energy))))
    assert (float(offset), float(scale)) == (100.0, 4.0)
    assert counts.shape == (1, 75)
    assert torch.isnan(counts[0]).nonzero()[:, 0].tolist() == list(range(25, 35))
    with pytest.raises(ValueError, match="gap: expected at least two rising energies"):
        as_inputs(Spectrum("gap", energy[::-1], np.ones(len(energy))))


def test_a_spectrum_without_truth_is_named(archive: Path) -> None:
    index = archive.with_name("index.csv")
    index.write_text("id,elements\na,Be\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no row for spectrum 'b'"):
        read_truth(index, read_spectra(archive))


def test_an_archive_without_the_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", counts=np.ones(3))
    with pytest.raises(ValueError, match="expected arrays ids, offsets, energy, counts"):
        read_spectra(tmp_path / "other.npz")


def test_pixel_shares_of_a_scan() -> None:
    scan = Scan(np.ones((10, 50), np.float32), 400.0, 1.0)
    probability = predict_scan(_by_size, scan, batch=3)
    probability[0] = 0
    assert pixel_shares(probability, 0.5) == {"O": pytest.approx(0.9)}


def test_the_card_is_written_as_page_and_as_figures(tmp_path: Path) -> None:
    card = Card("Elements", ["mixer seed 1"], 0.5)
    card.scores["measured"] = Scores(0.8, 0.7, 0.9, 0.6, 0.05)
    card.scans["scan.dm3"] = {"O": 1.0}
    card.wrong.append("x: missed O; added -")
    card.write(tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "| measured | 0.800 | 0.700 | 0.900 | 0.600 | 0.050 |" in text
    assert "| scan.dm3 | O 1.00 |" in text
    card.write(tmp_path / "card.json")
    assert '"exact_match": 0.6' in (tmp_path / "card.json").read_text(encoding="utf-8")
