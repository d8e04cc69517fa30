"""Torch modules to ONNX files with the inputs of a model package, and back to answers."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from zeroloss.models.manifest import INPUT_NAMES, Buckets

OPSET: Final = 20
_CHECK_CHANNELS: Final = (40, 1000, 2048)
_LARGEST_HALF: Final = float(np.finfo(np.float16).max)
_LEAST_HALVED: Final = 64
"""Numbers of a weight that is worth a node of its own."""


def export_graph(
    module: nn.Module,
    path: Path,
    outputs: Sequence[str],
    parameters: Sequence[str] = (),
) -> None:
    """Write a module as one ONNX file with dynamic batch and channel dimensions.

    Its forward takes the inputs of every package, then ``parameters``, and gives ``outputs``.
    """
    axis = (torch.tensor([100.0, 200.0]), torch.tensor([1.0, 2.0]))
    example = (torch.ones(2, 64), *axis, *(torch.ones(2) for _ in parameters))
    batch = torch.export.Dim("batch")
    # Where small sizes would be a case of their own the exporter traces everything again; the graph
    # is the same and takes two channels too.
    channel = torch.export.Dim("channel", min=16)
    shapes = ({0: batch, 1: channel}, *({0: batch} for _ in example[1:]))
    logging.disable(logging.WARNING)
    collecting = gc.isenabled()
    # Millions of objects that live to the end: looking for garbage is a tenth of the time.
    gc.disable()
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
                custom_translation_table={
                    torch.ops.aten.gather.default: _gathered,
                    torch.ops.aten.nan_to_num.default: _without_nan,
                },
                optimize=False,
                verbose=False,
            )
            assert program is not None
            _simplify(program.model)
            program.save(path, external_data=False)
    finally:
        logging.disable(logging.NOTSET)
        if collecting:
            gc.enable()
    _forget_origin(path)


def _gathered(values: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    """torch.gather, its index not made int64 first."""
    from onnxscript import opset20

    del sparse_grad  # only of backward passes
    return opset20.GatherElements(values, index, axis=dim)


def _without_nan(
    values: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """torch.nan_to_num where only infinity stays: what is not above the least number becomes 0."""
    from onnxscript import opset20

    if (nan, posinf, neginf) != (0.0, math.inf, 0.0):
        raise ValueError(
            f"nan_to_num with nan={nan}, posinf={posinf}, neginf={neginf} is not exported: "
            "expected 0, inf and 0"
        )
    # A comparison and a choice, but one operator, a third of the work of IsNaN and Where.
    return opset20.ThresholdedRelu(values, alpha=float(np.finfo(np.float32).min))


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


def halve_weights(path: Path) -> None:
    """Store as float16 every float32 weight of an ONNX file that loses nothing by it.

    A Cast node makes float32 of it again; ONNX Runtime does that once, when it loads the file, so
    that neither the arithmetic nor its speed changes. The weight NAME is then read as NAME_f32.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    halved = {}
    for item in graph.initializer:
        if item.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(item)
        half = values.clip(-_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
        if values.size >= _LEAST_HALVED and np.array_equal(half.astype(np.float32), values):
            item.CopyFrom(numpy_helper.from_array(half, item.name))
            halved[item.name] = f"{item.name}_f32"
    casts = [
        helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT)
        for name, wide in halved.items()
    ]
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = halved.get(name, name)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
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


def check_batches(inputs: Sequence[Tensor], buckets: Buckets) -> Iterator[list[Tensor]]:
    """The spectra, counts [n, channel] first, in batches of every bucket.

    Those of the CPU's bucket come in all channel counts, the others in the largest.
    """
    counts = inputs[0]
    for size in sorted({1, buckets.cpu, *buckets.gpu}):
        rows = torch.arange(size) % len(counts)
        for channels in _CHECK_CHANNELS if size == buckets.cpu else _CHECK_CHANNELS[-1:]:
            columns = torch.arange(channels) % counts.shape[1]
            cut = counts[rows][:, columns].contiguous()
            yield [cut, *(item[rows] for item in inputs[1:])]
