"""A package whose values may be missing for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .folders import OPSET, parse_model, write_package

REASONS = ("given", "dark", "bright")
DARK, BRIGHT = 10.0, 1000.0
"""Mean counts below and above which a masked package gives no value."""
CURVE_CHANNELS = 16


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
    missing = {"kind": "scalar", "reason": "reason"}
    manifest = {
        "name": name,
        "version": "2.0.0",
        "title": "Mean counts where they are neither few nor many",
        "description": "Mean, strongest channel, and why there is none.",
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
    }
    return write_package(folder, manifest, parse_model(_MASKED_GRAPH), changes)


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
