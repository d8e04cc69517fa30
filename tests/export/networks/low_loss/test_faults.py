from __future__ import annotations

import pytest
import torch

from support.zero_loss_tables import make_table, onset, spectra
from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.faults import (
    MEASURED,
    UnlikeTraining,
    first_reason,
    given,
    peak_fault,
    spectra_reason,
)
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.simulate.low_loss import random_scan
from zeroloss_export.simulate.low_loss_faults import Fault, spoil

REASONS: dict[Fault, str] = {
    "no peak": "no zero-loss peak",
    "shifted out": "no zero-loss peak",
    "saturated": "saturated",
    "clipped": "clipped",
    "negative": "negative counts",
}


def fault(counts: torch.Tensor, offset: torch.Tensor, scale: torch.Tensor) -> set[str]:
    codes = peak_fault(counts, PeakFinder()(counts, offset, scale))
    return {MEASURED[int(code)] for code in codes}


@pytest.mark.parametrize("seed", [0, 3, 6, 11])
@pytest.mark.parametrize("spoiled", sorted(REASONS))
def test_every_fault_has_its_reason(seed: int, spoiled: Fault) -> None:
    scan = random_scan(seed)
    counts = torch.tensor(spoil(scan, spoiled)).flatten(0, 1)
    offset = torch.full((len(counts),), scan.instrument.offset_ev)
    scale = torch.full((len(counts),), scan.instrument.scale_ev)
    assert fault(counts, offset, scale) == {REASONS[spoiled]}
    good = torch.tensor(scan.counts).flatten(0, 1)
    assert fault(good, offset, scale) == {"given"}


@pytest.mark.parametrize("level", [0.0, 3.0, 1e4])
def test_flat_and_falling_spectra_have_no_peak(level: float) -> None:
    rng = torch.Generator().manual_seed(1)
    flat = torch.poisson(torch.full((20, 500), level), generator=rng)
    falling = torch.poisson(level * (1 + torch.arange(500) / 50.0)[None] ** -3, generator=rng)
    axis = torch.full((20,), -2.0), torch.full((20,), 0.05)
    assert fault(flat, *axis) == {"no zero-loss peak"}
    assert fault(falling, axis[0][:1], axis[1][:1]) == {"no zero-loss peak"}


def test_a_few_counts_are_no_peak_and_some_are() -> None:
    counts, offset, scale, _ = spectra(torch.zeros(20), 1.0)
    rng = torch.Generator().manual_seed(1)
    for total, expected in ((5.0, "no zero-loss peak"), (500.0, "given")):
        drawn = torch.poisson(counts * total / counts.sum(1, keepdim=True), generator=rng)
        assert fault(drawn, offset, scale) == {expected}


def test_dead_channels_away_from_the_peak_are_no_fault() -> None:
    counts, offset, scale, _ = spectra(torch.zeros(1), 1e5)
    counts[:, 300:310] = torch.nan
    assert fault(counts, offset, scale) == {"given"}


def test_what_was_not_trained_is_noticed() -> None:
    table = make_table()
    unlike = UnlikeTraining(table)

    def judge(height: float, stretch: float = 1.0, cut: int = 0) -> bool:
        counts, offset, scale, _ = spectra(torch.zeros(1), height)
        counts[:, 700 - cut :] = torch.nan
        scale = scale * stretch
        peak = PeakFinder()(counts, offset * stretch, scale)
        points = table.curves.shape[2]
        aligned = align(counts, peak.place, scale, table.first_ev, table.scale_ev, points)
        return bool(unlike(aligned, peak))

    assert not judge(1e5)
    assert judge(1e1)
    assert judge(1e9)
    assert judge(1e5, stretch=1.5)
    assert not judge(1e5, cut=400)
    assert judge(1e5, cut=560)


def test_the_first_reason_counts() -> None:
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert first_reason([no, no]).tolist() == [0.0]
    assert first_reason([no, yes, yes]).tolist() == [2.0]
    assert first_reason([no, yes], 7).tolist() == [8.0]
    gaps = torch.tensor([[1.0, torch.nan], [1.0, 2.0], [torch.nan, 2.0]])
    assert spectra_reason(torch.tensor([0.0, 0.0, 3.0]), gaps, 5).tolist() == [5.0, 0.0, 3.0]
    masked = given(torch.ones(2, 3), torch.tensor([0.0, 2.0]))
    assert torch.isnan(masked).tolist() == [[False] * 3, [True] * 3]


def test_an_onset_is_no_fault() -> None:
    counts, offset, scale, energy = spectra(torch.zeros(1), 1e4)
    assert fault(counts + onset(energy, 1.5, 0.5, 300.0), offset, scale) == {"given"}
