"""Onset and signal-to-noise of edges that the test puts into a power law."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zeroloss_export.networks.evidence import EdgeEvidence, edge_labels

LABELS = edge_labels()
OXYGEN, IRON = LABELS.index("O K"), LABELS.index("Fe L3")


def spectrum(
    edges: dict[float, float], *, scale: float = 0.5, dose: float = 1e5, seed: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Counts from 400 to 900 eV; of every edge its onset and its jump over the background."""
    energy = 400 + scale * torch.arange(int(500 / scale))
    background = dose * scale * (energy / 400) ** -2.7
    total = background.clone()
    for onset, jump in edges.items():
        rise = torch.sigmoid((energy - onset) / 0.4) * (energy / onset) ** -2
        total += jump * rise * background[int((onset - 400) / scale)]
    counts = torch.poisson(total, torch.Generator().manual_seed(seed))
    return counts[None], torch.tensor([400.0]), torch.tensor([scale])


def test_labels_name_the_first_subshell_of_every_group() -> None:
    assert len(LABELS) == len(set(LABELS)) == 107
    assert {"B K", "Ti L3", "La M5", "La N5", "Bi M5"} < set(LABELS)


@pytest.mark.parametrize("shift", [-9.0, -2.0, 0.0, 3.0, 9.0])
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.5])
def test_an_onset_is_found_where_it_is(shift: float, scale: float) -> None:
    onset, snr, expected = EdgeEvidence()(*spectrum({532.0 + shift: 0.4}, scale=scale))
    assert float(expected[0, OXYGEN]) == pytest.approx(532.0)
    assert float(onset[0, OXYGEN]) == pytest.approx(532.0 + shift, abs=1.0 + scale)
    assert float(snr[0, OXYGEN]) > 20


def test_the_signal_to_noise_ratio_grows_with_the_root_of_the_dose() -> None:
    def ratio(dose: float) -> float:
        found = [EdgeEvidence()(*spectrum({708.0: 0.1}, dose=dose, seed=s))[1] for s in range(20)]
        return float(torch.cat(found)[:, IRON].mean())

    assert ratio(4e4) / ratio(1e4) == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("units", [1e-6, 1e6])
def test_it_does_not_depend_on_the_units_of_the_counts(units: float) -> None:
    counts, *axis = spectrum({532.0: 0.2})
    plain, scaled = EdgeEvidence()(counts, *axis), EdgeEvidence()(counts * units, *axis)
    torch.testing.assert_close(scaled[0], plain[0])
    torch.testing.assert_close(scaled[1], plain[1], rtol=1e-3, atol=1e-3)


def test_without_an_edge_it_is_noise() -> None:
    found = torch.cat([EdgeEvidence()(*spectrum({}, seed=seed))[1] for seed in range(30)])
    values = found[:, (found != 0).all(0)]
    assert values.shape[1] >= 15
    # The steepest of many places is a little steeper than none.
    assert -0.5 < float(values.median()) < 2.0
    assert float((values > 5).float().mean()) < 0.01


def test_what_the_range_does_not_hold_is_zero() -> None:
    onset, snr, expected = EdgeEvidence()(*spectrum({532.0: 0.4}))
    outside = (expected < 400) | (expected > 900)
    assert (onset[outside] == 0).all()
    assert (snr[outside] == 0).all()
    inside = (expected > 425) & (expected < 880)
    assert (onset[inside] > 0).all()
    assert ((onset - expected).abs() <= 12)[inside].all()
    assert (expected > 90).all()


@pytest.mark.parametrize("counts", [torch.zeros(3, 200), torch.full((3, 200), torch.nan)])
def test_empty_spectra_give_finite_values(counts: Tensor) -> None:
    axis = torch.full((3,), 400.0), torch.full((3,), 1.0)
    assert all(torch.isfinite(item).all() for item in EdgeEvidence()(counts, *axis))


def test_channels_that_are_not_measured_are_left_out() -> None:
    counts, *axis = spectrum({532.0: 0.4})
    holed = counts.clone()
    holed[:, 180:200] = torch.nan
    onset, snr, _ = EdgeEvidence()(holed, *axis)
    assert float(onset[0, OXYGEN]) == pytest.approx(532.0, abs=1.5)
    assert float(snr[0, OXYGEN]) > 20


def test_a_spectrum_is_the_same_in_any_company() -> None:
    one, *axis = spectrum({532.0: 0.4})
    other, *_ = spectrum({708.0: 0.4}, seed=2)
    both = EdgeEvidence()(torch.cat([other, one]), axis[0].repeat(2), axis[1].repeat(2))
    for together, alone in zip(both, EdgeEvidence()(one, *axis), strict=True):
        assert torch.equal(together[1:], alone)
