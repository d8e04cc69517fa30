from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.counts_code import decode
from zeroloss_export.simulate.dataset import Maker, Plan, assemble, keep_shard, read_split
from zeroloss_export.simulate.dataset import plan as plan_module
from zeroloss_export.simulate.dataset.plan import SHARE, hash_of, recipe_from
from zeroloss_export.simulate.paper import PaperRecipe
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.splits import Split


def _plan(table: CrossSectionTable, spectra: int, recipe: object = None, **more: bool) -> Plan:
    settings = {"single_element": False} | more
    return Plan(recipe or PaperRecipe(), spectra, 3, cross_sections=hash_of(table), **settings)


def _write(plan: Plan, table: CrossSectionTable, folder: Path) -> Path:
    maker = Maker(plan, table)
    for shard in plan.shards():
        keep_shard(folder, shard, maker.make(shard))
    out = folder / "out.h5"
    assemble(out, folder, plan, {"note": "test"})
    return out


def test_the_papers_number_of_spectra_gives_the_papers_splits(table: CrossSectionTable) -> None:
    plan = _plan(table, 736_000)
    rows = {split: plan.rows(split) for split in SHARE}
    assert rows == {"train": 560_000, "validation": 48_000, "test": 120_000, "single": 8_000}
    specimens = {split: plan.specimens(split) for split in SHARE}
    expected = {"train": 112_000, "validation": 24_000, "test": 24_000, "single": 8_000}
    assert specimens == expected
    assert sum(shard.rows for shard in plan.shards()) == 736_000


@pytest.mark.parametrize("spectra", [1, 79, 1000, 9201])
def test_splits_hold_all_spectra(table: CrossSectionTable, spectra: int) -> None:
    plan = _plan(table, spectra)
    assert sum(plan.rows(split) for split in SHARE) == spectra
    held = Counter[Split]()
    for shard in plan.shards():
        assert held[shard.split] == shard.first
        held[shard.split] += shard.rows
    assert sum(held.values()) == spectra


def test_a_plan_names_its_recipe_with_all_its_fields(table: CrossSectionTable) -> None:
    recipe = PaperRecipe().changed(thickness=(0.2, 0.3))
    assert recipe_from(json.loads(_plan(table, 10, recipe).as_json())) == recipe
    measured = Recipe().changed(waves_chance=0.5)
    assert recipe_from(json.loads(_plan(table, 10, measured).as_json())) == measured
    with pytest.raises(ValueError, match="expected one spectrum or more, got 0"):
        _plan(table, 0)


def test_a_file_holds_the_splits_with_labels_quantities_and_conditions(
    table: CrossSectionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several shards of a few spectra, with chunks that do not fill them.
    monkeypatch.setattr(plan_module, "SHARD_ROWS", 256)
    plan = _plan(table, 920)
    with h5py.File(_write(plan, table, tmp_path), "r") as file:
        assert set(file) == {"energy_ev", "train", "validation", "test", "single"}
        assert json.loads(file.attrs["settings"])["recipe"] == "paper"
        assert file.attrs["elements"][0] == "Be"
        np.testing.assert_array_equal(file["energy_ev"][()], np.arange(3072))
        for split in SHARE:
            group = file[split]
            rows = plan.rows(split)
            assert {len(item) for item in group.values() if isinstance(item, h5py.Dataset)} == {
                rows
            }
            present = group["present"][()]
            assert present.shape == (rows, 80)
            assert (present.sum(1) > 0).all()
            np.testing.assert_allclose(group["quantity"][()].sum(1), 1, rtol=1e-5)
            assert ((group["quantity"][()] > 0) <= (present > 0)).all()
            conditions = group["conditions"]
            assert {"thickness", "beam_kev", "start_ev", "jump_ratio"} <= set(conditions)
            counts = decode(group["counts"][()], group["steps"][()])
            first = np.argmax(~np.isnan(counts), 1)
            shifted = conditions["start_ev"][()] + conditions["instrumental_shift_ev"][()]
            np.testing.assert_array_equal(first, shifted)
        # Specimens of a split are seen as often as planned, in one split only.
        held = Counter(file["train"]["specimen"][()].tolist())
        assert set(held.values()) == {5}
        assert (file["single"]["present"][()].sum(1) == 1).all()
        every = file["train"]["conditions/query"][()]
        assert set(every) == set(range(4, 84))


def test_a_split_comes_back_as_it_was_simulated(table: CrossSectionTable, tmp_path: Path) -> None:
    plan = _plan(table, 300)
    path = _write(plan, table, tmp_path)
    shard = next(plan.shards())
    columns = Maker(plan, table).make(shard)
    spectra = read_split(path, "train", 10, 20)
    expected = decode(columns["counts"][10:30], columns["steps"][10:30])
    np.testing.assert_array_equal(spectra.counts.numpy(), expected)
    assert torch.equal(spectra.present, torch.from_numpy(columns["present"][10:30]).float())
    assert (spectra.scale_ev == 1).all()
    with pytest.raises(ValueError, match="expected a split of"):
        read_split(path, "none")  # type: ignore[arg-type]


def test_single_elements_only(table: CrossSectionTable, tmp_path: Path) -> None:
    plan = _plan(table, 160, single_element=True)
    spectra = read_split(_write(plan, table, tmp_path), "single")
    assert (spectra.present.sum(1) == 1).all()
    assert (spectra.present.sum(0) == 2).all()


def test_the_measured_recipe_has_its_own_axes(table: CrossSectionTable, tmp_path: Path) -> None:
    plan = _plan(table, 200, Recipe())
    path = _write(plan, table, tmp_path)
    spectra = read_split(path, "train")
    assert spectra.counts.shape == (plan.rows("train"), 1024)
    assert len(set(spectra.scale_ev.tolist())) > 50
    assert (spectra.known == 0).any()
    with h5py.File(path, "r") as file:
        assert "energy_ev" not in file
        quantity = file["train"]["quantity"][()]
        seen = file["train"]["present"][()].sum(1) > 0
        np.testing.assert_allclose(quantity.sum(1)[seen], 1, rtol=1e-5)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.attrs["title"] = "something else"
    with pytest.raises(ValueError, match="expected a data set of simulated spectra of format 1"):
        read_split(other, "train")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5")
    with pytest.raises(ValueError, match="expected a data set of simulated spectra"):
        read_split(text, "train")
