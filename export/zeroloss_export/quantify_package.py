"""The quantification graph to a model package: nothing is trained, all of it is computed."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zeroloss.models import save_package
from zeroloss.models.manifest import (
    INPUT_NAMES,
    LOW_LOSS_INPUTS,
    SELECTION_INPUT,
    Buckets,
    Graph,
    Manifest,
    Selection,
    Takes,
    Trained,
)
from zeroloss_export.networks.quantification.cross_sections import compress
from zeroloss_export.networks.quantification.design import SLOTS, WINDOW_EV
from zeroloss_export.networks.quantification.graph import PARAMETERS, PREPARED, QuantifyGraph
from zeroloss_export.onnx_graph import OPSET, trace
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.physics.table import GosTable

BUCKETS: Final = Buckets(cpu=256, gpu=(256, 1024))
_ERROR_LIMIT: Final = 0.02
"""In units of the value, or of its error where that is more."""
_DESCRIPTION: Final = (
    "Atoms of chosen elements in every pixel, from a fit of the whole spectrum: near-power laws "
    "for the background, the cross sections of all edges of an element for the beam energy and "
    "angles of the run, convolved with the low loss of the pixel where there is one. Energies "
    "right behind an edge are left out, as cross sections of atoms know nothing of solids. Areal "
    "densities need the low loss and the ratio of the exposures; fractions need neither. Errors "
    "are those of counting and of how well the model fits; they hold neither the error of the "
    "cross sections (about 5 to 10 %) nor that of an element that was not chosen. Why an element "
    "has no value, or 0, stands in element_why, as one of the codes of why."
)


def write_quantify_package(
    folder: Path, *, version: str, name: str = "quantify", buckets: Buckets = BUCKETS
) -> Manifest:
    """Export the graph, verify it against torch, and write the package whole.

    Raises ValueError if the graph departs from torch by more than the manifest allows; the folder
    is then left as it was.
    """
    graph = QuantifyGraph(compress(GosTable.load())).eval()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        export_quantify(graph, path)
        error = largest_departure(graph, path, buckets)
        content = path.read_bytes()
    manifest = Manifest(
        name=name,
        version=version,
        title="Quantification: atomic fractions and areal densities",
        description=_DESCRIPTION,
        graph=Graph(
            sha256=hashlib.sha256(content).hexdigest(),
            opset=OPSET,
            max_error=round(error, 9),
            error_limit=_ERROR_LIMIT,
            prepared=PREPARED,
        ),
        takes=Takes(
            modality="eels",
            window_ev=WINDOW_EV,
            min_overlap_ev=25.0,
            signed_counts=True,
            selection=Selection(name="elements", labels=ELEMENTS, slots=SLOTS),
            low_loss=True,
        ),
        parameters=PARAMETERS,
        buckets=buckets,
        outputs=graph.outputs,
        trained=Trained(
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            software=f"torch {metadata.version('torch')}, onnx {metadata.version('onnx')}",
            data="none: the project's own generalised oscillator strengths, frozen core",
            spectra=0,
            members=(),
        ),
    )
    save_package(folder, manifest, content)
    return manifest


def input_names() -> tuple[str, ...]:
    """Of the graph, in the order of its arguments."""
    parameters = (item.name for item in PARAMETERS)
    return (*INPUT_NAMES, *parameters, SELECTION_INPUT, *LOW_LOSS_INPUTS)


def export_quantify(graph: QuantifyGraph, path: Path) -> None:
    """Write the graph as one ONNX file with open batch and channel dimensions."""
    example = dict(zip(input_names(), next(iter(check_inputs(((3, 64, 48),)))), strict=True))
    sizes = {name: {0: "batch"} for name in example}
    sizes[INPUT_NAMES[0]][1] = "channel"
    sizes[LOW_LOSS_INPUTS[0]][1] = "low_channel"
    del sizes[SELECTION_INPUT]
    trace(graph, path, example, [*(item.name for item in graph.outputs), *PREPARED], sizes)


def check_inputs(
    sizes: Sequence[tuple[int, int, int]] = ((1, 1000, 400), (64, 1024, 2), (64, 333, 1024)),
) -> Iterator[list[Tensor]]:
    """Spectra of boron nitride on a power law with every other input, for (batch, channels, low).

    Two low channels are what the daemon gives where there is no low loss. The same every time.
    """
    for batch, channels, low_channels in sizes:
        rng = np.random.default_rng(batch + channels)
        scale = 600.0 / channels
        energy = 130.0 + scale * np.arange(channels)
        level = np.geomspace(30.0, 1e5, batch)[:, None]
        mean = level * (energy / 200.0) ** -3
        for onset, height in ((188.0, 0.5), (401.0, 0.1)):
            mean = mean + level * height * (energy > onset) * (energy / onset) ** -4
        counts = rng.poisson(mean).astype(np.float32)
        counts[::7, channels // 2 : channels // 2 + 3] = np.nan
        axis = 600.0 / low_channels * np.arange(low_channels) - 20.0
        low = 1e5 * np.exp(-0.5 * (axis / 1.5) ** 2) + 300.0 * np.exp(-((axis - 25) ** 2) / 60.0)
        beside = np.broadcast_to(low if low_channels > 2 else np.nan, (batch, low_channels))
        selection = np.full(SLOTS, -1.0)
        selection[:2] = [ELEMENTS.index("B"), ELEMENTS.index("N")]
        one = np.ones(batch)
        values = (
            counts, 130.0 * one, scale * one, 300.0 * one, 5.0 * one, 20.0 * one, 10.0 * one,
            selection, beside, -20.0 * one, 600.0 / low_channels * one,
        )  # fmt: skip
        yield [torch.tensor(np.ascontiguousarray(item), dtype=torch.float32) for item in values]


@torch.no_grad()
def largest_departure(graph: QuantifyGraph, path: Path, buckets: Buckets) -> float:
    """Largest |torch - ONNX Runtime| over outputs and inputs, in units of the value or its error.

    Raises ValueError where a value is missing in one of them only.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in graph.outputs]
    worst = 0.0
    sizes = ((1, 1000, 400), (buckets.cpu, 1024, 2), (buckets.gpu[0], 333, 1024))
    for inputs in check_inputs(sizes):
        feed = {name: item.numpy() for name, item in zip(input_names(), inputs, strict=True)}
        got = dict(zip(names, session.run(names, feed), strict=True))
        wanted = dict(zip(names, (item.numpy() for item in graph(*inputs)), strict=False))
        for output in graph.outputs:
            one, other = wanted[output.name], got[output.name]
            if not (np.isnan(one) == np.isnan(other)).all():
                raise ValueError(f"the exported graph misses other values of {output.name}")
            size = np.maximum(np.nan_to_num(np.abs(one)), 1e-3)
            if output.uncertainty is not None:
                size = np.maximum(size, np.nan_to_num(wanted[output.uncertainty]))
            worst = max(worst, float(np.nan_to_num(np.abs(one - other) / size).max()))
    return worst
