from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from support.zero_loss_tables import make_table
from zeroloss_export.networks.low_loss.kramers_kronig import (
    Dielectric,
    KramersKronig,
    LossCurves,
    LossGrid,
    SingleScattering,
    band_of,
)

STEP, POINTS = 0.1, 500
ENERGY = STEP * torch.arange(1, POINTS + 1, dtype=torch.float64)
BEAM_KEV, COLLECTION_MRAD = 200.0, 10.0
GAMMA = 1 + BEAM_KEV / 510.999
SPEED2 = 1 - GAMMA**-2
MV2 = 510999 * SPEED2
THETA = ENERGY / (GAMMA * MV2)
BETA = 1e-3 * COLLECTION_MRAD


class Truth(NamedTuple):
    eps: torch.Tensor
    single: torch.Tensor
    surface: torch.Tensor


def lorentz(energy: torch.Tensor) -> torch.Tensor:
    """The dielectric function of two oscillators."""
    eps = torch.ones_like(energy, dtype=torch.complex128)
    for strength, resonance, damping in ((60.0, 6.0, 2.0), (150.0, 9.0, 4.0)):
        eps = eps + strength / (resonance**2 - energy**2 - 1j * damping * energy)
    return eps


INDEX = math.sqrt(float(lorentz(torch.zeros(1, dtype=torch.float64)).real))


def truth(thickness_nm: float) -> Truth:
    """Single losses per eV of a slab, in its volume and at both surfaces."""
    eps = lorentz(ENERGY)
    loss = (-1 / eps).imag
    aperture = torch.log1p((BETA / THETA) ** 2)
    volume = thickness_nm / (math.pi * 0.0529177 * MV2) * loss * aperture
    momentum = 2 * math.pi / 2.42631e-3 * GAMMA * math.sqrt(SPEED2)
    angles = torch.atan(BETA / THETA) / THETA - BETA / (BETA**2 + THETA**2)
    boundary = 4 * eps.imag / ((1 + eps.real) ** 2 + eps.imag**2) - loss
    surface = 2 * angles * boundary / (math.pi * 0.0529177 * momentum * MV2)
    return Truth(eps, volume + surface, surface)


def plural(single: torch.Tensor) -> torch.Tensor:
    """What Poisson's statistics makes of single losses per point: powers of the sequence."""
    kernel = np.concatenate([[0.0], single.numpy()])
    total, term = np.zeros_like(kernel), kernel.copy()
    for order in range(2, 60):
        total += term
        term = np.convolve(term, kernel)[: len(kernel)] / order
    return torch.tensor(total[1:])


def solve(single: torch.Tensor, index: float = INDEX) -> Dielectric:
    solver = KramersKronig(ENERGY, STEP)
    given = [torch.tensor([value]) for value in (index, BEAM_KEV, COLLECTION_MRAD)]
    return solver(single.float()[None, None], *given)


@pytest.mark.parametrize("thickness_nm", [20.0, 100.0, 300.0])
def test_multiple_scattering_is_taken_out_exactly(thickness_nm: float) -> None:
    single = truth(thickness_nm).single * STEP
    found = SingleScattering(POINTS)(plural(single).float()[None, None])[0, 0]
    assert float((found - single).abs().max()) < 1e-5 * float(single.max())


def test_what_lies_beyond_the_range_is_not_missed() -> None:
    single = truth(200.0).single * STEP
    found = SingleScattering(200)(plural(single)[:200].float()[None, None])[0, 0]
    assert float((found - single[:200]).abs().max()) < 1e-5 * float(single.max())


@pytest.mark.parametrize("thickness_nm", [60.0, 200.0])
def test_the_dielectric_function_is_recovered(thickness_nm: float) -> None:
    true = truth(thickness_nm)
    found = solve(true.single * STEP)
    inner = (ENERGY > 2) & (ENERGY < 40)
    for got, expected in ((found.eps_real, true.eps.real), (found.eps_imag, true.eps.imag)):
        rms = (got[0, 0] - expected)[inner].square().mean().sqrt()
        assert float(rms) < 0.02 * float(true.eps.abs().max())
    assert float(found.thickness_nm) == pytest.approx(thickness_nm, rel=0.02)
    away = (found.surface_loss[0, 0] - true.surface).abs()[inner].max()
    assert float(away) < 0.1 * float(true.surface.max())


def test_a_thin_slab_loses_its_surface_share() -> None:
    found = solve(truth(20.0).single * STEP)
    assert float(found.thickness_nm) == pytest.approx(20.0, rel=0.03)


def test_another_refractive_index_is_another_thickness() -> None:
    single = truth(60.0).single * STEP
    assert float(solve(single, 3.0).thickness_nm) < float(solve(single, 1.5).thickness_nm)


def test_an_empty_spectrum_gives_finite_numbers() -> None:
    for item in solve(torch.zeros(POINTS, dtype=torch.float64)):
        assert torch.isfinite(item).all()


def test_the_loss_of_a_curve_is_in_units_of_the_zero_loss() -> None:
    table = make_table()
    grid = LossGrid(table)
    assert float(grid.energy[0]) > 0
    assert float(grid.energy[1] - grid.energy[0]) == pytest.approx(grid.step_ev)
    curve = table.curves[1, 0].exp()
    energy = table.energy_ev.float()
    loss = torch.where((energy > 5) & (energy < 8), 2.0, 0.0)
    aligned = (1e4 * curve + loss)[None]
    below = 1e4 * curve[: table.match.stop].sum()[None]
    losses = LossCurves(table, grid, table.curves)(aligned, torch.tensor([1e6]), below)
    total = 1e4 * float(curve.sum())
    assert float(losses[0, 1].sum()) == pytest.approx(float(loss.sum()) / total, rel=2e-3)


def test_the_band_is_taken_over_the_curves() -> None:
    values = torch.arange(1.0, 100.0).flip(0)[None, :, None].repeat(2, 1, 3)
    assert band_of(values)[0, :, 0].tolist() == pytest.approx([16.0, 50.0, 84.0], abs=1e-4)
