from __future__ import annotations

import math

import pytest
import torch

from zeroloss_export.simulate.detector import CHANNELS, Window, detect, draw_window
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.recipe import Recipe

QUIET = Recipe(
    shift_ev=0.0,
    shift_tail=(0.0, 0.0),
    dispersion_error=0.0,
    dispersion_tail=(0.0, 0.0),
    gain_noise_chance=0.0,
    read_noise_chance=0.0,
    blur_chance=0.0,
    artefact_scale=0.0,
)


def _window(start: float, end: float, channels: int, rows: int) -> Window:
    ends = torch.full((rows,), start), torch.full((rows,), end)
    return Window(*ends, torch.full((rows,), float(channels)), *ends)


def test_windows_show_their_query_edge() -> None:
    query = Draw(1).uniform(98.0, 2800.0, 5000)
    window = draw_window(query, 3119.0, Recipe(any_window_chance=0.0), Draw(2))
    assert (window.start_ev <= query - 9.9).all()
    assert (window.end_ev >= query + 20).all()
    assert (window.channels <= CHANNELS).all()
    assert (window.scale_ev <= 8.6).all()
    assert (window.signal_end_ev <= window.end_ev).all()
    assert (window.signal_start_ev >= window.start_ev).all()


@pytest.mark.parametrize("channels", [100, 1000])
def test_counts_are_preserved_and_the_axis_is_that_of_the_window(channels: int) -> None:
    rate = torch.full((4, 3072), 1e6)
    counts, offset, scale = detect(
        rate, torch.zeros_like(rate), 48.0, _window(100, 1100, channels, 4), QUIET, Draw(3)
    )
    torch.testing.assert_close(scale, torch.full((4,), 1000 / channels))
    torch.testing.assert_close(offset, 100 + scale / 2)
    measured = ~torch.isnan(counts)
    assert (measured.sum(1) == channels).all()
    per_ev = counts.nansum(1) / 1000
    # 30 % of the spectra come in arbitrary units; the others keep their counts.
    whole = (per_ev / 1e6 - 1).abs() < 0.01
    assert whole.sum() >= 2


def test_noise_is_that_of_counting() -> None:
    rate = torch.full((1, 3072), 400.0)
    counts, _, _ = detect(
        rate, torch.zeros_like(rate), 48.0, _window(100, 1100, 1000, 1), QUIET, Draw(8)
    )
    values = counts[~torch.isnan(counts)]
    assert float(values.var() / values.mean()) == pytest.approx(
        float(values.mean()) / 400.0, rel=0.15
    )


def test_axis_errors_move_the_written_axis() -> None:
    rate = torch.full((500, 3072), 100.0)
    recipe = QUIET.changed(shift_ev=2.0, dispersion_error=0.01)
    _, offset, scale = detect(
        rate, torch.zeros_like(rate), 48.0, _window(100, 1100, 1000, 500), recipe, Draw(5)
    )
    assert float((scale - 1).std()) == pytest.approx(0.01, rel=0.15)
    assert float((offset - 100.5).std()) > 1.8


def test_dead_ranges_carry_no_signal() -> None:
    rate = torch.full((1, 3072), 1e4)
    full = _window(100, 1100, 1000, 1)
    window = Window(full.start_ev, full.end_ev, full.channels, full.start_ev, full.end_ev - 400)
    counts, _, _ = detect(rate, torch.zeros_like(rate), 48.0, window, QUIET, Draw(6))
    assert float(counts[0, 700:1000].nanmean() / counts[0, :500].nanmean()) < 0.02


def test_a_subtracted_background_leaves_noise_around_zero() -> None:
    rate = torch.full((1, 3072), 400.0)
    window = _window(100, 1100, 1000, 1)
    counts, _, _ = detect(rate, rate, 48.0, window, QUIET, Draw(9))
    kept = counts[~torch.isnan(counts)]
    # Half of the channels are negative, so not measured; the rest is half a Gaussian.
    assert 400 < len(kept) < 600
    assert float(kept.mean() ** 2 / (kept**2).mean()) == pytest.approx(2 / math.pi, rel=0.1)
