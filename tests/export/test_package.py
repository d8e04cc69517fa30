"""Exported packages, and the one that is embedded: does it say what is there, and only that?"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from zeroloss.models import ModelSession, load_package
from zeroloss.models.manifest import Buckets, Manifest
from zeroloss.models.store import builtin_folder
from zeroloss_export.evaluation.judged import judge_spectra
from zeroloss_export.evaluation.measured import Predictor, predict, read_spectra, read_truth
from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.evaluation.scans import PIXEL_SHARE, pixel_shares, predict_scan, read_scan
from zeroloss_export.evaluation.session import session_predictor
from zeroloss_export.networks.axis_check import AxisCheck
from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.ensemble import ElementGraph, Ensemble, Joining, Margin
from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.onnx_graph import onnx_runner
from zeroloss_export.package import (
    ANSWERS,
    AXIS_ERROR,
    EVIDENCE,
    Member,
    different_spectra,
    largest_difference,
    load_member,
    onnx_predictor,
    write_package,
)
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator

# A graph is exported and compared, which takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)

FEW = Buckets(cpu=4, gpu=(4, 16))
JOINING = Joining(caution=0.5, temperature=1.25, bias=-0.1)
MARGIN = Margin(-3.0, 0.5)
"""About what an untrained check says, so that it matters."""
EMBEDDED = builtin_folder() / "elements"


@pytest.fixture(scope="module")
def simulated(table: CrossSectionTable) -> LabelledSpectra:
    return SpectrumSimulator(table, Recipe(), 99).batch(128)


@pytest.fixture(scope="module")
def members() -> list[Member]:
    torch.manual_seed(3)
    networks = [Mixer(patch=82, width=16, layers=1), ConvNext(widths=(16, 24), depths=(1, 1))]
    # As load_member rounds them.
    networks = [network.half().float().eval() for network in networks]
    return [Member(network, "tiny", seed, 0) for seed, network in enumerate(networks)]


@pytest.fixture(scope="module")
def check() -> Member:
    torch.manual_seed(5)
    return Member(AxisCheck().half().float().eval(), "convnext_axis", 5, 7)


@pytest.fixture(scope="module")
def written(
    members: list[Member],
    check: Member,
    simulated: LabelledSpectra,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("package") / "elements"
    manifest = write_package(
        folder,
        members,
        simulated,
        version="1.2",
        threshold=0.5,
        joining=JOINING,
        check=check,
        margin=MARGIN,
        metrics={"simulated_f1": 0.12345},
        data="a test",
        buckets=FEW,
    )
    return folder, manifest


@pytest.fixture(scope="module")
def embedded() -> tuple[Predictor, Manifest]:
    package = load_package(EMBEDDED)
    return session_predictor(package), package.manifest


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
    assert read.trained.data == "a test; axis checked by convnext_axis seed 5, 7 spectra"
    assert read.trained.spectra == 7
    assert [item.name for item in read.outputs] == [*ANSWERS, AXIS_ERROR, *EVIDENCE]
    assert [item.name for item in read.outputs if item.kind == "spectrum"] == list(EVIDENCE)


def test_a_session_gives_the_evidence_on_request(
    written: tuple[Path, Manifest], simulated: LabelledSpectra
) -> None:
    session = ModelSession(load_package(written[0]))
    inputs = (simulated.counts[:5], simulated.offset_ev[:5], simulated.scale_ev[:5])
    answers = session.run(*(item.numpy() for item in inputs), outputs=EVIDENCE)
    assert {name: values.shape for name, values in answers.items()} == dict.fromkeys(
        EVIDENCE, (5, 107)
    )
    assert all(np.isfinite(values).all() for values in answers.values())


def test_weights_are_stored_as_float16_and_read_as_float32(
    written: tuple[Path, Manifest], members: list[Member], check: Member
) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(written[0] / "model.onnx").graph
    kinds = {item.name: item.data_type for item in graph.initializer}
    weight = "ensemble.members.0.head.weight"
    assert kinds[weight] == onnx.TensorProto.FLOAT16
    assert any(weight in node.input and node.op_type == "Cast" for node in graph.node)
    assert not any(weight in node.input for node in graph.node if node.op_type != "Cast")
    numbers = sum(v.numel() for item in [*members, check] for v in item.network.parameters())
    assert (written[0] / "model.onnx").stat().st_size < 2.2 * numbers + 200_000


def test_a_threshold_that_what_is_unlike_training_could_pass_is_refused(
    members: list[Member], simulated: LabelledSpectra, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"expected a threshold from 0.5 to 1, got 0.4"):
        write_package(
            tmp_path / "x",
            members,
            simulated,
            version="1",
            threshold=0.4,
            metrics={},
            data="a test",
        )
    assert not (tmp_path / "x").exists()


def test_a_checkpoint_of_before_the_label_unlike_becomes_a_member(tmp_path: Path) -> None:
    torch.manual_seed(4)
    weights = Mixer(labels=80).state_dict()
    settings = {"architecture": "mixer", "seed": 3}
    state = {"format": 1, "settings": settings, "average": weights, "seen": 12}
    torch.save(state, tmp_path / "old.pt")
    member = load_member(tmp_path / "old.pt")
    assert str(member) == "mixer seed 3, 12 spectra"
    head = member.network.get_parameter("head.weight")
    assert head.shape[0] == 81
    torch.testing.assert_close(head[:80], weights["head.weight"].half().float(), rtol=0, atol=0)


def test_spectra_that_members_share_count_once(tmp_path: Path) -> None:
    weights = Mixer(layers=1).state_dict()

    def member(name: str, seen: int, *lineage: str) -> Member:
        settings = {"architecture": "mixer_single", "seed": 3}
        state = {"format": 1, "settings": settings, "average": weights, "seen": seen}
        torch.save(state | {"lineage": list(lineage), "run": {"seed": 9}}, tmp_path / name)
        return load_member(tmp_path / name)

    old = "elements 1.0.0, member 0, 1000 spectra"
    small = member("small.pt", 1900, old, "mixer_single seed 1, 1200 spectra")
    large = member("large.pt", 1450, old, "mixer seed 2, 1100 spectra")
    other = member("other.pt", 800, "elements 1.0.0, member 1, 500 spectra")
    assert different_spectra([small, large]) == 1000 + 200 + 700
    assert different_spectra([small, large, other]) == 1000 + 500 + 300 + 700
    assert different_spectra([member("new.pt", 40), member("same_run.pt", 40)]) == 40


@pytest.mark.parametrize(("batch", "channels"), [(1, 2), (3, 77), (9, 4096)])
def test_the_graph_gives_what_torch_gives(
    written: tuple[Path, Manifest],
    members: list[Member],
    check: Member,
    batch: int,
    channels: int,
) -> None:
    predictor = onnx_predictor(written[0] / "model.onnx")
    rng = torch.Generator().manual_seed(batch)
    falling = 5e3 / torch.linspace(1.0, 5.0, channels).expand(batch, -1)
    counts = torch.poisson(falling, generator=rng)
    counts[0, 0] = torch.nan
    inputs = counts, torch.linspace(60, 900, batch), torch.linspace(0.1, 4, batch)
    networks = [member.network for member in members]
    ensemble = Ensemble(networks, JOINING, check.network, MARGIN).eval()
    with torch.no_grad():
        for expected, got in zip(ensemble(*inputs), predictor(*inputs), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
        evidence = ElementGraph(ensemble)(*inputs)[-len(EVIDENCE) :]
    runner = onnx_runner(written[0] / "model.onnx", EVIDENCE)
    for expected, got in zip(evidence, runner(*inputs), strict=True):
        torch.testing.assert_close(got, expected)


def test_a_graph_of_other_weights_is_noticed(
    written: tuple[Path, Manifest], members: list[Member], simulated: LabelledSpectra
) -> None:
    other = ElementGraph(Ensemble([members[0].network], JOINING)).eval()
    with torch.no_grad():
        assert largest_difference(other, written[0] / "model.onnx", simulated, FEW) > 1e-3


def test_the_embedded_packages_are_small_together() -> None:
    assert sum(path.stat().st_size for path in builtin_folder().rglob("*.onnx")) <= 25e6


def test_the_embedded_package_is_whole(embedded: tuple[Predictor, Manifest]) -> None:
    manifest = embedded[1]
    content = (EMBEDDED / manifest.graph.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == manifest.graph.sha256
    assert manifest.output("probability").labels == ELEMENTS
    assert len(manifest.trained.members) >= 5
    assert not manifest.when_named


def test_the_fast_package_is_one_member_and_runs_only_where_it_is_named() -> None:
    manifest = load_package(builtin_folder() / "elements_fast").manifest
    assert len(manifest.trained.members) == 1
    assert manifest.when_named
    assert [item.name for item in manifest.outputs] == [*ANSWERS, *EVIDENCE]


def test_the_embedded_network_identifies_simulated_spectra(
    embedded: tuple[Predictor, Manifest], table: CrossSectionTable
) -> None:
    # Unlike the training data these are well exposed, so that every label can be seen.
    recipe = Recipe(counts_per_ev=(1e5, 1e6), jump_ratio=(0.3, 2.0), any_window_chance=0.0)
    spectra = SpectrumSimulator(table, recipe, 4321).batch(256)
    judged = judge_spectra(embedded[0], spectra)
    threshold = embedded[1].output("probability").threshold
    assert threshold is not None
    result = scores(judged.probability, judged.present, threshold, judged.known)
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
    probability, spread, _ = embedded[0](counts, torch.tensor([300.0]), torch.tensor([1.0]))
    assert torch.isfinite(probability).all()
    assert torch.isfinite(spread).all()
    threshold = embedded[1].output("probability").threshold
    assert threshold is not None
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
    assert {element for element, share in shares.items() if share >= PIXEL_SHARE} == expected


def test_probabilities_do_not_depend_on_units_or_on_leading_empty_channels(
    embedded: tuple[Predictor, Manifest],
) -> None:
    energy = 400 + 0.5 * np.arange(1000)
    counts = 1e7 * energy**-2.5 * 100
    counts[energy > 532] *= 1.5
    row = torch.tensor(counts, dtype=torch.float32)[None]
    offset, scale = torch.tensor([400.0]), torch.tensor([0.5])
    plain = embedded[0](row, offset, scale)[0]
    scaled = embedded[0](row * 1e-3, offset, scale)[0]
    torch.testing.assert_close(scaled, plain, atol=2e-3, rtol=0)
    padded = torch.cat([torch.full((1, 200), torch.nan), row], 1)
    shifted = embedded[0](padded, offset - 100, scale)[0]
    torch.testing.assert_close(shifted, plain, atol=2e-3, rtol=0)
    assert ELEMENTS[int(plain[0].argmax())] == "O"
