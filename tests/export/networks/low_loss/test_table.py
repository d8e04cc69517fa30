from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zeroloss_export.networks.low_loss.table import Noise, ZeroLossTable


def make_table() -> ZeroLossTable:
    energy = torch.arange(-40, 400) * 0.025
    curve = -2.0 * torch.log1p((energy / 0.2) ** 2)
    nodes = torch.tensor([10.0, 12.0, 14.0])
    replicas = curve + 0.1 * torch.arange(-2, 3)[:, None, None] * energy * nodes[:, None] / 90
    window = (energy > 0.49) & (energy < 0.81)
    replicas = replicas - replicas[:, :, window].exp().mean(2, keepdim=True).log()
    ranked = replicas.sort(0).values
    return ZeroLossTable(
        scale_ev=0.025,
        first_ev=-1.0,
        match_ev=(0.5, 0.8),
        log_counts=nodes,
        curves=ranked[[1, 2, 3]].contiguous(),
        replicas=replicas.contiguous(),
        trained_width_ev=(0.3, 0.5),
        trained_log_counts=(10.0, 14.0),
        noise=Noise(9.0, 50.0, (0.6, 0.2)),
        gap_range_ev=(0.8, 5.0),
        peaks=3,
    )


def test_a_table_survives_a_file(tmp_path: Path) -> None:
    table = make_table()
    table.save(tmp_path / "table.npz")
    read = ZeroLossTable.load(tmp_path / "table.npz")
    for name in ("log_counts", "curves", "replicas"):
        torch.testing.assert_close(getattr(read, name), getattr(table, name), rtol=0, atol=0)
    for name in ("scale_ev", "first_ev", "match_ev", "trained_width_ev", "noise", "gap_range_ev"):
        assert getattr(read, name) == getattr(table, name)
    assert read.peaks == 3


def test_a_table_without_a_gap_survives_a_file(tmp_path: Path) -> None:
    replace(make_table(), gap_range_ev=None, noise=Noise()).save(tmp_path / "table.npz")
    read = ZeroLossTable.load(tmp_path / "table.npz")
    assert read.gap_range_ev is None
    assert read.noise == Noise()


def test_the_matching_window_is_on_the_grid() -> None:
    table = make_table()
    energy = table.energy_ev[table.match]
    assert float(energy[0]) == pytest.approx(0.5)
    assert float(energy[-1]) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"log_counts": torch.tensor([1.0, 1.0, 2.0])}, "rising"),
        ({"log_counts": torch.tensor([1.0])}, "rising"),
        ({"replicas": torch.zeros(2, 3, 7)}, "replicas must be"),
        ({"scale_ev": 0.0}, "scale_ev > 0"),
        ({"match_ev": (0.8, 0.5)}, "match_ev must rise"),
        ({"match_ev": (0.8, 100.0)}, "match_ev must rise"),
        ({"trained_width_ev": (1.0, 0.5)}, "trained_width_ev must rise"),
        ({"noise": Noise(0.0)}, "gain > 0"),
        ({"peaks": 17}, "0 to 16"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(make_table(), **changes)


def test_curves_in_the_wrong_order_are_refused() -> None:
    table = make_table()
    with pytest.raises(ValueError, match="rise from 16 to 84"):
        replace(table, curves=table.curves.flip(0))
    with pytest.raises(ValueError, match="finite float32"):
        replace(table, curves=table.curves * torch.nan)


def test_replicas_that_are_not_scaled_in_the_window_are_refused() -> None:
    table = make_table()
    with pytest.raises(ValueError, match=r"mean 1 in the matching window, got 1\.1"):
        replace(table, replicas=table.replicas + 0.1)


def test_another_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", format=np.float64(1), scale_ev=np.float64(1))
    with pytest.raises(ValueError, match="no zero-loss table"):
        ZeroLossTable.load(tmp_path / "other.npz")
    np.savez(tmp_path / "newer.npz", format=np.float64(2))
    with pytest.raises(ValueError, match="format must be 1"):
        ZeroLossTable.load(tmp_path / "newer.npz")
