"""A package with parameters, and with answers that need them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .folders import OPSET, parse_model, write_package
from .masked import CURVE_CHANNELS, DARK


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
    curves = {
        "kind": "spectrum",
        "shape": [3, CURVE_CHANNELS],
        "labels": ["low", "median", "high"],
        "axis": {"offset_ev": 0.5, "scale_ev": 0.25},
    }
    optical = {**curves, "reason": "thickness_nm_reason"}
    manifest = {
        "name": name,
        "version": "3.0.0",
        "title": "Something like a dielectric function",
        "description": "Simple numbers of counts and parameters.",
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
    }
    return write_package(folder, manifest, parse_model(_DIELECTRIC_GRAPH), changes)


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
