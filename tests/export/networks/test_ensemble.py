from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zeroloss_export.networks import build
from zeroloss_export.networks.axis_check import ERROR_EV, AxisCheck, SlopeGrid
from zeroloss_export.networks.ensemble import Ensemble, Joining, Margin
from zeroloss_export.networks.grid import FEATURES, EnergyGrid
from zeroloss_export.networks.mixer import Mixer


class Says(nn.Module):
    """A member that gives the same logits whatever it sees."""

    def __init__(self, *logits: float, labels: int = 81, last: float = -20.0) -> None:
        super().__init__()
        self.register_buffer("logits", torch.full((labels,), -20.0))
        self.get_buffer("logits")[: len(logits)] = torch.tensor(logits)
        if labels == 81:
            self.get_buffer("logits")[-1] = last

    def forward(self, features: Tensor) -> Tensor:
        return self.get_buffer("logits").expand(len(features), -1)


def power_law(spectra: int = 3, channels: int = 500) -> tuple[Tensor, Tensor, Tensor]:
    energy = 150 + torch.arange(channels).float()
    counts = 1e6 * (energy / 150) ** -3
    axis = torch.full((spectra,), 150.0), torch.full((spectra,), 1.0)
    return counts.expand(spectra, -1), *axis


MEAN = Joining(caution=0.0)


def test_the_ensemble_takes_the_mean_logit_and_the_spread_of_its_members() -> None:
    torch.manual_seed(1)
    members = [build("mixer").eval() for _ in range(2)]
    with torch.no_grad():
        mean, spread, unlike = Ensemble(members, MEAN)(*power_law())
        each = [Ensemble([member])(*power_law()) for member in members]
    logits = [torch.logit(part[0] / (1 - part[2])) for part in each]
    torch.testing.assert_close(mean / (1 - unlike), torch.sigmoid((logits[0] + logits[1]) / 2))
    assert float(spread.max()) > 0
    assert float(each[0][1].abs().max()) < 1e-6


def sigmoid(value: float) -> float:
    return float(torch.sigmoid(torch.tensor(value)))


def test_what_the_members_disagree_on_is_taken_off_and_calibrated() -> None:
    members = [Says(1.0), Says(3.0)]
    probability, spread, _ = Ensemble(members, Joining(0.5, 2.0, -0.25))(*power_law())
    assert float(probability[0, 0]) == pytest.approx(sigmoid((2.0 - 0.5) / 2 - 0.25))
    assert float(spread[0, 0]) == pytest.approx((sigmoid(1.25) - sigmoid(0.25)) / 2)


def test_what_is_unlike_training_claims_as_much_less() -> None:
    members = [Says(2.0, last=0.0), Says(4.0, last=2.0)]
    probability, spread, unlike = Ensemble(members, MEAN)(*power_law())
    share = sigmoid(1.0)
    assert unlike.shape == (3, 1)
    assert float(unlike[0, 0]) == pytest.approx(share)
    assert float(probability[0, 0]) == pytest.approx((1 - share) * sigmoid(3.0))
    assert 0 < float(spread[0, 0]) < 1 - share


@pytest.mark.parametrize("labels", [80, 81])
def test_nothing_is_claimed_where_the_gates_are_shut(labels: int) -> None:
    ensemble = Ensemble([Says(9.0, labels=labels)])
    counts, offset, scale = power_law()
    shut = counts.clone()
    shut[1] = 7.0
    probability, spread, unlike = ensemble(shut, offset, scale)
    assert unlike[:, 0].round().tolist() == [0, 1, 0]
    assert (probability[:, 0] > 0.99).tolist() == [True, False, True]
    assert float(probability[1].max()) == float(spread[1].max()) == 0


def test_a_network_of_80_labels_is_never_unsure_by_itself() -> None:
    torch.manual_seed(2)
    _, _, unlike = Ensemble([Mixer(patch=82, width=16, layers=1, labels=80).eval()])(*power_law())
    assert float(unlike.abs().max()) == 0


class Checks(nn.Module):
    """A check that says the same whatever it sees; errors of the axis in eV."""

    grid = SlopeGrid

    def __init__(self, logit: float, first_ev: float = 0.0, last_ev: float = 0.0) -> None:
        super().__init__()
        self.answer = torch.tensor([[first_ev / ERROR_EV, last_ev / ERROR_EV, logit]])

    def forward(self, features: Tensor) -> Tensor:
        return self.answer.expand(len(features), 3)


@pytest.mark.parametrize(("logit", "unlike"), [(2.25, 0.8176), (1.5, 0.0474), (-9.0, 0.0)])
def test_a_check_says_by_itself_what_is_unlike_training(logit: float, unlike: float) -> None:
    counts, _, scale = power_law()
    span = float((counts.shape[1] - 1) * scale[0])
    ensemble = Ensemble([Says(9.0)], MEAN, Checks(logit), Margin(1.5, 0.5 * 1000 / span))
    probability, _, said = ensemble(*power_law())
    assert float(said[0, 0]) == pytest.approx(unlike, abs=1e-4)
    assert float(probability[0, 0]) == pytest.approx((1 - unlike) * sigmoid(9.0), abs=1e-4)


def test_members_see_the_same_beside_a_check() -> None:
    torch.manual_seed(4)
    members = [build("mixer_single").eval()]
    with torch.no_grad():
        alone = Ensemble(members, MEAN)(*power_law())
        beside = Ensemble(members, MEAN, AxisCheck().eval(), Margin(100.0))(*power_law())
    for one, other in zip(alone, beside, strict=True):
        torch.testing.assert_close(one, other)


def test_members_see_the_spectrum_on_the_mended_axis() -> None:
    torch.manual_seed(4)
    members = [build("mixer_single").eval()]
    counts, offset, scale = power_law()
    counts[0, :3] = torch.nan
    with torch.no_grad():
        ensemble = Ensemble(members, MEAN, Checks(-9.0, 5.0, 5.0))
        logits, _, error = ensemble.opinions(counts, offset + 5, scale)
        expected, _, _ = Ensemble(members, MEAN).opinions(counts, offset, scale)
        torch.testing.assert_close(logits, expected)
        assert error.tolist() == [[5.0, 5.0]] * 3
        # Of channel 3, the first that is measured, on: 3 eV too high there, 8 eV at the last.
        stretched = Ensemble(members, MEAN, Checks(-9.0, 3.0, 8.0))
        right = offset[:1], scale[:1]
        wrong = scale[:1] + 5 / (counts.shape[1] - 4)
        shift = right[0] + 3 * scale[:1] + 3 - 3 * wrong
        logits, _, error = stretched.opinions(counts[:1], shift, wrong)
        torch.testing.assert_close(logits, expected[:, :1], atol=1e-3, rtol=1e-3)
        assert error[0].tolist() == pytest.approx([3.0, 8.0])


def test_the_check_sees_the_exponent_of_a_power_law() -> None:
    inputs = power_law()
    features = SlopeGrid()(*inputs)
    torch.testing.assert_close(features[:, :FEATURES], EnergyGrid()(*inputs))
    middle = features[0, FEATURES - 1].nonzero()[:, 0][30:-30]
    exponent = 3 * features[0, -1, middle]
    assert float(exponent.median()) == pytest.approx(-3.0, abs=0.05)
    # Where the width of the bins changes, their local mean is of another energy.
    assert float((exponent + 3.0).abs().max()) < 0.5
    shifted = SlopeGrid()(inputs[0], inputs[1] + 200, inputs[2])
    assert float(shifted[0, -1].min()) < -1.8


def test_an_empty_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])
