from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.low_loss_spectra import INSTRUMENT, rows_of, spectra_of, true_zero_loss
from zeroloss_export.simulate.low_loss import LowLossScan, specimen_scan, vacuum_scan
from zeroloss_export.simulate.zero_loss_peak import ZeroLossPeak
from zeroloss_export.training.zlp.spectra import LowLossSpectra, Prepared, prepare
from zeroloss_export.training.zlp.training import Boundaries, TrainedZeroLoss, train_zero_loss


def _true_logs(trained: TrainedZeroLoss, scan: LowLossScan) -> np.ndarray:
    """ln(true zero loss / its mean in the matching window) on the table's grid.

    Aligned as the spectra are, since the graph aligns in the same way.
    """
    energy = trained.spectra.energy_ev
    true = true_zero_loss(scan, energy)
    low, high = trained.table.match_ev
    return np.log(true / true[(energy >= low - 1e-6) & (energy <= high + 1e-6)].mean())


def test_the_band_of_a_vacuum_holds_the_truth(
    trained_vacuum: TrainedZeroLoss, vacuum: LowLossScan
) -> None:
    table = trained_vacuum.table
    energy = trained_vacuum.spectra.energy_ev
    tail = (energy > table.match_ev[1]) & (energy < 10.0)
    low, median, high = table.curves[:, 0, :].double().numpy()[:, tail]
    true = _true_logs(trained_vacuum, vacuum)[tail]
    half = 0.5 * (high - low)
    pull = (true - median) / half
    assert (np.abs(pull) < 1.0).mean() >= 0.4
    assert np.abs(pull).max() < 5.0
    # And it is a narrow one: all of the tail was measured.
    assert np.median(half) < 0.05
    assert np.abs(true - median).max() < 0.15


def test_a_specimen_says_where_a_vacuum_peak_may_be_matched(
    trained_vacuum: TrainedZeroLoss, flake: LowLossScan, prepared_vacuum: Prepared
) -> None:
    low, high = trained_vacuum.table.match_ev
    energy = INSTRUMENT.energy_ev
    zero, loss = flake.zero_loss.mean((0, 1)), flake.inelastic.mean((0, 1))
    share = np.interp([low, high], energy, loss / (zero + loss))
    assert share.max() < 0.05, "the specimen has no part in the window"
    assert low > 0.5 * prepared_vacuum.width_ev


def test_below_the_onset_a_specimen_teaches_the_tail(
    trained_flake: TrainedZeroLoss, flake: LowLossScan
) -> None:
    table = trained_flake.table
    energy = trained_flake.spectra.energy_ev
    # Just beyond the window, whose end is where the first of the clusters begins to mix.
    near = (energy > table.match_ev[1]) & (energy < 1.5 * table.match_ev[1])
    middle = len(table.log_counts) // 2
    low, median, high = table.curves[:, middle, :].double().numpy()[:, near]
    true = _true_logs(trained_flake, flake)[near]
    assert np.abs(true - median).max() < 0.4
    far = int(np.abs(energy - 4.0 * table.match_ev[1]).argmin())
    widths = (table.curves[2] - table.curves[0])[middle].numpy()
    assert widths[far] > 3.0 * float((high - low)[0]), "the band widens where nothing is known"


def test_a_table_holds_what_the_graph_needs(
    trained_flake: TrainedZeroLoss, trained_vacuum: TrainedZeroLoss
) -> None:
    for trained in (trained_flake, trained_vacuum):
        table = trained.table
        table.validate()
        assert table.boundaries_ev is not None
        assert float(table.boundaries_ev.min()) >= table.match_ev[1] - 1e-6
        outer = max(item.ruling_ev[1] for item in trained.regions)
        assert float(table.boundaries_ev.max()) <= outer + 1e-6
        low, high = trained.spectra.log_counts
        assert table.log_counts[0] < low < high < table.log_counts[-1]
        assert table.trained_log_counts[1] == high
    # One cluster just scales, also where a specimen takes counts away; several need the intensity.
    assert trained_flake.table.trained_log_counts[0] == trained_flake.spectra.log_counts[0]
    vacuum = trained_vacuum.spectra.log_counts[0]
    assert trained_vacuum.table.trained_log_counts[0] == pytest.approx(vacuum - 4.0)
    assert len(trained_vacuum.table.log_counts) == 2
    assert len(trained_flake.table.log_counts) > 2


def test_nothing_beyond_the_range_is_asked_of_a_short_one(flake: LowLossScan) -> None:
    short = rows_of(flake)[:, :140]
    trained = train_zero_loss(prepare(spectra_of(flake, short)), "sample", replicas=3)
    assert trained.table.gap_range_ev is not None
    assert trained.table.gap_range_ev[1] <= trained.spectra.energy_ev[-1]


def test_one_spectrum_with_holes_is_trained_on(vacuum: LowLossScan) -> None:
    one = rows_of(vacuum)[:1]
    one[:, [95, 120, 121]] = np.nan
    trained = train_zero_loss(prepare(spectra_of(vacuum, one)), "vacuum", replicas=4)
    assert np.isfinite(trained.ensemble.cost).any()
    trained.table.validate()


def test_five_channels_a_peak_are_enough() -> None:
    coarse = replace(INSTRUMENT, scale_ev=0.09, channels=400)
    prepared = prepare(spectra_of(specimen_scan(1, (6, 6), coarse)))
    trained = train_zero_loss(prepared, "sample", replicas=6)
    assert trained.ensemble.chi2 < 3.0


def test_a_coarse_dispersion_needs_boundaries_by_hand() -> None:
    coarse = replace(
        INSTRUMENT, scale_ev=0.5, channels=256, offset_ev=-10.0, peak=ZeroLossPeak(fwhm_ev=1.0)
    )
    prepared = prepare(spectra_of(specimen_scan(1, (6, 6), coarse)))
    with pytest.raises(ValueError, match=r"cluster 1 of . .* give both boundaries by hand"):
        train_zero_loss(prepared, "sample", replicas=3)
    given = Boundaries(ruling_ev=5.0, gone_ev=20.0)
    trained = train_zero_loss(prepared, "sample", boundaries=given, replicas=3)
    assert trained.regions[0].ruling_ev == (5.0, 5.0)
    assert trained.regions[0].gone_ev == 20.0
    # Three channels a peak width: the specimen has its part below the boundary, as chi2 may tell.
    assert np.isfinite(trained.ensemble.chi2)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Boundaries(ruling_ev=0.01), "cannot rule up to 0.01 eV"),
        (Boundaries(ruling_ev=100.0), "cannot rule up to 100 eV"),
        (Boundaries(ruling_ev=2.0, gone_ev=1.5), "cannot be gone from 1.5 eV on while it rules up"),
        (Boundaries(gone_ev=500.0), "cannot be gone from 500 eV on"),
        (Boundaries(match_ev=(2.0, 1.0)), "matching window, 2.00 to 1.00 eV, holds 0 channels"),
        (Boundaries(match_ev=(1.0, 1.01)), "holds 1 channels"),
        (Boundaries(match_ev=(1.0, 100.0)), "expected at least 2 between"),
    ],
)
def test_contradictions_are_told_before_the_training(
    given: Boundaries, sentence: str, prepared_flake: Prepared
) -> None:
    steps: list[int] = []
    with pytest.raises(ValueError, match=sentence):
        train_zero_loss(
            prepared_flake, "sample", boundaries=given, replicas=3, progress=steps.append
        )
    assert steps == []


@pytest.mark.parametrize("limits", [(3.0, 2.0), (-1.0, 2.0), (2.0, 500.0)])
def test_a_gap_range_must_fit(limits: tuple[float, float], prepared_flake: Prepared) -> None:
    with pytest.raises(ValueError, match="a gap cannot be looked for"):
        train_zero_loss(prepared_flake, "sample", gap_range_ev=limits, replicas=3)


def test_a_window_whose_ends_are_channels_holds_them(prepared_vacuum: Prepared) -> None:
    window = Boundaries(match_ev=(0.35, 1.15))
    trained = train_zero_loss(prepared_vacuum, "vacuum", boundaries=window, gap=False, replicas=3)
    assert trained.table.match.stop - trained.table.match.start == 17


def test_a_setting_becomes_an_input_with_a_band_that_widens_beyond() -> None:
    parts = []
    for kev in (80.0, 120.0):
        scan = vacuum_scan(int(kev), (3, 3), INSTRUMENT.at_beam(kev))
        parts.append(replace(spectra_of(scan), condition=np.full(9, kev)))
    both = LowLossSpectra(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.condition for part in parts]),
        parts[0].offset_ev,
        parts[0].scale_ev,
    )
    prepared = prepare(both, 1)
    assert [group.condition for group in prepared.clusters] == [80.0, 120.0]
    trained = train_zero_loss(prepared, "vacuum", condition="beam_kev", replicas=8)
    setting = trained.table.setting
    assert setting is not None
    assert setting.name == "beam_kev"
    assert setting.trained == (80.0, 120.0)
    nodes = setting.nodes.numpy()
    assert nodes[0] == pytest.approx(60.0)
    assert nodes[-1] == pytest.approx(140.0)
    widths = (trained.table.curves[2] - trained.table.curves[0]).numpy()
    widths = widths.reshape(len(nodes), -1, widths.shape[-1])
    energy = trained.spectra.energy_ev
    tail = (energy > 2.0) & (energy < 6.0)
    inside, beyond = np.abs(nodes - 80.0).argmin(), 0
    assert widths[beyond][:, tail].mean() > 1.3 * widths[inside][:, tail].mean()
