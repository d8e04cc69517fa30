"""Exported packages, and the one that is embedded: does it say what is there, and only that?"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import zeroloss.models
from zeroloss.models.manifest import Buckets, Manifest
from zeroloss_export.evaluation.measured import Predictor, predict, read_spectra, read_truth
from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.evaluation.scans import pixel_shares, predict_scan, read_scan
from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.package import (
    Member,
    largest_difference,
    onnx_predictor,
    predict_simulated,
    write_package,
)
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator

FEW = Buckets(cpu=4, gpu=(4, 16))
EMBEDDED = Path(zeroloss.models.__file__).parent / "builtin" / "elements"


@pytest.fixture(scope="module")
def simulated(table: CrossSectionTable) -> LabelledSpectra:
    return SpectrumSimulator(table, Recipe(), 99).batch(128)


@pytest.fixture(scope="module")
def members() -> list[Member]:
    torch.manual_seed(3)
    networks = [Mixer(patch=82, width=16, layers=1), ConvNext(widths=(16, 24), depths=(1, 1))]
    return [Member(network.eval(), "tiny", seed, 0) for seed, network in enumerate(networks)]


@pytest.fixture(scope="module")
def written(
    members: list[Member], simulated: LabelledSpectra, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("package") / "elements"
    manifest = write_package(
        folder,
        members,
        simulated,
        version="1.2",
        threshold=0.5,
        metrics={"simulated_f1": 0.12345},
        data="a test",
        buckets=FEW,
    )
    return folder, manifest


@pytest.fixture(scope="module")
def embedded() -> tuple[Predictor, Manifest]:
    manifest = Manifest.model_validate_json((EMBEDDED / "manifest.json").read_bytes())
    return onnx_predictor(EMBEDDED / manifest.graph.file), manifest


def test_a_written_package_keeps_the_contract(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    read = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert read == manifest
    content = (folder / read.graph.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == read.graph.sha256
    assert 0 < read.graph.max_error < 1e-4
    assert read.output("probability").labels == ELEMENTS
    assert read.output("probability").uncertainty == "spread"
    assert read.takes.window_ev == (64.0, 3104.0)
    assert read.trained.metrics == {"simulated_f1": 0.1235}


@pytest.mark.parametrize(("batch", "channels"), [(1, 2), (3, 77), (9, 4096)])
def test_the_graph_gives_what_torch_gives(
    written: tuple[Path, Manifest], members: list[Member], batch: int, channels: int
) -> None:
    predictor = onnx_predictor(written[0] / "model.onnx")
    rng = torch.Generator().manual_seed(batch)
    counts = torch.poisson(torch.full((batch, channels), 50.0), generator=rng)
    counts[0, 0] = torch.nan
    inputs = counts, torch.linspace(60, 900, batch), torch.linspace(0.1, 4, batch)
    ensemble = Ensemble([member.network for member in members]).eval()
    with torch.no_grad():
        for expected, got in zip(ensemble(*inputs), predictor(*inputs), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_a_graph_of_other_weights_is_noticed(
    written: tuple[Path, Manifest], members: list[Member], simulated: LabelledSpectra
) -> None:
    predictor = onnx_predictor(written[0] / "model.onnx")
    other = Ensemble([members[0].network]).eval()
    assert largest_difference(other, predictor, simulated, FEW) > 1e-3


def test_the_embedded_package_is_whole_and_small(embedded: tuple[Predictor, Manifest]) -> None:
    manifest = embedded[1]
    content = (EMBEDDED / manifest.graph.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest.graph.sha256
    assert len(content) <= 8e6
    assert manifest.output("probability").labels == ELEMENTS
    assert len(manifest.trained.members) >= 2


def test_the_embedded_network_identifies_simulated_spectra(
    embedded: tuple[Predictor, Manifest], table: CrossSectionTable
) -> None:
    # Unlike the training data these are well exposed, so that every label can be seen.
    recipe = Recipe(counts_per_ev=(1e5, 1e6), jump_ratio=(0.3, 2.0), any_window_chance=0.0)
    spectra = SpectrumSimulator(table, recipe, 4321).batch(256)
    probability = predict_simulated(embedded[0], spectra)
    threshold = embedded[1].output("probability").threshold
    assert threshold is not None
    result = scores(probability, spectra.present.numpy() > 0, threshold, spectra.known.numpy() > 0)
    assert result.f1 > 0.7
    assert result.exact_match > 0.6


def test_the_embedded_graph_does_not_tell_where_it_was_made() -> None:
    graph = (EMBEDDED / "model.onnx").read_bytes()
    assert b"stack_trace" not in graph
    assert b".py" not in graph


@pytest.mark.parametrize("kind", ["empty", "nan", "constant", "one channel"])
def test_the_embedded_network_claims_nothing_in_a_spectrum_without_edges(
    embedded: tuple[Predictor, Manifest], kind: str
) -> None:
    counts = torch.zeros(1, 1000)
    if kind == "nan":
        counts[:] = torch.nan
    elif kind == "constant":
        counts[:] = 1000.0
    elif kind == "one channel":
        counts[0, 500] = 1e5
    probability, spread = embedded[0](counts, torch.tensor([300.0]), torch.tensor([1.0]))
    assert torch.isfinite(probability).all()
    assert torch.isfinite(spread).all()
    threshold = embedded[1].output("probability").threshold
    assert threshold is not None
    if kind != "one channel":
        assert float(probability.max()) < threshold


@pytest.mark.data
def test_the_embedded_network_is_right_on_measured_spectra(
    embedded: tuple[Predictor, Manifest], measured: Path
) -> None:
    folder = measured / "core_loss_dev"
    spectra = read_spectra(folder / "spectra.npz")
    keep = [index for index, element in enumerate(ELEMENTS) if element != "C"]
    truth = read_truth(folder / "index.csv", spectra)[:, keep]
    probability = predict(embedded[0], spectra)[:, keep]
    result = scores(probability, truth, balanced_threshold(probability, truth))
    assert result.f1 >= 0.80
    assert result.exact_match >= 0.60


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LSMO_linescan.hdf5", {"Mn", "O"}),  # the edges of La lie above the range
        ("T3_A3_region3_SI_HL2_cal.dm3", {"B", "N"}),
        ("T3_C3_region2_SI_HL_cal.dm3", {"Ca", "Fe", "O"}),
    ],
)
def test_scans_hold_their_elements(
    embedded: tuple[Predictor, Manifest], measured: Path, name: str, expected: set[str]
) -> None:
    pytest.importorskip("rsciio", reason="reading scans needs the extra hyperspy")
    probability = predict_scan(embedded[0], read_scan(measured / "spectrum_images" / name))
    threshold = embedded[1].output("probability").threshold
    assert threshold is not None
    shares = pixel_shares(probability, threshold)
    assert {element for element, share in shares.items() if share > 0.01} == expected


def test_probabilities_do_not_depend_on_units_or_on_leading_empty_channels(
    embedded: tuple[Predictor, Manifest],
) -> None:
    energy = 400 + 0.5 * np.arange(1000)
    counts = 1e7 * energy**-2.5 * 100
    counts[energy > 532] *= 1.5
    row = torch.tensor(counts, dtype=torch.float32)[None]
    offset, scale = torch.tensor([400.0]), torch.tensor([0.5])
    plain, _ = embedded[0](row, offset, scale)
    scaled, _ = embedded[0](row * 1e-3, offset, scale)
    torch.testing.assert_close(scaled, plain, atol=2e-3, rtol=0)
    padded = torch.cat([torch.full((1, 200), torch.nan), row], 1)
    shifted, _ = embedded[0](padded, offset - 100, scale)
    torch.testing.assert_close(shifted, plain, atol=2e-3, rtol=0)
    assert ELEMENTS[int(plain[0].argmax())] == "O"
