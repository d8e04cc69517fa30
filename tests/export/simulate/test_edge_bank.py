from __future__ import annotations

import numpy as np
import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.edges import edge_groups, subshells
from zeroloss_export.simulate.edge_bank import EdgeBank, Microscope

LABELS = ["O_K", "Ti_L3", "Ag_M5", "Ce_N5", "Ce_M4"]


@pytest.fixture(scope="module")
def bank(table: CrossSectionTable) -> EdgeBank:
    return EdgeBank(table)


def _positions() -> dict[str, int]:
    return {subshell.label: index for index, subshell in enumerate(subshells())}


@pytest.mark.parametrize("core_hole", [False, True])
def test_nodes_agree_with_the_reference_evaluation(
    bank: EdgeBank, table: CrossSectionTable, core_hole: bool
) -> None:
    index = torch.tensor([_positions()[label] for label in LABELS])
    n = len(index)
    scope = Microscope(torch.full((n,), 120.0), torch.full((n,), 7.0), torch.full((n,), 25.0))
    nodes = bank.nodes(index, torch.full((n,), float(core_hole)), scope)
    for row, label in zip(nodes.numpy(), LABELS, strict=True):
        entry = table.entry(label, core_hole)
        loss = table.onset_ev[entry] + table.energy_ev
        expected = table.evaluate(entry, 120.0, 7.0, 25.0, loss)
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_an_edge_starts_at_its_channel_and_keeps_its_area(
    bank: EdgeBank, table: CrossSectionTable
) -> None:
    label = "O_K"
    scope = Microscope(torch.tensor([300.0]), torch.tensor([1.0]), torch.tensor([10.0]))
    nodes = bank.nodes(torch.tensor([_positions()[label]]), torch.zeros(1), scope)
    total = torch.zeros(2, 1000)
    bank.add_to(total, torch.tensor([1]), nodes, torch.tensor([400]))
    assert (total[0] == 0).all()
    assert (total[1, :400] == 0).all()
    entry = table.entry(label)
    fine = np.arange(0.05, 100, 0.1)
    reference = table.evaluate(entry, 300.0, 1.0, 10.0, table.onset_ev[entry] + fine).sum() * 0.1
    assert float(total[1, 400:500].sum()) == pytest.approx(reference, rel=5e-3)


def test_edges_outside_the_axis_are_cut(bank: EdgeBank) -> None:
    nodes = torch.ones(2, bank.basis.shape[2])
    total = torch.zeros(2, 100)
    bank.add_to(total, torch.tensor([0, 1]), nodes, torch.tensor([-5, 100]))
    assert (total[0] > 0).all()
    assert (total[1] == 0).all()


def test_every_group_is_found_from_its_element(bank: EdgeBank) -> None:
    for index, group in enumerate(edge_groups()):
        assert index in bank.groups_of[group.atomic_number]
        assert float(bank.group_onset[index]) == pytest.approx(group.onset_ev)
        assert int((bank.member[index] >= 0).sum()) == len(group.subshells)
