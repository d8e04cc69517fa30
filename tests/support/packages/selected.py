"""A package that is told which elements, takes the low loss beside, and prepares its windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .folders import OPSET, parse_model, write_package
from .masked import CURVE_CHANNELS
from .tiny import ONSETS_EV, WIDTH_EV

SLOTS = 3
WHY = ("given", "no low loss", "no exposure ratio")


def make_selected_package(
    folder: Path, *, name: str = "selected", changes: Mapping[str, Any] | None = None
) -> Path:
    """Write a package with a selection to `folder / name` and return that path.

    Of at most `SLOTS` elements of `ONSETS_EV` it answers the counts in the `WIDTH_EV` above their
    onsets as `signal`, and as `density` 1000 times these per count of the low loss and exposure
    ratio (given, no default), with `why` where that is missing. The windows are the prepared tensor
    `windows`; they move with the strongest channel of the low loss, which is at 0 eV where its axis
    is right. `curve` are the first `CURVE_CHANNELS` channels (0 where not measured).
    `expected_selected` computes the same with numpy, `changes` is as for `make_package`.
    """
    onsets = list(ONSETS_EV.values())
    selected = {"kind": "scalar", "shape": [SLOTS], "selected": True}
    manifest = {
        "name": name,
        "version": "4.0.0",
        "title": "Counts above the edges of chosen elements",
        "description": "Counts in windows, and per count of the low loss.",
        "takes": {
            "modality": "eels",
            "window_ev": [min(onsets) - WIDTH_EV, max(onsets) + WIDTH_EV],
            "selection": {"name": "elements", "labels": list(ONSETS_EV), "slots": SLOTS},
            "low_loss": True,
        },
        "parameters": [
            {
                "name": "exposure_ratio",
                "description": "of the core loss to that of the low loss",
                "source": "given",
                "low": 0.001,
                "high": 1e6,
            }
        ],
        "outputs": [
            {"name": "signal", "unit": "counts", **selected},
            {"name": "density", "reason": "why", **selected},
            {"name": "why", "kind": "label", "labels": list(WHY)},
            {
                "name": "curve",
                "kind": "spectrum",
                "shape": [CURVE_CHANNELS],
                "axis": {"offset_ev": 0.0, "scale_ev": 1.0},
            },
        ],
    }
    changes = {"graph.prepared": ["windows"], **(changes or {})}
    return write_package(folder, manifest, parse_model(SELECTED_GRAPH), changes)


def expected_selected(
    counts: npt.NDArray[np.floating[Any]],
    offset_ev: npt.ArrayLike,
    scale_ev: float,
    labels: Sequence[str],
    *,
    low_loss: tuple[npt.NDArray[np.floating[Any]], npt.ArrayLike, float] | None = None,
    exposure_ratio: float = np.nan,
) -> dict[str, npt.NDArray[np.float64]]:
    """What a selected package answers for counts [n, channels] without its curve, with numpy.

    `low_loss` are counts [n, channels], offset and scale of the low loss.
    """
    n = len(counts)
    clean = np.nan_to_num(counts.astype(np.float64))
    position, total = np.zeros(n), np.zeros(n)
    if low_loss is not None:
        low = np.nan_to_num(low_loss[0].astype(np.float64))
        position = np.asarray(low_loss[1]) + low_loss[2] * low.argmax(axis=1)
        total = low.sum(axis=1)
        position = np.where(total > 0, position, 0.0)
    energy = np.broadcast_to(offset_ev, n)[:, None] + scale_ev * np.arange(counts.shape[1])
    energy = energy - position[:, None]
    signal = np.stack(
        [
            (clean * ((energy >= onset) & (energy < onset + WIDTH_EV))).sum(axis=1)
            for onset in (ONSETS_EV[label] for label in labels)
        ],
        axis=1,
    )
    unknown = 2.0 if np.isnan(exposure_ratio) else 0.0
    why = np.where(total > 0, unknown, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = 1000 * signal / (total * exposure_ratio)[:, None]
    density[why > 0] = np.nan
    return {"signal": signal, "density": density, "why": why}


SELECTED_GRAPH = f"""
    <ir_version: 10, opset_import: ["": {OPSET}]>
    selected (
        float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev,
        float[{SLOTS}] selection,
        float[batch, low_channel] low_loss_counts, float[batch] low_loss_offset_ev,
        float[batch] low_loss_scale_ev, float[batch] exposure_ratio
    ) => (
        float[batch, {SLOTS}] signal, float[batch, {SLOTS}] density, float[batch] why,
        float[batch, {CURVE_CHANNELS}] curve, float[batch, {SLOTS}, channel] windows
    ) {{
        zero = Constant <value = float {{0.0}}> ()
        one = Constant <value = float {{1.0}}> ()
        two = Constant <value = float {{2.0}}> ()
        thousand = Constant <value = float {{1000.0}}> ()
        width = Constant <value = float {{{WIDTH_EV}}}> ()
        onsets = Constant <value_floats = [{", ".join(map(str, ONSETS_EV.values()))}]> ()
        first = Constant <value_int = 0> ()
        step = Constant <value_int = 1> ()
        axis_1 = Constant <value_ints = [1]> ()
        axis_2 = Constant <value_ints = [2]> ()
        axes = Constant <value_ints = [0, 2]> ()
        nan = Div (zero, zero)
        no_low = IsNaN (low_loss_counts)
        low = Where (no_low, zero, low_loss_counts)
        low_total = ReduceSum <keepdims = 0> (low, axis_1)
        dark = LessOrEqual (low_total, zero)
        strongest = ArgMax <axis = 1, keepdims = 0> (low)
        strongest_f = Cast <to = 1> (strongest)
        low_steps = Mul (strongest_f, low_loss_scale_ev)
        peak = Add (low_loss_offset_ev, low_steps)
        position = Where (dark, zero, peak)
        channels = Shape <start = 1> (counts)
        channel_count = Squeeze (channels)
        index = Range (first, channel_count, step)
        index_f = Cast <to = 1> (index)
        moved = Sub (offset_ev, position)
        offset = Unsqueeze (moved, axis_1)
        scale = Unsqueeze (scale_ev, axis_1)
        steps = Mul (scale, index_f)
        energy_2 = Add (offset, steps)
        energy = Unsqueeze (energy_2, axis_1)
        used = GreaterOrEqual (selection, zero)
        label = Max (selection, zero)
        label_index = Cast <to = 7> (label)
        onset_1 = Gather (onsets, label_index)
        begin = Unsqueeze (onset_1, axes)
        end = Add (begin, width)
        from_begin = GreaterOrEqual (energy, begin)
        to_end = Less (energy, end)
        inside = And (from_begin, to_end)
        in_use = Unsqueeze (used, axes)
        seen = And (inside, in_use)
        windows = Cast <to = 1> (seen)
        gone = IsNaN (counts)
        clean = Where (gone, zero, counts)
        curve_begin = Constant <value_ints = [0]> ()
        curve_end = Constant <value_ints = [{CURVE_CHANNELS}]> ()
        curve = Slice (clean, curve_begin, curve_end, axis_1)
        rows = Unsqueeze (clean, axis_1)
        products = Mul (windows, rows)
        signal = ReduceSum <keepdims = 0> (products, axis_2)
        unknown = IsNaN (exposure_ratio)
        unknown_one = Cast <to = 1> (unknown)
        unknown_code = Mul (unknown_one, two)
        why = Where (dark, one, unknown_code)
        missing_1 = Greater (why, zero)
        missing = Unsqueeze (missing_1, axis_1)
        dose_1 = Mul (low_total, exposure_ratio)
        dose = Unsqueeze (dose_1, axis_1)
        thousands = Mul (signal, thousand)
        known = Div (thousands, dose)
        density = Where (missing, nan, known)
    }}
"""
