"""A tiny package that finds edges by the counts below and above their onsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zeroloss.models import load_package, save_package

from .folders import OPSET, write_package

WIDTH_EV = 40.0
GAIN = 8.0
ONSETS_EV = {
    "B": 188.0,
    "C": 284.0,
    "Ca": 346.0,
    "N": 401.0,
    "Ti": 456.0,
    "O": 532.0,
    "Mn": 640.0,
    "Fe": 708.0,
    "La": 832.0,
}
"""Edge onsets of the elements that tiny packages can identify, eV."""


def make_package(
    folder: Path,
    *,
    name: str = "tiny",
    labels: Sequence[str] = ("C", "N", "O", "Fe"),
    version: str = "1.0.0",
    threshold: float = 0.5,
    cpu_bucket: int = 8,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model package to `folder / name` and return that path.

    The graph keeps the contract of docs/model-package.md. Per label it takes the mean counts per
    channel in the `WIDTH_EV` above the label's onset (`ONSETS_EV`, onset included) and in the same
    width below it, over measured channels only (NaN = not measured), and answers

        probability = sigmoid(GAIN * ln((above + 1) / (below + 1)))
        spread      = GAIN * p * (1 - p) * sqrt(1 / (N_above + 1) + 1 / (N_below + 1))

    with N the total counts of the two windows; so a spectrum that falls steadily gives a
    probability below 0.5 and an edge jump one above it. Where either window holds no measured
    channel: probability 0, spread 0.5. `expected_answer` computes the same with numpy,
    `make_spectra` makes spectra with known edges. `changes` replaces values of the manifest by
    dotted key ("takes.modality": "edx"). Skips the test when the package onnx is missing.
    """
    onnx = pytest.importorskip("onnx", reason="building model packages needs the package onnx")
    onsets = [ONSETS_EV[label] for label in labels]
    probability = {
        "name": "probability",
        "kind": "probability",
        "shape": [len(labels)],
        "labels": list(labels),
        "uncertainty": "spread",
        "threshold": threshold,
    }
    spread = {"name": "spread", "kind": "scalar", "shape": [len(labels)], "labels": list(labels)}
    manifest = {
        "name": name,
        "version": version,
        "title": "Tiny edge-jump model",
        "description": "Compares mean counts above and below the onset of every edge.",
        "takes": {
            "modality": "eels",
            "window_ev": [min(onsets) - WIDTH_EV, max(onsets) + WIDTH_EV],
        },
        "buckets": {"cpu": cpu_bucket, "gpu": [8, 32]},
        "outputs": [probability, spread],
    }
    return write_package(folder, manifest, tiny_graph(onnx, onsets).SerializeToString(), changes)


def tiny_graph(onnx: Any, onsets: Sequence[float]) -> Any:
    """The `ModelProto` that `make_package` describes, for edges at these onsets, eV."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    float_type = onnx.TensorProto.FLOAT
    edge = np.array(onsets, np.float32)
    constants = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "gain": np.float32(GAIN),
        "zero_index": np.int64(0),
        "one_index": np.int64(1),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
        # Windows below and above every onset: [1, 2 * labels, 1].
        "window_begin": np.concatenate([edge - np.float32(WIDTH_EV), edge])[None, :, None],
        "window_end": np.concatenate([edge, edge + np.float32(WIDTH_EV)])[None, :, None],
        "halves": np.array([len(edge), len(edge)]),
    }
    # One line per node: outputs = operator(inputs).
    program = """
        shape = Shape(counts)
        channels = Gather(shape, one_index)
        index = Range(zero_index, channels, one_index)
        index_f = Cast(index)
        scale = Unsqueeze(scale_ev, axis_1)
        offset = Unsqueeze(offset_ev, axis_1)
        steps = Mul(scale, index_f)
        energy_2 = Add(offset, steps)
        energy = Unsqueeze(energy_2, axis_1)
        missing_2 = IsNaN(counts)
        measured_2 = Not(missing_2)
        clean_2 = Where(missing_2, zero, counts)
        measured = Unsqueeze(measured_2, axis_1)
        clean = Unsqueeze(clean_2, axis_1)
        from_begin = GreaterOrEqual(energy, window_begin)
        to_end = Less(energy, window_end)
        inside = And(from_begin, to_end)
        seen = And(inside, measured)
        weight = Cast(seen)
        weighted = Mul(weight, clean)
        total = ReduceSum(weighted, axis_2)
        number = ReduceSum(weight, axis_2)
        divisor = Max(number, one)
        mean = Div(total, divisor)
        mean_1 = Add(mean, one)
        below, above = Split(mean_1, halves)
        ratio = Div(above, below)
        log_ratio = Log(ratio)
        logit = Mul(gain, log_ratio)
        p = Sigmoid(logit)
        q = Sub(one, p)
        pq = Mul(p, q)
        slope = Mul(gain, pq)
        total_1 = Add(total, one)
        variance = Reciprocal(total_1)
        variance_below, variance_above = Split(variance, halves)
        variance_sum = Add(variance_below, variance_above)
        noise = Sqrt(variance_sum)
        s = Mul(slope, noise)
        number_below, number_above = Split(number, halves)
        fewest = Min(number_below, number_above)
        known = Greater(fewest, zero)
        probability = Where(known, p, zero)
        spread = Where(known, s, half)
    """
    extra: dict[str, dict[str, Any]] = {
        "Cast": {"to": float_type},
        "Split": {"axis": 1},
        "ReduceSum": {"keepdims": 0},
    }
    nodes = []
    for line in filter(None, map(str.strip, program.splitlines())):
        outputs, _, call = line.partition(" = ")
        operator, _, inputs = call.removesuffix(")").partition("(")
        nodes.append(
            helper.make_node(
                operator, inputs.split(", "), outputs.split(", "), **extra.get(operator, {})
            )
        )
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("counts", float_type, ["batch", "channel"]),
            helper.make_tensor_value_info("offset_ev", float_type, ["batch"]),
            helper.make_tensor_value_info("scale_ev", float_type, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("probability", float_type, ["batch", len(edge)]),
            helper.make_tensor_value_info("spread", float_type, ["batch", len(edge)]),
        ],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def make_spectra(
    present: Sequence[Sequence[str]],
    *,
    offset_ev: float = 100.0,
    scale_ev: float = 1.0,
    channels: int = 900,
    counts: float = 200.0,
) -> npt.NDArray[np.float32]:
    """Noise-free spectra [n, channels], one per list of elements present: a falling power law with
    `counts` counts in channel 0 and, for each element, a jump to twice the background at its onset.
    """
    energy = offset_ev + scale_ev * np.arange(channels)
    background = counts * (np.maximum(energy, 1.0) / max(offset_ev, 1.0)) ** -1.0
    spectra = np.tile(background, (len(present), 1))
    for row, elements in enumerate(present):
        for element in elements:
            spectra[row] += background * (energy >= ONSETS_EV[element])
    return spectra.astype(np.float32)


def expected_answer(
    counts: npt.NDArray[np.float32], offset_ev: float, scale_ev: float, labels: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probability and spread [n, labels] that a tiny package gives, computed with numpy."""
    energy = offset_ev + scale_ev * np.arange(counts.shape[1])
    probability = np.zeros((len(counts), len(labels)))
    spread = np.full_like(probability, 0.5)
    for column, label in enumerate(labels):
        onset = ONSETS_EV[label]
        above = counts[:, (energy >= onset) & (energy < onset + WIDTH_EV)].astype(np.float64)
        below = counts[:, (energy >= onset - WIDTH_EV) & (energy < onset)].astype(np.float64)
        for row in range(len(counts)):
            a, b = above[row][~np.isnan(above[row])], below[row][~np.isnan(below[row])]
            if len(a) and len(b):
                p = 1 / (1 + ((b.mean() + 1) / (a.mean() + 1)) ** GAIN)
                probability[row, column] = p
                noise = np.sqrt(1 / (a.sum() + 1) + 1 / (b.sum() + 1))
                spread[row, column] = GAIN * p * (1 - p) * noise
    return probability, spread


def put_package(package: Path, **options: Any) -> str:
    """Write or renew the package in the folder `package` as `save_package` does, and give its hash.

    `options` are those of `make_package`.
    """
    with TemporaryDirectory() as scratch:
        made = load_package(make_package(Path(scratch), **options))
        save_package(package, made.manifest, made.read_graph())
    return load_package(package).sha256
