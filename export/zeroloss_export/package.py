"""Checkpoints of several networks to one ONNX graph and its manifest: a model package."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zeroloss.models import save_package
from zeroloss.models.manifest import (
    INPUT_NAMES,
    Buckets,
    Graph,
    Manifest,
    Output,
    Takes,
    Trained,
)
from zeroloss_export.evaluation.measured import Predictor
from zeroloss_export.networks import build
from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.spectra import LabelledSpectra
from zeroloss_export.training.trainer import read_checkpoint

OPSET: Final = 20
OUTPUT_NAMES: Final = ("probability", "spread")
_CHECK_CHANNELS: Final = (40, 1000, 2048)


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network: its averaged weights and where they came from."""

    network: nn.Module
    architecture: str
    seed: int
    spectra: int

    def __str__(self) -> str:
        return f"{self.architecture} seed {self.seed}, {self.spectra} spectra"


def load_member(path: Path) -> Member:
    """Read a checkpoint; ValueError if it is none."""
    state = read_checkpoint(path)
    settings = state["settings"]
    network = build(settings["architecture"])
    network.load_state_dict(state["average"])
    return Member(network.eval(), settings["architecture"], settings["seed"], state["seen"])


def export_graph(
    module: nn.Module,
    path: Path,
    outputs: Sequence[str] = OUTPUT_NAMES,
    parameters: Sequence[str] = (),
) -> None:
    """Write a module as one ONNX file with dynamic batch and channel dimensions.

    Its forward takes the inputs of every package, then ``parameters``, and gives ``outputs``.
    """
    axis = (torch.tensor([100.0, 200.0]), torch.tensor([1.0, 2.0]))
    example = (torch.ones(2, 64), *axis, *(torch.ones(2) for _ in parameters))
    batch = torch.export.Dim("batch")
    channel = torch.export.Dim("channel", min=2)
    shapes = ({0: batch, 1: channel}, *({0: batch} for _ in example[1:]))
    logging.disable(logging.WARNING)
    try:
        # The exporter prints its progress and warns about its own insides.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                opset_version=OPSET,
                input_names=[*INPUT_NAMES, *parameters],
                output_names=list(outputs),
                dynamic_shapes=shapes,
                optimize=False,
                verbose=False,
            )
            assert program is not None
            _simplify(program.model)
            program.save(path, external_data=False)
    finally:
        logging.disable(logging.NOTSET)
    _forget_origin(path)


def _simplify(model: Any) -> None:
    """Fold constants and drop what nobody uses.

    The exporter's own optimiser also tries patterns at every node, half the time of an export of a
    large graph, for what ONNX Runtime does again when it loads it.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    common.InlinePass()(model)
    optimizer.fold_constants(model)
    for tidy in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        tidy(model)


def _forget_origin(path: Path) -> None:
    """Take the exporter's notes out of the graph: source paths and stack traces of this machine."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    noted = [model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info]
    noted += [*graph.initializer, *model.functions]
    noted += [node for function in model.functions for node in function.node]
    for item in noted:
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    onnx.save(model, path)


def onnx_runner(
    path: Path, outputs: Sequence[str], parameters: Sequence[str] = ()
) -> Callable[..., list[Tensor]]:
    """Run an ONNX file on the CPU with one thread: its inputs in order to ``outputs``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = (*INPUT_NAMES, *parameters)

    def run(*values: Tensor) -> list[Tensor]:
        feed = {name: value.numpy() for name, value in zip(names, values, strict=True)}
        return [torch.from_numpy(item) for item in session.run(list(outputs), feed)]

    return run


def onnx_predictor(path: Path) -> Predictor:
    """Run an ONNX file that gives probability and spread on the CPU with one thread."""
    runner = onnx_runner(path, OUTPUT_NAMES)

    def run(counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> tuple[Tensor, Tensor]:
        probability, spread = runner(counts, offset_ev, scale_ev)
        return probability, spread

    return run


def check_batches(inputs: Sequence[Tensor], buckets: Buckets) -> Iterator[list[Tensor]]:
    """The spectra, counts [n, channel] first, in batches of every bucket and channel count."""
    counts = inputs[0]
    for size in sorted({1, buckets.cpu, *buckets.gpu}):
        rows = torch.arange(size) % len(counts)
        for channels in _CHECK_CHANNELS:
            columns = torch.arange(channels) % counts.shape[1]
            cut = counts[rows][:, columns].contiguous()
            yield [cut, *(item[rows] for item in inputs[1:])]


@torch.no_grad()
def largest_difference(
    ensemble: nn.Module, predictor: Predictor, spectra: LabelledSpectra, buckets: Buckets
) -> float:
    """Largest |torch - ONNX Runtime| over both outputs, every bucket and several channel counts."""
    worst = 0.0
    for batch in check_batches((spectra.counts, spectra.offset_ev, spectra.scale_ev), buckets):
        for expected, got in zip(ensemble(*batch), predictor(*batch), strict=True):
            if not torch.isfinite(got).all():
                size = " x ".join(str(item) for item in batch[0].shape)
                raise ValueError(f"the exported graph gives NaN for {size} counts")
            worst = max(worst, float((expected - got).abs().max()))
    return worst


def write_package(
    folder: Path,
    members: Sequence[Member],
    check: LabelledSpectra,
    *,
    name: str = "elements",
    version: str,
    threshold: float,
    metrics: dict[str, float],
    data: str,
    buckets: Buckets | None = None,
) -> Manifest:
    """Export, verify against torch at every bucket, and write the package whole.

    ``check`` holds the simulated spectra of the comparison. Raises ValueError if the graph departs
    from torch by more than the manifest allows; the folder is then left as it was.
    """
    ensemble = Ensemble([member.network for member in members]).eval()
    buckets = buckets or Buckets()
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "model.onnx"
        export_graph(ensemble, graph)
        error = largest_difference(ensemble, onnx_predictor(graph), check, buckets)
        content = graph.read_bytes()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    common = {"shape": (len(ELEMENTS),), "labels": ELEMENTS}
    manifest = Manifest(
        name=name,
        version=version,
        title="Elements in core-loss spectra",
        description=(
            "Which of the elements Be to Bi have a core-loss edge in the spectrum: "
            "probability (of the mean logit) of an ensemble of networks trained on simulated "
            "spectra only, and the standard deviation of its members."
        ),
        graph=Graph(
            sha256=hashlib.sha256(content).hexdigest(), opset=OPSET, max_error=round(error, 9)
        ),
        takes=Takes(modality="eels", window_ev=ensemble.window_ev),
        buckets=buckets,
        outputs=(
            Output(
                name="probability",
                kind="probability",
                uncertainty="spread",
                threshold=threshold,
                **common,
            ),
            Output(name="spread", kind="scalar", **common),
        ),
        trained=Trained(
            date=today,
            software=f"torch {metadata.version('torch')}, onnx {metadata.version('onnx')}",
            data=data,
            spectra=sum(member.spectra for member in members),
            members=tuple(str(member) for member in members),
            metrics={key: round(value, 4) for key, value in metrics.items()},
        ),
    )
    save_package(folder, manifest, content)
    return manifest


@torch.no_grad()
def predict_simulated(
    predictor: Predictor, spectra: LabelledSpectra, batch: int = 128
) -> NDArray[np.float32]:
    """Probabilities [spectrum, 80] of simulated spectra."""
    parts = []
    for at in range(0, len(spectra.counts), batch):
        part = slice(at, at + batch)
        inputs = (spectra.counts[part], spectra.offset_ev[part], spectra.scale_ev[part])
        parts.append(predictor(*inputs)[0].numpy())
    return np.concatenate(parts)
