"""Builds tiny but real model packages, whose right answer a test can compute by itself."""

from __future__ import annotations

from .dielectric import expected_dielectric, make_dielectric_package
from .folders import change, read_manifest, replace_graph, write_manifest
from .masked import CURVE_CHANNELS, REASONS, expected_masked, make_masked_package
from .selected import expected_selected, make_selected_package
from .tiny import (
    ONSETS_EV,
    expected_answer,
    make_package,
    make_spectra,
    put_package,
)

__all__ = [
    "CURVE_CHANNELS",
    "ONSETS_EV",
    "REASONS",
    "change",
    "expected_answer",
    "expected_dielectric",
    "expected_masked",
    "expected_selected",
    "make_dielectric_package",
    "make_masked_package",
    "make_package",
    "make_selected_package",
    "make_spectra",
    "put_package",
    "read_manifest",
    "replace_graph",
    "write_manifest",
]
