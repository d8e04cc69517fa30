"""Torch modules to ONNX files with the inputs of a model package, and back to answers."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    example = _example(parameters)
    batch = torch.export.Dim("batch")
    # Where small sizes would be a case of their own the exporter traces everything again; the graph
    # is the same and takes two channels too.
    channel = torch.export.Dim("channel", min=16)
    shapes = ({0: batch, 1: channel}, *({0: batch} for _ in range(len(example) - 1)))
    with _quietly():
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        _simplify(program.model)
        program.save(path, external_data=False)
    _forget_origin(path)


def trace_graph(
    module: nn.Module,
    path: Path,
    outputs: Sequence[str],
    parameters: Sequence[str] = (),
) -> None:
    """As ``export_graph``, by running the module once: see ``trace``."""
    example = _example(parameters)
    sizes = {name: {0: "batch"} for name in example}
    sizes[INPUT_NAMES[0]][1] = "channel"
    trace(module, path, example, outputs, sizes)


def _example(parameters: Sequence[str]) -> dict[str, Tensor]:
    """Inputs of a package for two spectra of 64 channels."""
    axis = (torch.tensor([100.0, 200.0]), torch.tensor([1.0, 2.0]))
    values = (torch.ones(2, 64), *axis, *(torch.ones(2) for _ in parameters))
    return dict(zip([*INPUT_NAMES, *parameters], values, strict=True))


def trace(
    module: nn.Module,
    path: Path,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    open_sizes: Mapping[str, Mapping[int, str]],
) -> None:
    """Write a module as one ONNX file by running it once on an example of its inputs.

    For many small nodes that takes a tenth of the time of the other exporter, which follows every
    size as a symbol. ``open_sizes`` names the dimensions of the inputs that may have another size;
    the first one of every output is the batch. Nothing in its forward may depend on a size as a
    number, or change a tensor in place: compare the file with torch at other sizes.
    """
    import onnx_ir

    sizes = {name: dict(open_sizes.get(name, {})) for name in example}
    with _quietly():
        torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(example),
            output_names=list(outputs),
            dynamic_axes=sizes | {name: {0: "batch"} for name in outputs},
        )
        model = onnx_ir.load(path)
        _simplify(model)
        onnx_ir.save(model, path)
    _forget_origin(path)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Exporters print their progress, and warn about their own insides and age."""
    logging.disable(logging.WARNING)
    collecting = gc.isenabled()
    # Millions of objects that live to the end: looking for garbage is a tenth of the time.
    gc.disable()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        if collecting:
            gc.enable()


def _simplify(model: Any) -> None:
    """Fold constants, drop what nobody uses, and take cheaper operators.

    The exporter's own optimiser also tries patterns at every node, half the time of an export of a
    large graph, for what ONNX Runtime does again when it loads it.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer

    common.InlinePass()(model)
    optimizer.fold_constants(model)
    _cheaper(model)
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


def _cheaper(model: Any) -> None:
    """What is the same with less work, which an exporter cannot say.

    An index of GatherElements need not be int64. Where(IsNaN(x), 0, x) is one comparison and one
    choice in ThresholdedRelu, a third of the work; float32 only.
    """
    from onnx_ir import DataType, node, passes

    passes.common.ShapeInferencePass()(model)
    for item in list(model.graph):
        if item.op_type == "GatherElements":
            cast = item.inputs[1].producer()
            if (
                cast is not None
                and cast.op_type == "Cast"
                and cast.attributes["to"].as_int() == DataType.INT64
                and cast.inputs[0].dtype == DataType.INT32
            ):
                item.replace_input_with(1, cast.inputs[0])
        elif item.op_type == "Where" and item.outputs[0].dtype == DataType.FLOAT:
            asked, nothing, values = item.inputs
            test = asked.producer()
            zero = nothing.const_value
            if (
                test is not None
                and test.op_type == "IsNaN"
                and test.inputs[0] is values
                and zero is not None
                and not np.any(zero.numpy())
            ):
                least = float(np.finfo(np.float32).min)
                relu = node("ThresholdedRelu", [values], {"alpha": least})
                relu.outputs[0].name = item.outputs[0].name
                relu.outputs[0].dtype = item.outputs[0].dtype
                relu.outputs[0].shape = item.outputs[0].shape
                model.graph.insert_after(item, relu)
                item.outputs[0].replace_all_uses_with(relu.outputs[0])
                item.outputs[0].name = f"{relu.outputs[0].name}_before"


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
