"""Low-loss packages: the contract of the daemon, and the same answers as torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support.zero_loss_tables import make_table
from zeroloss.models import ModelSession, load_package
from zeroloss.models.check import try_out
from zeroloss.models.manifest import Buckets, Manifest, Trained
from zeroloss_export.low_loss_package import (
    largest_departure,
    spectra_of,
    write_untrained_package,
    write_zero_loss_package,
)
from zeroloss_export.networks.low_loss.faults import peak_fault
from zeroloss_export.networks.low_loss.graph import build_graph
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.networks.low_loss.table import ZeroLossTable
from zeroloss_export.onnx_graph import onnx_runner

FEW = Buckets(cpu=4, gpu=(4,))
TRAINED = Trained(date="2026-01-01", software="none", data="none", spectra=0, members=())
OPTICS = {"refractive_index": 2.0, "beam_kev": 200.0, "collection_mrad": 20.0}

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]


@pytest.fixture(scope="module")
def table() -> ZeroLossTable:
    return make_table(points=1900, replicas=8)


@pytest.fixture(scope="module")
def written(
    table: ZeroLossTable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("packages") / "zero_loss"
    manifest = write_zero_loss_package(
        folder, table, TRAINED, version="1.0.0", description="a test", buckets=FEW
    )
    return folder, manifest


def test_a_trained_package_keeps_the_contract_of_the_daemon(
    written: tuple[Path, Manifest],
) -> None:
    folder, manifest = written
    session = ModelSession(load_package(folder))
    assert try_out(session, 1024).company == 0.0
    assert manifest.shifts_axis == "zero_loss_shift"
    assert manifest.takes.signed_counts
    assert manifest.takes.takes_scale(0.025)
    assert not manifest.takes.takes_scale(0.05)
    assert [item.name for item in manifest.parameters] == list(OPTICS)
    assert manifest.graph.max_error < manifest.graph.error_limit
    for output in manifest.outputs:
        assert output.kind == "label" or output.reason is not None


def test_its_answers_are_those_of_torch(
    written: tuple[Path, Manifest], table: ZeroLossTable
) -> None:
    folder, manifest = written
    session = ModelSession(load_package(folder))
    counts, offset, scale = spectra_of(table)
    answers = session.run(counts.numpy(), offset.numpy(), scale.numpy(), parameters=OPTICS)
    graph = build_graph(table)
    n = len(counts)
    with torch.no_grad():
        known = [torch.full((n,), value) for value in OPTICS.values()]
        expected = graph(counts, offset, scale, *known)
    for output, values in zip(manifest.outputs, expected, strict=True):
        assert np.isfinite(answers[output.name]).any()
        # A fit may choose the next point of its grid for the last digit's sake.
        size = 0.02 * max(1.0, float(torch.nan_to_num(values).abs().max()))
        np.testing.assert_allclose(answers[output.name], values.numpy(), atol=size, rtol=0)


def test_graphs_are_checked_on_spectra_that_they_answer(
    written: tuple[Path, Manifest], table: ZeroLossTable
) -> None:
    # As training leaves them: below the flank nothing is known of the curves.
    curves, first = table.curves.clone(), table.match.start
    curves[..., :first] = curves[..., first : first + 1]
    counts, offset, scale = spectra_of(replace(table, curves=curves))
    peak = PeakFinder()(counts, offset, scale)
    assert (peak_fault(counts, peak) == 0).all()
    assert (peak.position_ev.abs() < 0.5).all()
    folder, manifest = written
    names = [item.name for item in manifest.outputs]
    run = onnx_runner(folder / "model.onnx", names, list(OPTICS))
    nothing = (torch.zeros_like(counts), offset, scale, *(torch.ones(len(counts)) for _ in OPTICS))
    with pytest.raises(ValueError, match="answers none of the spectra"):
        largest_departure(build_graph(table), run, nothing, FEW)


def test_another_graph_is_noticed(written: tuple[Path, Manifest], table: ZeroLossTable) -> None:
    folder, manifest = written
    names = [item.name for item in manifest.outputs]
    run = onnx_runner(folder / "model.onnx", names, list(OPTICS))
    inputs = spectra_of(table)
    known = [torch.full_like(inputs[1], value) for value in OPTICS.values()]
    other = build_graph(replace(table, curves=table.curves + 0.1))
    assert largest_departure(other, run, (*inputs, *known), FEW) > 1e-2


def test_a_package_without_training(tmp_path: Path) -> None:
    manifest = write_untrained_package(
        tmp_path / "low_loss_power_law", "power law", version="1.0.0", buckets=FEW
    )
    assert manifest.name == "low_loss_power_law"
    assert manifest.when_named
    assert manifest.takes.scale_ev is None
    assert all(output.uncertainty is None for output in manifest.outputs)
    assert "no error band" in manifest.title
    session = ModelSession(load_package(tmp_path / "low_loss_power_law"))
    assert try_out(session, 800).company == 0.0
