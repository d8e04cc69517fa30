"""Low-loss graphs to model packages: of a trained zero-loss table, or without any training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from zeroloss.models import save_package
from zeroloss.models.manifest import Buckets, Manifest, Takes, Trained
from zeroloss_export.networks.low_loss.fallback import Tail, UntrainedGraph
from zeroloss_export.networks.low_loss.graph import LowLossGraph, build_graph
from zeroloss_export.networks.low_loss.peak import SEARCH_EV
from zeroloss_export.networks.low_loss.table import ZeroLossTable
from zeroloss_export.onnx_graph import check_batches, onnx_runner, trace_graph
from zeroloss_export.package_parts import trained_today, verified_graph
from zeroloss_export.simulate.low_loss import random_scan

BUCKETS: Final = Buckets(cpu=128, gpu=(128, 512))
_AROUND_ZERO_EV: Final = (-2.0, 2.0)
"""Energies that a low-loss range holds."""
_OTHER_SCALE: Final = 0.1
"""Relative departure from the trained dispersion up to which a model answers."""
_CORE: Final = 1e3
"""Height of the zero-loss peak that graphs are checked on, in means of its matching window."""
_ERROR_LIMIT: Final = 0.02
"""Where a choice between two grid points hangs on the last digit, more than rounding differs."""

UNTRAINED_NAMES: Final[dict[Tail, str]] = {
    "mirrored": "low_loss",
    "power law": "low_loss_power_law",
}
"""Names of the packages without training, by their tail of the zero-loss peak."""
_TITLES: Final[dict[Tail, str]] = {
    "mirrored": "Low loss, untrained: mirrored zero-loss tail, no error band",
    "power law": "Low loss, untrained: power-law zero-loss tail, no error band",
}
_DESCRIPTIONS: Final[dict[Tail, str]] = {
    "mirrored": (
        "Position, width and counts of the zero-loss peak, t/λ, and the spectrum without its "
        "zero-loss peak. Beyond the foot of its right flank the peak is its left tail, mirrored; "
        "it is wrong where the tails of the instrument are not alike, and holds nothing of the "
        "energies that the left tail does not reach. No training, so no error bands: do not read "
        "a band gap off the subtracted spectrum. t/λ by the log-ratio method; counts beyond the "
        "range are extrapolated by a power law of an exponent of at least 1, too many where the "
        "specimen is thick and the range short."
    ),
    "power law": (
        "Position, width and counts of the zero-loss peak, t/λ, and the spectrum without its "
        "zero-loss peak. Beyond the foot of its right flank the peak is a power law A E^-r fitted "
        "between the foot and twice its energy; it is wrong where the specimen loses energy "
        "there, and because the exponent of real tails falls with energy. No training, so no "
        "error bands: do not read a band gap off the subtracted spectrum. t/λ as the package "
        "low_loss."
    ),
}


def write_zero_loss_package(
    folder: Path,
    table: ZeroLossTable,
    trained: Trained,
    *,
    version: str,
    name: str = "zero_loss",
    title: str = "Low loss: zero-loss peak, thickness, band gap, dielectric function",
    description: str,
    search_ev: tuple[float, float] = SEARCH_EV,
    buckets: Buckets = BUCKETS,
) -> Manifest:
    """Export the graph of a trained table, verify it against torch, and write the package whole.

    Raises ValueError if the graph departs from torch by more than the manifest allows; the folder
    is then left as it was.
    """
    scale = (table.scale_ev * (1.0 - _OTHER_SCALE), table.scale_ev * (1.0 + _OTHER_SCALE))
    return _write(
        folder,
        build_graph(table, search_ev),
        spectra_of(table),
        buckets,
        name=name,
        version=version,
        title=title,
        description=description,
        takes=_takes(scale),
        trained=trained,
    )


def write_untrained_package(
    folder: Path, tail: Tail, *, version: str, buckets: Buckets = BUCKETS
) -> Manifest:
    """Export the graph that needs no training, verify it, and write the package whole.

    That of the mirrored tail stands in where no package is trained, that of the power law runs only
    where it is named. Raises as ``write_zero_loss_package``.
    """
    return _write(
        folder,
        UntrainedGraph(tail).eval(),
        _simulated_spectra(),
        buckets,
        name=UNTRAINED_NAMES[tail],
        version=version,
        title=_TITLES[tail],
        description=_DESCRIPTIONS[tail],
        when_named=tail == "power law",
        stands_in=tail == "mirrored",
        takes=_takes(None),
        trained=trained_today(data="none: closed formulas", spectra=0, members=()),
    )


def spectra_of(table: ZeroLossTable) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy counts [node, channel], offset_ev and scale_ev that a table is made for.

    Every node of ln N has its median curve with its counts, on both sides of a Gaussian as wide as
    those trained on: below the matching window the curves of a table are nothing measured. A loss
    rises from above the lower end of the gap range, or 2 eV. The same spectra every time.
    """
    energy = table.energy_ev.float()
    nodes = len(table.log_counts)
    mirrored = ((energy.abs().clamp(min=table.match_ev[0]) - energy[0]) / table.scale_ev).round()
    curve = table.curves[1, :nodes, mirrored.long().clamp(max=len(energy) - 1)].exp()
    width = 0.5 * sum(table.trained_width_ev)
    shape = curve + _CORE * torch.exp(-4.0 * math.log(2.0) * (energy / width).square())
    core = (energy.abs() <= width).float()
    shape = shape / (shape * core).sum(1, keepdim=True)
    onset = (table.gap_range_ev or (2.0, 0.0))[0] + 0.5
    beyond = (energy - onset).clamp(min=0.0)
    loss = 3e-4 * beyond / (1.0 + (beyond / 12.0) ** 3)
    mean = table.log_counts.exp()[:, None] * (shape + loss * shape.amax(1, keepdim=True))
    sigma = (table.noise.gain * mean + table.noise.readout**2).sqrt()
    rng = torch.Generator().manual_seed(11)
    counts = mean + sigma * torch.randn(mean.shape, generator=rng)
    shift = torch.linspace(-0.4, 0.4, nodes) * table.trained_width_ev[0]
    return counts, table.first_ev + shift, torch.full((nodes,), table.scale_ev)


@torch.no_grad()
def largest_departure(
    graph: LowLossGraph | UntrainedGraph,
    run: Callable[..., list[Tensor]],
    inputs: Sequence[Tensor],
    buckets: Buckets,
) -> float:
    """Largest |torch - ONNX Runtime| over outputs, buckets and channel counts.

    Absolute for an output whose values in the spectrum are up to 1, else in units of the largest.
    Raises ValueError where a value is missing in one of them only, and where there are none.
    """
    worst, answered = 0.0, False
    for batch in check_batches(inputs, buckets):
        answers = zip(graph.outputs, graph(*batch), run(*batch), strict=True)
        for output, expected, got in answers:
            if not bool((torch.isnan(expected) == torch.isnan(got)).all()):
                raise ValueError(f"the exported graph misses other values of {output.name}")
            answered |= output.kind != "label" and not bool(torch.isnan(expected).all())
            expected = torch.nan_to_num(expected.reshape(len(expected), -1), nan=0.0)
            got = torch.nan_to_num(got.reshape(len(got), -1), nan=0.0)
            largest = expected.abs().amax(1, keepdim=True).clamp(min=1.0)
            worst = max(worst, float(((expected - got).abs() / largest).max()))
    if not answered:
        raise ValueError("the graph answers none of the spectra that it is checked on")
    return worst


def _write(
    folder: Path,
    graph: LowLossGraph | UntrainedGraph,
    spectra: tuple[Tensor, Tensor, Tensor],
    buckets: Buckets,
    **about: Any,
) -> Manifest:
    parameters = [item.name for item in graph.further_inputs]
    outputs = [item.name for item in graph.outputs]
    known = [
        torch.full_like(spectra[1], 0.5 * (item.low + item.high)) for item in graph.further_inputs
    ]

    # A larger batch goes through the same nodes; 512 spectra would take longer than all others.
    compared = buckets.model_copy(update={"gpu": (buckets.cpu,)})

    def departure(path: Path) -> float:
        run = onnx_runner(path, outputs, parameters)
        return largest_departure(graph, run, (*spectra, *known), compared)

    content, described = verified_graph(
        graph,
        outputs,
        departure,
        parameters=parameters,
        export=trace_graph,
        error_limit=_ERROR_LIMIT,
    )
    manifest = Manifest(
        graph=described,
        outputs=graph.outputs,
        parameters=graph.further_inputs,
        buckets=buckets,
        **about,
    )
    save_package(folder, manifest, content)
    return manifest


def _takes(scale_ev: tuple[float, float] | None) -> Takes:
    low, high = _AROUND_ZERO_EV
    return Takes(
        modality="eels",
        window_ev=_AROUND_ZERO_EV,
        min_overlap_ev=0.5 * (high - low),
        scale_ev=scale_ev,
        signed_counts=True,
    )


def _simulated_spectra() -> tuple[Tensor, Tensor, Tensor]:
    parts = [random_scan(seed) for seed in range(4)]
    channels = min(part.counts.shape[-1] for part in parts)
    counts = [torch.tensor(part.counts).float().flatten(0, 1)[:, :channels] for part in parts]
    sizes = [len(item) for item in counts]
    axes = [part.instrument for part in parts]
    offset = torch.cat([torch.full((n,), a.offset_ev) for n, a in zip(sizes, axes, strict=True)])
    scale = torch.cat([torch.full((n,), a.scale_ev) for n, a in zip(sizes, axes, strict=True)])
    return torch.cat(counts), offset, scale
