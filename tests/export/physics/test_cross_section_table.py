from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zeroloss_export.physics.cross_section import cross_section
from zeroloss_export.physics.cross_section_table import BETA_MRAD, RANK, CrossSectionTable
from zeroloss_export.physics.edges import subshell
from zeroloss_export.physics.table import GosTable

LABELS = ("B_K", "O_K", "Ti_L3", "Ti_L1", "Sr_M5", "La_M5", "Ce_N5", "Au_M5")


@pytest.fixture(scope="module")
def selected(shipped: GosTable) -> GosTable:
    frozen = [shipped.entry(label) for label in LABELS]
    return shipped.select(frozen + [shipped.entry(label, True) for label in ("B_K", "Au_M5")])


@pytest.fixture(scope="module")
def table(selected: GosTable) -> CrossSectionTable:
    return CrossSectionTable.build(selected)


def exact(gos: GosTable, entry: int, beam: float, alpha: float, beta: float) -> np.ndarray:
    loss = subshell(gos.labels[entry]).onset_ev + gos.energy_ev
    return cross_section(loss, gos.gos[entry], gos.momentum_au, beam, alpha, beta)


def test_shapes_and_entries(table: CrossSectionTable) -> None:
    assert table.basis.shape == (10, RANK, 56)
    assert table.coeff.shape == (10, 6, 12, len(BETA_MRAD), RANK)
    assert len(BETA_MRAD) >= 12
    assert table.entry("Au_M5") == 7
    assert table.core_hole_entry.tolist() == [8, -1, -1, -1, -1, -1, -1, 9, 8, 9]
    assert table.entry("Au_M5", core_hole=True) == 9
    with pytest.raises(KeyError, match="Ti_L3"):
        table.entry("Ti_L3", core_hole=True)


def test_rank_six_is_enough_at_the_grid(selected: GosTable, table: CrossSectionTable) -> None:
    worst = []
    for entry in range(len(table.labels)):
        loss = table.onset_ev[entry] + table.energy_ev
        for beam in (60.0, 300.0):
            for alpha in table.alpha_mrad[::6]:
                for beta in table.beta_mrad[::5]:
                    direct = exact(selected, entry, beam, alpha, beta)
                    compressed = table.evaluate(entry, beam, alpha, beta, loss)
                    worst.append(np.abs(compressed - direct).max() / direct.max())
    assert np.percentile(worst, 95) < 0.005
    assert max(worst) < 0.02


def test_interpolation_keeps_shapes_and_ratios(
    selected: GosTable, table: CrossSectionTable
) -> None:
    """Between grid points the common scale is off by up to 11 %, shapes and ratios by less."""
    generator = np.random.default_rng(5)
    spread = []
    for _ in range(30):
        beam = float(generator.uniform(60, 300))
        alpha, beta = (float(v) for v in np.exp(generator.uniform(0, np.log([36, 100]))))
        scale = []
        for entry in range(len(table.labels)):
            direct = exact(selected, entry, beam, alpha, beta)
            loss = table.onset_ev[entry] + table.energy_ev
            compressed = table.evaluate(entry, beam, alpha, beta, loss)
            scale.append(compressed @ direct / (direct @ direct))
            assert np.abs(compressed / scale[-1] - direct).max() < 0.01 * direct.max()
        assert np.abs(np.array(scale) - 1).max() < 0.12
        spread.append(max(scale) / min(scale))
    assert np.median(spread) < 1.03
    assert max(spread) < 1.12


def test_spectrum_starts_at_the_onset_and_is_never_negative(table: CrossSectionTable) -> None:
    loss = np.arange(100.0, 4000.0)
    for entry in range(len(table.labels)):
        spectrum = table.evaluate(entry, 200.0, 10.0, 20.0, loss)
        assert (spectrum[loss < table.onset_ev[entry]] == 0).all()
        assert (spectrum >= 0).all()
        if table.onset_ev[entry] < 4000:
            assert spectrum.max() > 0


def test_progress_counts_every_entry(selected: GosTable) -> None:
    seen: list[tuple[int, int]] = []
    CrossSectionTable.build(
        selected,
        beam_kev=(100.0, 200.0),
        alpha_mrad=(1.0, 10.0),
        beta_mrad=(2.0, 20.0, 50.0),
        rank=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 10) for i in range(1, 11)]


def test_save_and_load_keep_the_table(table: CrossSectionTable, tmp_path: Path) -> None:
    table.save(tmp_path / "xs.npz")
    loaded = CrossSectionTable.load(tmp_path / "xs.npz")
    assert loaded.labels == table.labels
    np.testing.assert_array_equal(loaded.coeff, table.coeff)
    np.testing.assert_array_equal(loaded.basis, table.basis)
    with np.load(tmp_path / "xs.npz") as file:
        arrays = dict(file)
    arrays["coeff"] = arrays["coeff"][:-1]
    np.savez(tmp_path / "broken.npz", **arrays)
    with pytest.raises(ValueError, match=r"expected coeff \(10, .*got \(9, "):
        CrossSectionTable.load(tmp_path / "broken.npz")
