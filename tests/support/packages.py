"""Builds tiny but real model packages, whose right answer a test can compute by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from zeroloss.models import load_package, save_package

OPSET = 20
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
REASONS = ("given", "dark", "bright")
DARK, BRIGHT = 10.0, 1000.0
"""Mean counts below and above which a masked package gives no value."""
CURVE_CHANNELS = 16


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
    target = folder / name
    target.mkdir(parents=True)
    onsets = [ONSETS_EV[label] for label in labels]
    graph = tiny_graph(onnx, onsets).SerializeToString()
    (target / "model.onnx").write_bytes(graph)
    manifest: dict[str, Any] = {
        "format": 1,
        "name": name,
        "version": version,
        "title": "Tiny edge-jump model",
        "description": "Compares mean counts above and below the onset of every edge.",
        "graph": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(graph).hexdigest(),
            "opset": OPSET,
            "max_error": 0.0,
        },
        "takes": {
            "modality": "eels",
            "window_ev": [min(onsets) - WIDTH_EV, max(onsets) + WIDTH_EV],
        },
        "buckets": {"cpu": cpu_bucket, "gpu": [8, 32]},
        "outputs": [
            {
                "name": "probability",
                "kind": "probability",
                "shape": [len(labels)],
                "labels": list(labels),
                "uncertainty": "spread",
                "threshold": threshold,
            },
            {"name": "spread", "kind": "scalar", "shape": [len(labels)], "labels": list(labels)},
        ],
        "trained": {
            "date": "2026-01-01",
            "software": "none",
            "data": "none: written by hand",
            "spectra": 0,
            "members": ["edge jump"],
        },
    }
    for key, value in (changes or {}).items():
        change(manifest, key, value)
    write_manifest(target, manifest)
    return target


def make_masked_package(
    folder: Path, *, name: str = "masked", changes: Mapping[str, Any] | None = None
) -> Path:
    """Write a package with values that may be missing to `folder / name` and return that path.

    Of the measured channels it answers the `mean` count, its root as `mean_error`, the energy of
    the strongest channel as `peak` (eV), and two `curves`: the first `CURVE_CHANNELS` channels
    (0 where not measured) and twice those. `reason` is 1 where the mean is below `DARK` and 2 where
    it is above `BRIGHT`; mean, mean_error and peak are NaN there. `expected_masked` computes the
    same with numpy, `changes` is as for `make_package`.
    """
    parser = pytest.importorskip("onnx.parser", reason="building model packages needs onnx")
    target = folder / name
    target.mkdir(parents=True)
    graph = parser.parse_model(_MASKED_GRAPH).SerializeToString()
    (target / "model.onnx").write_bytes(graph)
    missing = {"kind": "scalar", "reason": "reason"}
    manifest: dict[str, Any] = {
        "format": 1,
        "name": name,
        "version": "2.0.0",
        "title": "Mean counts where they are neither few nor many",
        "description": "Mean, strongest channel, and why there is none.",
        "graph": {"sha256": hashlib.sha256(graph).hexdigest(), "opset": OPSET, "max_error": 0.0},
        "takes": {"modality": "eels", "window_ev": [-20.0, 60.0]},
        "outputs": [
            {"name": "mean", "unit": "counts", "uncertainty": "mean_error", **missing},
            {"name": "mean_error", "unit": "counts", **missing},
            {"name": "peak", "unit": "eV", **missing},
            {"name": "reason", "kind": "label", "labels": list(REASONS)},
            {
                "name": "curves",
                "kind": "spectrum",
                "shape": [2, CURVE_CHANNELS],
                "labels": ["first", "twice"],
                "unit": "counts",
                "axis": {"offset_ev": -2.0, "scale_ev": 0.25},
            },
        ],
        "trained": {
            "date": "2026-01-01",
            "software": "none",
            "data": "none: written by hand",
            "spectra": 0,
            "members": [],
        },
    }
    for key, value in (changes or {}).items():
        change(manifest, key, value)
    write_manifest(target, manifest)
    return target


def expected_masked(
    counts: npt.NDArray[np.float32], offset_ev: npt.ArrayLike, scale_ev: float
) -> dict[str, npt.NDArray[np.float64]]:
    """What a masked package answers for counts [n, channels] without its curves, with numpy."""
    clean = np.nan_to_num(counts.astype(np.float64))
    mean = clean.sum(axis=1) / np.maximum(1, np.isfinite(counts).sum(axis=1))
    reason = np.where(mean < DARK, 1.0, np.where(mean > BRIGHT, 2.0, 0.0))
    peak = np.asarray(offset_ev) + scale_ev * clean.argmax(axis=1)
    values = {"mean": mean, "mean_error": np.sqrt(np.maximum(mean, 0.0)), "peak": peak}
    values = {key: np.where(reason > 0, np.nan, value) for key, value in values.items()}
    return values | {"reason": reason}


_MASKED_GRAPH = f"""
    <ir_version: 10, opset_import: ["": {OPSET}]>
    masked (float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev) => (
        float[batch] mean, float[batch] mean_error, float[batch] peak, float[batch] reason,
        float[batch, 2, {CURVE_CHANNELS}] curves
    ) {{
        zero = Constant <value = float {{0.0}}> ()
        one = Constant <value = float {{1.0}}> ()
        two = Constant <value = float {{2.0}}> ()
        dark_limit = Constant <value = float {{{DARK}}}> ()
        bright_limit = Constant <value = float {{{BRIGHT}}}> ()
        first_axis = Constant <value_ints = [1]> ()
        begin = Constant <value_ints = [0]> ()
        end = Constant <value_ints = [{CURVE_CHANNELS}]> ()
        nan = Div (zero, zero)
        gone = IsNaN (counts)
        there = Not (gone)
        clean = Where (gone, zero, counts)
        weight = Cast <to = 1> (there)
        total = ReduceSum <keepdims = 0> (clean, first_axis)
        number = ReduceSum <keepdims = 0> (weight, first_axis)
        divisor = Max (number, one)
        average = Div (total, divisor)
        dark = Less (average, dark_limit)
        bright = Greater (average, bright_limit)
        dark_code = Cast <to = 1> (dark)
        bright_one = Cast <to = 1> (bright)
        bright_code = Mul (bright_one, two)
        reason = Add (dark_code, bright_code)
        missing = Greater (reason, zero)
        mean = Where (missing, nan, average)
        positive = Max (average, zero)
        root = Sqrt (positive)
        mean_error = Where (missing, nan, root)
        index = ArgMax <axis = 1, keepdims = 0> (clean)
        channel = Cast <to = 1> (index)
        steps = Mul (channel, scale_ev)
        energy = Add (offset_ev, steps)
        peak = Where (missing, nan, energy)
        first = Slice (clean, begin, end, first_axis)
        twice = Mul (first, two)
        first_curve = Unsqueeze (first, first_axis)
        twice_curve = Unsqueeze (twice, first_axis)
        curves = Concat <axis = 1> (first_curve, twice_curve)
    }}
"""


def make_dielectric_package(
    folder: Path, *, name: str = "optics", changes: Mapping[str, Any] | None = None
) -> Path:
    """Write a package with parameters to `folder / name` and return that path.

    With m the mean of the measured counts, n the refractive index (given, no default), E the beam
    energy (of the run, no default) and c the collection angle (of the run, 20 mrad by default):
    `thickness` m / 100 and its error sqrt(m) / 100, missing where m is below `DARK`;
    `thickness_nm` E m / (c n), missing also where n or E is; [low, median, high] curves
    `eps_real` n^2 a, `eps_imag` a / c and `subtracted` a, with a the first `CURVE_CHANNELS`
    channels times 0.5, 1 and 2. `expected_dielectric` computes the same with numpy, `changes` is
    as for `make_package`.
    """
    parser = pytest.importorskip("onnx.parser", reason="building model packages needs onnx")
    target = folder / name
    target.mkdir(parents=True)
    graph = parser.parse_model(_DIELECTRIC_GRAPH).SerializeToString()
    (target / "model.onnx").write_bytes(graph)
    curves = {
        "kind": "spectrum",
        "shape": [3, CURVE_CHANNELS],
        "labels": ["low", "median", "high"],
        "axis": {"offset_ev": 0.5, "scale_ev": 0.25},
    }
    optical = {**curves, "reason": "thickness_nm_reason"}
    manifest: dict[str, Any] = {
        "format": 1,
        "name": name,
        "version": "3.0.0",
        "title": "Something like a dielectric function",
        "description": "Simple numbers of counts and parameters.",
        "graph": {"sha256": hashlib.sha256(graph).hexdigest(), "opset": OPSET, "max_error": 0.0},
        "takes": {"modality": "eels", "window_ev": [-20.0, 60.0]},
        "parameters": [
            {
                "name": "refractive_index",
                "description": "of the specimen",
                "source": "given",
                "low": 1.0,
                "high": 10.0,
            },
            {
                "name": "beam_kev",
                "unit": "keV",
                "description": "of the electrons",
                "source": "beam_kev",
                "low": 20.0,
                "high": 400.0,
            },
            {
                "name": "collection_mrad",
                "unit": "mrad",
                "description": "semi-angle of the spectrometer",
                "source": "collection_mrad",
                "default": 20.0,
                "low": 0.1,
                "high": 200.0,
            },
        ],
        "outputs": [
            {
                "name": "thickness",
                "kind": "scalar",
                "unit": "t/λ",
                "uncertainty": "thickness_error",
                "reason": "reason",
            },
            {"name": "thickness_error", "kind": "scalar", "unit": "t/λ", "reason": "reason"},
            {
                "name": "thickness_nm",
                "kind": "scalar",
                "unit": "nm",
                "reason": "thickness_nm_reason",
            },
            {"name": "reason", "kind": "label", "labels": ["ok", "vacuum"]},
            {
                "name": "thickness_nm_reason",
                "kind": "label",
                "labels": ["ok", "vacuum", "no refractive index or beam energy"],
            },
            {"name": "eps_real", **optical},
            {"name": "eps_imag", **optical},
            {"name": "subtracted", "unit": "counts", **curves},
        ],
        "trained": {
            "date": "2026-01-01",
            "software": "none",
            "data": "none: written by hand",
            "spectra": 0,
            "members": [],
        },
    }
    for key, value in (changes or {}).items():
        change(manifest, key, value)
    write_manifest(target, manifest)
    return target


def expected_dielectric(
    counts: npt.NDArray[np.floating[Any]],
    *,
    refractive_index: float = np.nan,
    beam_kev: float = np.nan,
    collection_mrad: float = 20.0,
) -> dict[str, npt.NDArray[np.float64]]:
    """What a dielectric package answers for counts [n, channels], with numpy."""
    clean = np.nan_to_num(counts.astype(np.float64))
    mean = clean.sum(axis=1) / np.maximum(1, np.isfinite(counts).sum(axis=1))
    reason = np.where(mean < DARK, 1.0, 0.0)
    unknown = np.isnan(refractive_index + beam_kev)
    nm_reason = np.where(reason > 0, 1.0, 2.0 if unknown else 0.0)
    given = np.where(reason > 0, np.nan, 1.0)
    optical = np.where(nm_reason > 0, np.nan, 1.0)
    curves = clean[:, None, :CURVE_CHANNELS] * np.array([0.5, 1.0, 2.0])[:, None]
    return {
        "thickness": given * mean / 100,
        "thickness_error": given * np.sqrt(mean) / 100,
        "thickness_nm": optical * beam_kev * mean / collection_mrad / refractive_index,
        "reason": reason,
        "thickness_nm_reason": nm_reason,
        "eps_real": optical[:, None, None] * refractive_index**2 * curves,
        "eps_imag": optical[:, None, None] * curves / collection_mrad,
        "subtracted": curves,
    }


_DIELECTRIC_GRAPH = f"""
    <ir_version: 10, opset_import: ["": {OPSET}]>
    optics (
        float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev,
        float[batch] refractive_index, float[batch] beam_kev, float[batch] collection_mrad
    ) => (
        float[batch] thickness, float[batch] thickness_error, float[batch] thickness_nm,
        float[batch] reason, float[batch] thickness_nm_reason,
        float[batch, 3, {CURVE_CHANNELS}] eps_real, float[batch, 3, {CURVE_CHANNELS}] eps_imag,
        float[batch, 3, {CURVE_CHANNELS}] subtracted
    ) {{
        zero = Constant <value = float {{0.0}}> ()
        one = Constant <value = float {{1.0}}> ()
        two = Constant <value = float {{2.0}}> ()
        hundred = Constant <value = float {{100.0}}> ()
        dark_limit = Constant <value = float {{{DARK}}}> ()
        factors = Constant <value = float[1, 3, 1] {{0.5, 1.0, 2.0}}> ()
        first_axis = Constant <value_ints = [1]> ()
        last_axes = Constant <value_ints = [1, 2]> ()
        begin = Constant <value_ints = [0]> ()
        end = Constant <value_ints = [{CURVE_CHANNELS}]> ()
        nan = Div (zero, zero)
        gone = IsNaN (counts)
        there = Not (gone)
        clean = Where (gone, zero, counts)
        weight = Cast <to = 1> (there)
        total = ReduceSum <keepdims = 0> (clean, first_axis)
        number = ReduceSum <keepdims = 0> (weight, first_axis)
        divisor = Max (number, one)
        mean = Div (total, divisor)
        dark = Less (mean, dark_limit)
        reason = Cast <to = 1> (dark)
        no_index = IsNaN (refractive_index)
        no_beam = IsNaN (beam_kev)
        unknown = Or (no_index, no_beam)
        untold_one = Cast <to = 1> (unknown)
        untold = Mul (untold_one, two)
        thickness_nm_reason = Where (dark, reason, untold)
        not_optical = Greater (thickness_nm_reason, zero)
        relative = Div (mean, hundred)
        thickness = Where (dark, nan, relative)
        positive = Max (mean, zero)
        root = Sqrt (positive)
        relative_root = Div (root, hundred)
        thickness_error = Where (dark, nan, relative_root)
        of_beam = Mul (beam_kev, mean)
        of_angle = Div (of_beam, collection_mrad)
        of_index = Div (of_angle, refractive_index)
        thickness_nm = Where (not_optical, nan, of_index)
        part = Slice (clean, begin, end, first_axis)
        curve = Unsqueeze (part, first_axis)
        subtracted = Mul (curve, factors)
        masked = Unsqueeze (not_optical, last_axes)
        square = Mul (refractive_index, refractive_index)
        squares = Unsqueeze (square, last_axes)
        angles = Unsqueeze (collection_mrad, last_axes)
        real_part = Mul (subtracted, squares)
        eps_real = Where (masked, nan, real_part)
        imaginary_part = Div (subtracted, angles)
        eps_imag = Where (masked, nan, imaginary_part)
    }}
"""


def put_package(package: Path, **options: Any) -> str:
    """Write or renew the package in the folder `package` as `save_package` does, and give its hash.

    `options` are those of `make_package`.
    """
    with TemporaryDirectory() as scratch:
        made = load_package(make_package(Path(scratch), **options))
        save_package(package, made.manifest, made.read_graph())
    return load_package(package).sha256


def read_manifest(package: Path) -> dict[str, Any]:
    """The manifest of a package as plain JSON values."""
    manifest: dict[str, Any] = json.loads((package / "manifest.json").read_text("utf-8"))
    return manifest


def write_manifest(package: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of a package."""
    (package / "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")


def replace_graph(package: Path, model: Any) -> None:
    """Put another ONNX model (a `ModelProto`) into a package, with its right hash."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    (package / "model.onnx").write_bytes(data)
    manifest = read_manifest(package)
    change(manifest, "graph.sha256", hashlib.sha256(data).hexdigest())
    write_manifest(package, manifest)


def change(manifest: dict[str, Any], key: str, value: Any) -> None:
    """Set one value by its dotted key; a number picks from a list."""
    *path, last = key.split(".")
    inner: Any = manifest
    for part in path:
        inner = inner[int(part)] if isinstance(inner, list) else inner[part]
    if isinstance(inner, list):
        inner[int(last)] = value
    else:
        inner[last] = value


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
