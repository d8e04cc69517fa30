"""The trial of a package finds what the graph alone does not tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.packages import make_package
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
