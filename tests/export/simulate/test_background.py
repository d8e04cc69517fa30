from __future__ import annotations

import math

import pytest
import torch

from zeroloss_export.simulate.background import power_laws, scatter, waves
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.recipe import Recipe

AXIS = 48.0 + torch.arange(1000).float()


def test_plural_scattering_multiplies_the_intensity_by_exp_t() -> None:
    recipe = Recipe(thickness=(0.7, 0.7), deconvolved_chance=0.0)
    line = torch.zeros(4, 3072)
    line[:, 500] = 1.0
    total = scatter(line, recipe, Draw(1)).sum(1)
    torch.testing.assert_close(total, torch.full((4,), math.exp(0.7)), rtol=1e-3, atol=0)


def test_deconvolved_spectra_are_only_broadened_by_the_zero_loss_peak() -> None:
    recipe = Recipe(deconvolved_chance=1.0, zero_loss_fwhm_ev=(4.0, 4.0))
    line = torch.zeros(1, 3072)
    line[0, 500] = 1.0
    out = scatter(line, recipe, Draw(1))[0]
    assert int(out.argmax()) == 500
    assert float(out[502] / out[500]) == pytest.approx(0.5, rel=0.05)
    torch.testing.assert_close(out[490:500], out[501:511].flip(0), rtol=1e-3, atol=1e-5)


def test_power_laws_are_one_at_the_reference_and_fall() -> None:
    reference = torch.tensor([100.0, 400.0, 800.0])
    out = power_laws(AXIS, reference, Recipe(), Draw(2))
    at = (reference - 48).long()
    torch.testing.assert_close(out[torch.arange(3), at], torch.ones(3))
    assert (out.diff(dim=1) < 0).all()


def test_waves_can_be_switched_off() -> None:
    assert (waves(AXIS, 8, Recipe(waves_chance=0.0), Draw(3)) == 1).all()
    out = waves(AXIS, 64, Recipe(waves_chance=1.0, waves=(0.01, 0.01)), Draw(3))
    assert 0.005 < float((out - 1).abs().max()) <= 0.0141
