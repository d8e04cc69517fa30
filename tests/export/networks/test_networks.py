from __future__ import annotations

import pytest
import torch

from zeroloss_export.networks import LEAN, build
from zeroloss_export.networks.grid import FEATURES
from zeroloss_export.networks.labels import LABELS


@pytest.mark.parametrize("name", sorted(LEAN))
def test_networks_are_lean_and_give_a_logit_per_label(name: str) -> None:
    network = build(name).eval()
    assert network(torch.zeros(3, FEATURES, 1312)).shape == (3, LABELS)
    assert sum(value.numel() for value in network.parameters()) < 1.5e6


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(LEAN))
def test_a_network_knows_where_a_feature_lies(name: str) -> None:
    torch.manual_seed(0)
    network = build(name).eval()
    one, other = torch.zeros(1, FEATURES, 1312), torch.zeros(1, FEATURES, 1312)
    one[0, 1, 400:410] = 3.0
    other[0, 1, 800:810] = 3.0
    assert float((network(one) - network(other)).abs().max()) > 1e-4


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected an architecture of .*mixer.*got 'resnet'"):
        build("resnet")
