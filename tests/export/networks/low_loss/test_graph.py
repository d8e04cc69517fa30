from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support.zero_loss_tables import make_table, onset, spectra
from zeroloss.models.manifest import Output
from zeroloss_export.networks.low_loss.fallback import UntrainedGraph
from zeroloss_export.networks.low_loss.graph import LowLossGraph, build_graph
from zeroloss_export.networks.low_loss.table import Setting
from zeroloss_export.simulate.low_loss import random_scan
from zeroloss_export.simulate.low_loss_faults import FAULTS, spoil

CHANNELS = 2000
Answers = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def graph() -> LowLossGraph:
    return build_graph(make_table(points=1900))


def specimen(n: int = 4) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    counts, offset, scale, energy = spectra(torch.linspace(-0.2, 0.2, n), 1e5, channels=CHANNELS)
    plasmon = 1500 * torch.exp(-2.77 * ((energy - 18) / 6) ** 2)
    counts = torch.poisson(counts + onset(energy, 2.0, 0.7, 150.0) + plasmon, generator=rng)
    return [counts, offset, scale]


def answer(graph: LowLossGraph | UntrainedGraph, *inputs: torch.Tensor | float | None) -> Answers:
    n = len(inputs[0]) if isinstance(inputs[0], torch.Tensor) else 0
    given = [
        item if isinstance(item, torch.Tensor) else torch.full((n,), float(item or torch.nan))
        for item in inputs
    ]
    with torch.no_grad():
        values = graph(*given)
    return {item.name: value for item, value in zip(graph.outputs, values, strict=True)}


def keeps_the_contract(outputs: tuple[Output, ...], answers: Answers) -> None:
    """Shapes, codes, and NaN only where there is a reason."""
    for output in outputs:
        values = answers[output.name]
        assert values.dtype == torch.float32
        assert values.shape[1:] == output.shape
        if output.kind == "label":
            assert ((values >= 0) & (values < len(output.labels))).all()
            assert (values == values.floor()).all()
            continue
        assert output.reason is not None
        missing = torch.isnan(values).flatten(1).any(1) if values.dim() > 1 else torch.isnan(values)
        assert (answers[output.reason][missing] > 0).all()
        assert not torch.isinf(values).any()


def label(graph: LowLossGraph, name: str, answers: Answers) -> set[str]:
    labels = next(item.labels for item in graph.outputs if item.name == name)
    return {labels[int(code)] for code in answers[name]}


def test_a_specimen_has_every_answer(graph: LowLossGraph) -> None:
    answers = answer(graph, *specimen(), 2.0, 200.0, 20.0)
    keeps_the_contract(graph.outputs, answers)
    for name in ("reason", "thickness_reason", "gap_reason", "dielectric_reason"):
        assert label(graph, name, answers) == {"given"}
    shift = torch.linspace(-0.2, 0.2, 4)
    torch.testing.assert_close(answers["zero_loss_shift"], shift, atol=0.01, rtol=0)
    assert float((answers["gap"] - 2.0).abs().max()) < 0.2
    assert float((answers["peak_energy"][:, 0] - 18).abs().max()) < 0.3
    assert torch.isfinite(answers["eps_real"]).all()
    for name in ("zero_loss", "subtracted", "eps_imag", "single_scattering"):
        band = torch.nan_to_num(answers[name], nan=0.0)
        assert (band.diff(dim=1) >= 0).all()


def test_only_what_needs_optics_is_missing_without_them(graph: LowLossGraph) -> None:
    answers = answer(graph, *specimen(), None, 200.0, 20.0)
    keeps_the_contract(graph.outputs, answers)
    reasons = label(graph, "dielectric_reason", answers)
    assert reasons == {"no refractive index, beam energy or collection angle"}
    assert torch.isnan(answers["thickness_nm"]).all()
    assert torch.isfinite(answers["thickness"]).all()
    assert torch.isfinite(answers["single_scattering"]).all()


def test_vacuum_says_so(graph: LowLossGraph) -> None:
    rng = torch.Generator().manual_seed(1)
    counts, offset, scale, _ = spectra(torch.zeros(4), 1e5, channels=CHANNELS)
    answers = answer(graph, torch.poisson(counts, generator=rng), offset, scale, 2.0, 200.0, 20.0)
    keeps_the_contract(graph.outputs, answers)
    assert label(graph, "reason", answers) == {"given"}
    for name in ("thickness_reason", "gap_reason", "dielectric_reason"):
        assert label(graph, name, answers) == {"vacuum"}


def test_what_was_not_trained_still_has_a_shift(graph: LowLossGraph) -> None:
    counts, offset, scale = specimen()
    answers = answer(graph, counts * 1e6, offset, scale, 2.0, 200.0, 20.0)
    keeps_the_contract(graph.outputs, answers)
    assert label(graph, "reason", answers) == {"unlike the training"}
    assert torch.isfinite(answers["zero_loss_shift"]).all()
    for name in ("thickness", "gap", "peak_energy", "subtracted", "zero_loss"):
        assert torch.isnan(answers[name]).all()


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_spectra_keep_the_contract(graph: LowLossGraph, fault: str) -> None:
    scan = random_scan(6)
    counts = torch.tensor(spoil(scan, fault)).flatten(0, 1)  # type: ignore[arg-type]
    offset = torch.full((len(counts),), scan.instrument.offset_ev)
    scale = torch.full((len(counts),), scan.instrument.scale_ev)
    answers = answer(graph, counts, offset, scale, 2.0, 200.0, 20.0)
    keeps_the_contract(graph.outputs, answers)
    assert (answers["reason"] > 0).all()
    assert torch.isnan(answers["zero_loss_shift"]).all()


@pytest.mark.parametrize("value", [0.0, torch.nan, -3.0, 1e30])
def test_empty_and_extreme_spectra_keep_the_contract(graph: LowLossGraph, value: float) -> None:
    inputs = torch.full((2, 64), value), torch.tensor([-1.0, 300.0]), torch.tensor([0.025, 1.0])
    keeps_the_contract(graph.outputs, answer(graph, *inputs, 2.0, 200.0, 20.0))
    untrained = UntrainedGraph("mirrored")
    keeps_the_contract(untrained.outputs, answer(untrained, *inputs))


@pytest.mark.parametrize("tail", ["mirrored", "power law"])
def test_the_untrained_graphs_take_any_dispersion(tail: str) -> None:
    graph = UntrainedGraph(tail)  # type: ignore[arg-type]
    for seed in (1, 6, 9, 12):
        scan = random_scan(seed)
        counts = torch.tensor(scan.counts).flatten(0, 1)
        offset = torch.full((len(counts),), scan.instrument.offset_ev)
        scale = torch.full((len(counts),), scan.instrument.scale_ev)
        answers = answer(graph, counts, offset, scale)
        keeps_the_contract(graph.outputs, answers)
        shift = torch.tensor(scan.shift_ev.ravel()).float()
        away = (answers["zero_loss_shift"] - shift).abs().max()
        assert float(away) < 0.5 * scan.instrument.scale_ev
        ratio = answers["thickness"] / torch.tensor(scan.thickness.ravel()).float()
        assert float((ratio - 1).abs().max()) < 0.15
        total = torch.nan_to_num(answers["subtracted"] + answers["zero_loss"], nan=0.0).sum(1)
        assert float((total / counts.sum(1) - 1).abs().max()) < 0.2


def test_a_setting_is_one_more_input() -> None:
    table = make_table(points=1900)
    setting = Setting("dwell_s", torch.tensor([0.01, 0.2]), (0.02, 0.1))
    table = replace(
        table,
        curves=table.curves.repeat(1, 2, 1),
        replicas=table.replicas.repeat(1, 2, 1),
        setting=setting,
        gap_range_ev=None,
        peaks=0,
    )
    graph = build_graph(table)
    assert graph.further_inputs[-1].name == "dwell_s"
    answers = answer(graph, *specimen(), 2.0, 200.0, 20.0, 0.05)
    keeps_the_contract(graph.outputs, answers)
    assert label(graph, "reason", answers) == {"given"}
    answers = answer(graph, *specimen(), 2.0, 200.0, 20.0, None)
    keeps_the_contract(graph.outputs, answers)
    assert label(graph, "reason", answers) == {"instrument setting not known"}
    # Beyond what was trained the values stand and are flagged; beyond the table there are none.
    answers = answer(graph, *specimen(), 2.0, 200.0, 20.0, 0.15)
    keeps_the_contract(graph.outputs, answers)
    assert label(graph, "reason", answers) == {"beyond the trained settings"}
    assert torch.isfinite(answers["subtracted"]).any()
    answers = answer(graph, *specimen(), 2.0, 200.0, 20.0, 0.3)
    assert label(graph, "reason", answers) == {"unlike the training"}
    assert torch.isnan(answers["subtracted"]).all()
