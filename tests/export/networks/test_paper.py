"""The networks of Annys et al.: sizes at full size (without memory), behaviour at small sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from zeroloss_export.networks import ARCHITECTURES, build
from zeroloss_export.networks.ensemble import Ensemble, Joining
from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.networks.paper import PAPER
from zeroloss_export.networks.paper.cct import PaperCct
from zeroloss_export.networks.paper.cnn import PaperCnn
from zeroloss_export.networks.paper.grid import PAPER_BINS, PaperGrid
from zeroloss_export.networks.paper.mlp import PaperMlp
from zeroloss_export.networks.paper.resnet import PaperResnet
from zeroloss_export.networks.paper.unet import PaperUnet
from zeroloss_export.networks.paper.vit import PaperVit
from zeroloss_export.onnx_graph import export_graph
from zeroloss_export.package import ANSWERS, load_member, onnx_predictor
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.training.loss import identification_loss
from zeroloss_export.training.trainer import LearnerSettings, Settings, Trainer

MILLIONS = {
    "paper_mlp": 56,
    "paper_cnn": 45,
    "paper_resnet": 41,
    "paper_unet": 20,
    "paper_vit": 2,
    "paper_cct": 5,
}
"""Table 2 of the paper."""

SMALL: dict[str, Callable[[], nn.Module]] = {
    "paper_mlp": lambda: PaperMlp(widths=(64, 32)),
    "paper_cnn": lambda: PaperCnn(stages=((4,), (4, 8), (8,)), hidden=16),
    "paper_resnet": lambda: PaperResnet(widths=(4, 8, 12), depths=(1, 2, 1)),
    "paper_unet": lambda: PaperUnet(widths=(2, 4, 8), head_widths=(32, 16)),
    "paper_vit": lambda: PaperVit(patch=64, width=16, layers=1, heads=2),
    "paper_cct": lambda: PaperCct(widths=(4, 8, 16), layers=1, heads=2),
}


def _size(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("name", sorted(PAPER))
def test_sizes_are_those_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        network = build(name).eval()
        assert network(torch.zeros(3, 1, PAPER_BINS)).shape == (3, 80)
    # The paper rounds to a million.
    assert abs(_size(network) / 1e6 - MILLIONS[name]) <= max(0.05 * MILLIONS[name], 0.5)


@pytest.mark.parametrize(("name", "exact"), [("paper_unet", 19_843_377), ("paper_vit", 2_009_937)])
def test_members_of_the_ensemble_have_the_published_count(name: str, exact: int) -> None:
    with torch.device("meta"):
        assert _size(build(name)) == exact


def test_the_resnet_has_35_layers() -> None:
    with torch.device("meta"):
        network = build("paper_resnet")
    layers = [part for part in network.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == 35


def test_the_input_is_the_normalised_padded_intensity() -> None:
    counts = torch.rand(2, 500) * 1e4 + 100
    counts[1, 40:50] = torch.nan
    features = PaperGrid()(counts, torch.tensor([100.0, 20.0]), torch.tensor([1.0, 0.5]))
    assert features.shape == (2, 1, 3072)
    torch.testing.assert_close(features[0, 0, 100:600], counts[0] / counts[0].max())
    assert (features[0, 0, :100] == 0).all()
    assert (features[0, 0, 600:] == 0).all()
    assert float(features[1].max()) == 1.0
    assert (features[1, 0, 41:44] == 0).all()
    assert (features[1, 0, 50:260] > 0).all()
    assert (features[1, 0, 270:] == 0).all()


@pytest.mark.parametrize("value", [0.0, torch.nan, 1e-30, 1e30])
def test_empty_and_extreme_spectra_stay_finite(value: float) -> None:
    counts = torch.full((2, 64), value)
    features = PaperGrid()(counts, torch.tensor([100.0, 5000.0]), torch.tensor([1.0, 0.1]))
    assert torch.isfinite(features).all()
    assert float(features.max()) <= 1.0


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_few_training_steps_lower_the_loss(name: str) -> None:
    torch.manual_seed(2)
    network = SMALL[name]()
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    features = torch.rand(8, 1, PAPER_BINS)
    present = (torch.rand(8, 80) < 0.1).float()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(4):
        loss = identification_loss(network(features), present, torch.ones(8, 80), 0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.01
    missing = [key for key, value in network.named_parameters() if value.grad is None]
    assert not missing


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_network_knows_where_a_feature_lies(name: str) -> None:
    torch.manual_seed(0)
    network = SMALL[name]().eval()
    one, other = torch.zeros(1, 1, PAPER_BINS), torch.zeros(1, 1, PAPER_BINS)
    one[..., 512:528] = 1.0
    other[..., 1536:1552] = 1.0
    assert float((network(one) - network(other)).abs().max()) > 1e-4


@torch.no_grad()
def test_members_of_an_ensemble_each_see_the_bins_they_declare() -> None:
    torch.manual_seed(4)
    lean = Mixer(patch=82, width=16, layers=1, labels=80).eval()
    paper = [SMALL["paper_vit"]().eval(), SMALL["paper_mlp"]().eval()]
    counts = (1e3 + torch.rand(3, 700)) / torch.linspace(1, 3, 700)
    inputs = counts, torch.full((3,), 90.0), torch.full((3,), 1.5)
    mixed = Ensemble([paper[0], lean, paper[1]], Joining(caution=0.0)).eval()
    alone = [Ensemble([member]).eval()(*inputs)[0] for member in (paper[0], lean, paper[1])]
    expected = torch.sigmoid(torch.logit(torch.stack(alone)).mean(0))
    torch.testing.assert_close(mixed(*inputs)[0], expected)
    assert len(mixed.grids) == 2
    assert mixed.window_ev == (-0.5, 3104.0)
    assert Ensemble(paper).window_ev == (-0.5, 3071.5)


@torch.no_grad()
def test_the_exported_ensemble_gives_what_torch_gives(tmp_path: Path) -> None:
    torch.manual_seed(5)
    members = [SMALL[name]().eval() for name in ("paper_vit", "paper_unet")]
    for member in members:
        for part in member.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    ensemble = Ensemble(members).eval()
    export_graph(ensemble, tmp_path / "model.onnx", ANSWERS)
    predictor = onnx_predictor(tmp_path / "model.onnx")
    for batch, channels in ((1, 2), (3, 1500)):
        counts = (1e3 + torch.rand(batch, channels)) / torch.linspace(1, 3, channels)
        counts[0, 0] = torch.nan
        inputs = counts, torch.linspace(80, 300, batch), torch.linspace(0.3, 2, batch)
        for expected, got in zip(ensemble(*inputs), predictor(*inputs), strict=True):
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


def test_the_trainer_saves_and_loads_what_batch_normalisation_has_seen(
    table: CrossSectionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "small_unet", SMALL["paper_unet"])
    settings = Settings(spectra=32, batch=8, validation=8, warmup_spectra=8)
    trainer = Trainer(settings, [LearnerSettings("small_unet")], Recipe(), table)
    trainer.run([tmp_path / "unet.pt"])
    average = trainer.learners[0].average
    seen = {key: value for key, value in average.named_buffers() if "running" in key}
    assert all(
        not torch.equal(value, torch.full_like(value, float("var" in key)))
        for key, value in seen.items()
    )
    member = load_member(tmp_path / "unet.pt")
    assert member.spectra == 32
    loaded = dict(member.network.named_buffers())
    assert all(torch.equal(loaded[key], value.half().float()) for key, value in seen.items())


@torch.no_grad()
def test_a_full_size_vision_transformer_is_trained_by_the_trainer(table: CrossSectionTable) -> None:
    settings = Settings(spectra=2, batch=2, validation=2, warmup_spectra=1)
    trainer = Trainer(settings, [LearnerSettings("paper_vit")], Recipe(), table)
    network = trainer.learners[0].network
    before = network.get_parameter("head.weight").clone()
    with torch.enable_grad():
        loss = trainer._step()[0]
    assert 0 < loss < 5
    assert not torch.equal(before, network.get_parameter("head.weight"))
    assert trainer.predict_validation()[0].shape == (2, 80)
