"""Packages on disk and graphs written as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.packages import make_package, replace_graph
from zeroloss.models import ModelSession, load_package

INPUTS = "float[batch,channel] counts, float[batch] offset_ev, float[batch] scale_ev"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a whole tiny package."""
    return make_package(tmp_path)


@pytest.fixture
def open_graph(tmp_path: Path) -> Callable[..., ModelSession]:
    """Opens a graph written in ONNX's text syntax, whose outputs are `probability` and `spread`
    [batch, 4], as a package."""

    def open_it(body: str, *, inputs: str = INPUTS, outputs: str | None = None) -> ModelSession:
        folder = make_package(tmp_path, name="written")
        replace_graph(folder, parse_graph(body, inputs=inputs, outputs=outputs))
        return ModelSession(load_package(folder))

    return open_it


def parse_graph(body: str, *, inputs: str = INPUTS, outputs: str | None = None) -> Any:
    """The `ModelProto` of a graph body in ONNX's text syntax."""
    parser = pytest.importorskip("onnx.parser", reason="needs the package onnx")
    outputs = outputs or "float[batch,4] probability, float[batch,4] spread"
    return parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 20]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
