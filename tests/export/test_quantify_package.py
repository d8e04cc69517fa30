from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import zeroloss.models
from zeroloss.models import LowLoss, ModelSession, load_package
from zeroloss_export.networks.quantification.cross_sections import compress
from zeroloss_export.networks.quantification.graph import PREPARED, QuantifyGraph
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.physics.table import GosTable
from zeroloss_export.quantify_package import check_inputs, input_names

BUILT_IN = Path(zeroloss.models.__file__).parent / "builtin" / "quantify"
CHOSEN = (ELEMENTS.index("B"), ELEMENTS.index("N"))


@pytest.fixture(scope="module")
def session() -> ModelSession:
    return ModelSession(load_package(BUILT_IN))


@pytest.fixture(scope="module")
def graph() -> QuantifyGraph:
    return QuantifyGraph(compress(GosTable.load())).eval()


def test_the_shipped_package_is_small_and_says_what_it_takes(session: ModelSession) -> None:
    manifest = session.package.manifest
    assert (BUILT_IN / manifest.graph.file).stat().st_size < 5e6
    assert manifest.takes.low_loss
    assert manifest.takes.signed_counts
    assert manifest.takes.selection is not None
    assert manifest.takes.selection.labels == ELEMENTS
    assert manifest.graph.prepared == PREPARED


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [(5, 1000, 400), (9, 512, 2)])
def test_the_shipped_graph_is_this_code(
    session: ModelSession, graph: QuantifyGraph, size: tuple[int, int, int]
) -> None:
    inputs = next(iter(check_inputs((size,))))
    given = dict(zip(input_names(), (item.numpy() for item in inputs), strict=True))
    beside = None
    if size[2] > 2:
        beside = LowLoss(
            given["low_loss_counts"], given["low_loss_offset_ev"], given["low_loss_scale_ev"]
        )
    names = ("beam_kev", "convergence_mrad", "collection_mrad", "exposure_ratio")
    found = session.run(
        given["counts"],
        float(given["offset_ev"][0]),
        float(given["scale_ev"][0]),
        parameters={name: float(given[name][0]) for name in names},
        selection=CHOSEN,
        low_loss=beside,
    )
    with torch.no_grad():
        expected = dict(zip((item.name for item in graph.outputs), graph(*inputs), strict=False))
    for output in graph.outputs:
        wanted = expected[output.name].numpy()
        wanted = wanted[:, : len(CHOSEN)] if output.selected else wanted
        got = found[output.name]
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        slack = (
            0.0
            if output.uncertainty is None
            else 0.02 * np.nan_to_num(expected[output.uncertainty].numpy()[:, : len(CHOSEN)])
        )
        gap = np.nan_to_num(np.abs(got - wanted))
        assert (gap <= slack + 1e-3 * np.nan_to_num(np.abs(wanted)) + 1e-6).all(), output.name


def test_an_axis_for_every_spectrum_gives_what_one_for_all_gives(session: ModelSession) -> None:
    counts = next(iter(check_inputs(((6, 800, 2),))))[0].numpy()
    known = {"beam_kev": 300.0, "convergence_mrad": 5.0, "collection_mrad": 20.0}
    one = session.run(counts, 130.0, 0.75, parameters=known, selection=CHOSEN)
    every = session.run(counts, np.full(6, 130.0), 0.75, parameters=known, selection=CHOSEN)
    for name in ("atomic_fraction", "atomic_fraction_error", "fit_chi2"):
        np.testing.assert_allclose(every[name], one[name], rtol=2e-3, atol=2e-3)
