"""The trial of a package finds what the graph alone does not tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.models.conftest import parse_graph

from support.packages import (
    make_masked_package,
    make_package,
    make_selected_package,
    replace_graph,
)
from support.packages.selected import SELECTED_GRAPH
from zeroloss.models import InferenceError, ModelSession, load_package
from zeroloss.models.check import try_out

START = """
    axes = Constant <value_ints = [1]> ()
    half = Constant <value = float {0.5}> ()
    zero = Constant <value = float {0.0}> ()
    gone = IsNaN (counts)
    clean = Where (gone, zero, counts)
    batch = Shape <start = 0, end = 1> (counts)
    four = Constant <value_ints = [4]> ()
    size = Concat <axis = 0> (batch, four)
    own = ReduceSum (clean, axes)
    squashed = Sigmoid (own)
"""


def test_a_whole_package_passes(tmp_path: Path) -> None:
    session = ModelSession(load_package(make_package(tmp_path)))
    trial = try_out(session, 333)
    assert trial.company == 0
    assert list(trial.timings) == [8]


@pytest.mark.parametrize("signed", [False, True])
def test_values_that_are_missing_for_a_reason_pass(tmp_path: Path, signed: bool) -> None:
    # Half of the plain spectra are too dark for this package.
    package = make_masked_package(tmp_path, changes={"takes.signed_counts": signed})
    # A multiple of 4: how ReduceSum adds up fractions depends on the alignment of a row.
    assert try_out(ModelSession(load_package(package)), 336).company == 0


MASKED = """
    axes = Constant <value_ints = [1]> ()
    zero = Constant <value = float {0.0}> ()
    one = Constant <value = float {1.0}> ()
    two = Constant <value = float {2.0}> ()
    nan = Div (zero, zero)
    gone = IsNaN (counts)
    clean = Where (gone, zero, counts)
    total = ReduceSum <keepdims = 0> (clean, axes)
    none = Sub (total, total)
    mean = Add (none, one)
    mean_error = Add (none, one)
    peak = Add (none, one)
    reason = Add (none, zero)
    batch = Shape <start = 0, end = 1> (counts)
    rest = Constant <value_ints = [2, 16]> ()
    size = Concat <axis = 0> (batch, rest)
    curves = Expand (one, size)
"""


@pytest.mark.parametrize(
    ("line", "instead", "expected"),
    [
        ("mean = Add (none, one)", "mean = Add (none, nan)", "output mean: 9 of 9 values are not "),
        ("reason = Add (none, zero)", "reason = Add (none, two)", None),
        ("reason = Add (none, zero)", "half = Div (one, two) reason = Add (none, half)", "0.5 is"),
        (
            "reason = Add (none, zero)",
            "reason = Sub (none, one)",
            "output reason: -1 is no code",
        ),
        (
            "reason = Add (none, zero)",
            "three = Add (one, two) reason = Add (none, three)",
            "output reason: 3 is no code of its 3 labels, expected is an integer from 0 to 2",
        ),
        ("reason = Add (none, zero)", "reason = Add (none, nan)", "output reason: nan is no code"),
        (
            "curves = Expand (one, size)",
            "curves = Expand (nan, size)",
            "output curves: 288 of ",
        ),
    ],
)
def test_what_is_missing_without_a_reason_is_told(
    tmp_path: Path, line: str, instead: str, expected: str | None
) -> None:
    outputs = "float[batch] mean, float[batch] mean_error, float[batch] peak, float[batch] reason"
    graph = parse_graph(
        MASKED.replace(line, instead.replace(") ", ")\n")),
        outputs=f"{outputs}, float[batch, 2, 16] curves",
    )
    package = make_masked_package(tmp_path)
    replace_graph(package, graph)
    session = ModelSession(load_package(package))
    if expected is None:
        try_out(session, 333)
        return
    with pytest.raises(InferenceError, match=expected):
        try_out(session, 333)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "all = ReduceMax (own) share = Div (own, all) probability = Expand (share, size)",
            "the other spectra of a batch change an answer by up to .* allowed is 0 on CPU",
        ),
        (
            "probability = Expand (own, size)",
            "output probability: probabilities from .* expected 0 to 1",
        ),
        (
            "all = ReduceSum (counts, axes) p = Sigmoid (all) probability = Expand (p, size)",
            "output probability: 8 of 36 values are not finite",
        ),
    ],
)
def test_a_faulty_graph_is_told(
    open_graph: Callable[..., ModelSession], body: str, expected: str
) -> None:
    session = open_graph(START + body.replace(") ", ")\n") + "\nspread = Expand (half, size)")
    with pytest.raises(InferenceError, match=expected):
        try_out(session, 333)


def test_a_package_is_tried_with_several_choices_and_without_the_low_loss(tmp_path: Path) -> None:
    session = ModelSession(load_package(make_selected_package(tmp_path / "whole")))
    assert try_out(session, 400).company == 0
    folder = make_selected_package(tmp_path / "blind", changes={"outputs.1.reason": None})
    with pytest.raises(InferenceError, match=r"density: .* values are not finite for plain"):
        try_out(ModelSession(load_package(folder)), 400)


def test_a_graph_that_answers_for_one_choice_only_is_told(tmp_path: Path) -> None:
    parser = pytest.importorskip("onnx.parser", reason="needs the package onnx")
    # Nothing where the first label alone is chosen.
    text = SELECTED_GRAPH.replace(
        "signal = ReduceSum <keepdims = 0> (products, axis_2)",
        """
        every = Constant <value_ints = [0]> ()
        highest = ReduceMax <keepdims = 0> (selection, every)
        dull = Equal (highest, zero)
        all_signal = ReduceSum <keepdims = 0> (products, axis_2)
        signal = Where (dull, nan, all_signal)
        """,
    )
    folder = make_selected_package(tmp_path)
    replace_graph(folder, parser.parse_model(text))
    with pytest.raises(InferenceError, match=r"falling spectra and the selection \[0\]"):
        try_out(ModelSession(load_package(folder)), 400)
