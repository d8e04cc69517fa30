from __future__ import annotations

import pytest
import torch

from zeroloss_export.networks import build
from zeroloss_export.networks.convnext import ConvNext
from zeroloss_export.networks.grid import FEATURES
from zeroloss_export.networks.labels import LABELS
from zeroloss_export.networks.mixer import Mixer
from zeroloss_export.networks.warm_start import UNLIKE_LOGIT, start_from


@torch.no_grad()
def test_a_new_last_label_leaves_the_others_as_they_were() -> None:
    torch.manual_seed(0)
    old, new = Mixer(labels=LABELS - 1).eval(), Mixer().eval()
    start_from(new, old.state_dict())
    features = torch.randn(2, FEATURES, 1312)
    given = new(features)
    torch.testing.assert_close(given[:, :-1], old(features))
    assert torch.equal(given[:, -1], torch.full((2,), UNLIKE_LOGIT))


@torch.no_grad()
def test_a_check_starts_from_what_a_member_says_of_no_spectrum() -> None:
    torch.manual_seed(0)
    member, check = build("convnext_short").eval(), build("convnext_axis").eval()
    start_from(check, member.state_dict())
    features = torch.randn(2, FEATURES + 2, 1312)
    given = check(features)
    torch.testing.assert_close(given[:, 2:], member(features[:, :FEATURES])[:, -1:])
    assert not given[:, :2].any()


@pytest.mark.parametrize(
    ("short", "long", "taken"),
    [
        ("mixer_short", "mixer", {"blocks.0.inner.weight": 0, "blocks.1.inner.weight": 3}),
        ("mixer_single", "mixer", {"blocks.0.inner.weight": 0}),
        ("convnext_short", "convnext", {"stages.2.inner.weight": 2, "stages.5.inner.weight": 8}),
    ],
)
def test_a_short_network_keeps_the_first_and_the_last_blocks(
    short: str, long: str, taken: dict[str, int]
) -> None:
    torch.manual_seed(0)
    source, target = build(long), build(short)
    start_from(target, source.state_dict())
    for name, place in taken.items():
        first, _, rest = name.split(".", 2)
        assert torch.equal(
            target.get_parameter(name), source.get_parameter(f"{first}.{place}.{rest}")
        )
    assert torch.equal(target.get_parameter("head.weight"), source.get_parameter("head.weight"))


def test_weights_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="of the same kind"):
        start_from(Mixer(), ConvNext().state_dict())
    with pytest.raises(ValueError, match="at least 4 blocks in a row, got 2"):
        start_from(Mixer(), Mixer(layers=2).state_dict())
    with pytest.raises(ValueError, match=r"head\.weight differs"):
        start_from(Mixer(layers=0), Mixer(layers=0, bins=1328).state_dict())
