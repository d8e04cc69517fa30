"""Temperature and bias are found again where the test put them in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from zeroloss_export.evaluation.calibration import fit_joining, fit_margin, uncalibrated
from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.spectra import LabelledSpectra

SPECTRA, LABELS = 200, len(ELEMENTS)


class Given(Ensemble):
    """An ensemble whose logits are those of the test: the counts of the first channels."""

    def __init__(self) -> None:
        super().__init__([torch.nn.Identity()])

    def opinions(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return counts[None], torch.full((len(counts), 1), 0.1), torch.zeros(len(counts), 2)


def overconfident(temperature: float, bias: float) -> LabelledSpectra:
    """Labels drawn from 0.9 times the probabilities of calibrated logits."""
    rng = torch.Generator().manual_seed(1)
    logits = temperature * (3 * torch.randn(SPECTRA, LABELS, generator=rng) - 2)
    chance = 0.9 * torch.sigmoid(logits / temperature + bias)
    present = (torch.rand(SPECTRA, LABELS, generator=rng) < chance).float()
    known = torch.ones(SPECTRA, LABELS)
    # What is not known must not count.
    known[:, 7], present[:, 7] = 0.0, 1.0
    axis = torch.ones(SPECTRA)
    return LabelledSpectra(logits, axis, axis, present, known)


@pytest.mark.parametrize(("temperature", "bias"), [(0.7, 0.0), (1.0, -1.0), (2.0, 0.5)])
def test_the_fitted_calibration_is_that_of_the_labels(temperature: float, bias: float) -> None:
    found = fit_joining(Given(), overconfident(temperature, bias))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.bias == pytest.approx(bias, abs=0.1)


class Grid(torch.nn.Module):
    """Hands the counts on."""

    def forward(self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Tensor:
        return counts


class Column(torch.nn.Module):
    """A check whose logit is the first count, on a right axis."""

    grid = Grid

    def forward(self, features: Tensor) -> Tensor:
        return features[:, :1] * torch.tensor([0.0, 0.0, 1.0])


def of_range(channels: int) -> LabelledSpectra:
    counts = torch.arange(1001.0)[:, None] * torch.ones(channels) * channels / 5
    present = torch.zeros(1001, LABELS)
    present[:501, 3] = 1.0
    axis = torch.ones(1001)
    return LabelledSpectra(counts, axis, axis, present, torch.ones(1001, LABELS))


def test_the_margin_lets_all_but_a_share_of_good_spectra_with_an_edge_pass() -> None:
    short, long = of_range(5), of_range(10)
    margin = fit_margin(Column(), [short, short], [long], 0.02)
    at = margin.of(torch.tensor([4.0, 9.0]))
    assert at.tolist() == pytest.approx([490.0, 980.0], rel=1e-4)


def test_a_calibration_can_be_taken_back() -> None:
    logits = torch.linspace(-8, 8, 20)
    hot, plain = torch.sigmoid(logits / 1.5 + 0.4), torch.sigmoid(logits)
    unlike = np.array([[0.3]], np.float32)
    before = uncalibrated(0.7 * hot.numpy()[None], unlike, 1.5, 0.4)
    np.testing.assert_allclose(before[0], 0.7 * plain.numpy(), atol=1e-5)


def test_nothing_comes_back_of_what_was_no_spectrum() -> None:
    before = uncalibrated(np.zeros((1, 3), np.float32), np.ones((1, 1), np.float32), 1.5, 0.4)
    assert (before == 0).all()
