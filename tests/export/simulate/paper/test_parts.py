from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.edge_bank import Microscope
from zeroloss_export.simulate.paper.edges import PaperEdges, gathered, place
from zeroloss_export.simulate.paper.low_loss import SIZE, PaperLowLoss
from zeroloss_export.simulate.paper.recipe import PaperRecipe
from zeroloss_export.simulate.paper.structure import generic_structure, lifetime_width_ev


def test_edges_are_the_cross_sections_of_their_subshells(table: CrossSectionTable) -> None:
    edges = PaperEdges(table, torch.device("cpu"))
    labels = [group.label for group in edge_groups()]
    group = torch.tensor(sorted(labels.index(name) for name in ("O_K", "Ti_L", "Ce_M")))
    scope = Microscope(
        torch.full((3,), 90.0), torch.tensor([1.0, 6.0, 20.0]), torch.tensor([3.0, 30.0, 100.0])
    )
    value = edges.draw(group, scope).numpy()
    for row, index in enumerate(group.tolist()):
        total = np.zeros(3072)
        for part in edge_groups()[index].subshells:
            # Channels count from the rounded onset.
            late = round(part.onset_ev) - round(edge_groups()[index].onset_ev)
            entry = table.entry(part.label)
            alpha, beta = float(scope.alpha_mrad[row]), float(scope.beta_mrad[row])
            loss = part.onset_ev + np.arange(3072 - late) + 0.5
            total[late:] += table.evaluate(entry, 90.0, alpha, beta, loss)
        near = slice(0, 600)
        np.testing.assert_allclose(
            value[row, near], total[near], rtol=0.02, atol=1e-4 * total.max()
        )


def test_loop_and_gathering_place_alike() -> None:
    draw = Draw(1)
    value = draw.uniform(0.0, 1.0, 40, 300)
    row = draw.integers(0, 16, 40)
    channel = draw.integers(0, 400, 40)
    torch.testing.assert_close(
        place(value, row, channel, 17, 400), gathered(value, row, channel, 17, 400)
    )


def test_lifetime_widths_follow_seah_and_dench() -> None:
    # 50 eV above the onset, 0.2 nm: path 538 * 0.2 / 2500 + 0.41 * 0.2^1.5 * 50^0.5 nm,
    # velocity sqrt(2 * 50 eV / m) = 4.19e6 m/s, hbar = 6.582e-16 eV s.
    path_nm = 538 * 0.2 / 2500 + 0.41 * 0.2**1.5 * math.sqrt(50)
    velocity = math.sqrt(2 * 50 * 1.602177e-19 / 9.109384e-31)
    expected = 6.582120e-16 * velocity / (path_nm * 1e-9)
    width = lifetime_width_ev(torch.tensor(50.0), torch.tensor(0.2))
    assert float(width) == pytest.approx(expected, rel=1e-3)


def test_structures_stay_between_the_edge_and_ten_times_it() -> None:
    structure = generic_structure(500, PaperRecipe(), Draw(2))
    assert float(structure.max()) == pytest.approx(10.0, rel=1e-3)
    assert float(structure.min()) >= -1.0001
    # The scale is set by the dip or by the highest peak allowed.
    reached = torch.maximum(-structure.amin(1), structure.amax(1) / 10)
    torch.testing.assert_close(reached, torch.ones(500), rtol=1e-4, atol=0)


def test_low_loss_has_poisson_weights() -> None:
    recipe = PaperRecipe(thickness=(0.8, 0.8), plasmons=(2, 2))
    low_loss = PaperLowLoss(recipe)
    line = torch.zeros(6, SIZE)
    line[:, 400] = 1.0
    scattered, thickness = low_loss.scatter(line, Draw(3))
    torch.testing.assert_close(thickness, torch.full((6,), 0.8))
    weights = math.exp(-0.8) * (1 + 0.8 + 0.8**2 / 2)
    torch.testing.assert_close(scattered.sum(1), torch.full((6,), weights), rtol=1e-4, atol=0)
    assert (scattered > -1e-6).all()
    assert (scattered.argmax(1) == 400).all()


def test_a_thin_specimen_shows_the_lorentzian_zero_loss_peak() -> None:
    recipe = PaperRecipe(thickness=(0.0, 0.0), zero_loss_fwhm_ev=(3.0, 3.0))
    line = torch.zeros(1, SIZE)
    line[0, 400] = 1.0
    peak = PaperLowLoss(recipe).scatter(line, Draw(4))[0][0]
    expected = 1 / (1 + (torch.arange(-8.0, 9.0) / 1.5) ** 2)
    torch.testing.assert_close(peak[392:409] / peak[400], expected, rtol=1e-3, atol=1e-5)
