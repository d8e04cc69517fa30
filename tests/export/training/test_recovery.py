from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

import zeroloss.models
from zeroloss_export.networks import build
from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.grid import EnergyGrid
from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.networks.warm_start import start_from
from zeroloss_export.onnx_graph import export_graph, halve_weights
from zeroloss_export.training.recovery import recover_members, weights_of

pytestmark = pytest.mark.slow

BUILTIN = Path(zeroloss.models.__file__).parent / "builtin"


class _Joined(nn.Module):
    """The mean of members, as packages have it."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.grid = EnergyGrid()
        self.members = nn.ModuleList(members)

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Tensor:
        features = self.grid(counts, offset_ev, scale_ev)
        return torch.stack([member(features) for member in self.members]).mean(0)


@torch.no_grad()
def _trained(network: nn.Module) -> nn.Module:
    """No two weights alike, as after training, and exact in float16."""
    for value in network.parameters():
        value += 0.1 * torch.randn(value.shape)
    return network.half().float().eval()


@pytest.mark.parametrize("halved", [False, True])
def test_all_weights_are_found_again(halved: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    members = [
        _trained(Mixer(patch=82, width=16, layers=2)),
        _trained(ConvNext(widths=(16, 24), depths=(1, 1))),
    ]
    path = tmp_path / "graph.onnx"
    export_graph(_Joined(members), path, outputs=["logit"])
    if halved:
        halve_weights(path)
    found = weights_of(onnx.load(path).graph)
    for weights, member in zip(found, members, strict=True):
        kept = member.state_dict()
        assert weights.keys() == kept.keys()
        assert all(torch.equal(weights[key], kept[key]) for key in kept)


def test_the_embedded_members_can_be_trained_on() -> None:
    members = recover_members(BUILTIN / "elements")
    assert {member.architecture.partition("_")[0] for member in members} >= {"mixer", "convnext"}
    assert members[1].origin.endswith(", member 1")
    for member in members:
        assert member.spectra > 0
        start_from(build(member.architecture), member.weights)


def test_a_package_of_another_kind_has_no_members() -> None:
    with pytest.raises(ValueError, match="members by architecture"):
        recover_members(BUILTIN / "low_loss")
