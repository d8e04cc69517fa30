"""A pruned graph holds what its outputs need, all of it and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroloss.models import PackageError
from zeroloss.models.provider import open_session
from zeroloss.models.pruning import output_names, prune, read_values

onnx = pytest.importorskip("onnx", reason="needs the package onnx")

TEXT = """
    <ir_version: 10, opset_import: ["": 20]>
    g (float[b] x, float[b] y) => (float[b] plain, float[b] branched, float[b] both)
    <float[1] one = {1.0}, float[1] two = {2.0}, float[1] unused = {3.0}>
    {
        plain = Add (x, one)
        axes = Constant <value_ints = [0]> ()
        total = ReduceSum <keepdims = 0> (y, axes)
        zero = Constant <value = float {0.0}> ()
        positive = Greater (total, zero)
        double = Mul (y, two)
        branched = If (positive) <
            then_branch = t () => (float[b] a) { a = Neg (double) },
            else_branch = e () => (float[b] c) { c = Identity (double) }
        >
        both = Clip (plain, , one)
    }
"""


@pytest.fixture(scope="module")
def whole() -> bytes:
    return onnx.parser.parse_model(TEXT).SerializeToString()


def pruned(whole: bytes, *outputs: str) -> tuple[list[str], list[str], list[str]]:
    model = onnx.load_model_from_string(prune(whole, set(outputs)))
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    return (
        [node.op_type for node in graph.node],
        [tensor.name for tensor in graph.initializer],
        [item.name for item in graph.output],
    )


def test_only_what_an_output_needs_is_left(whole: bytes) -> None:
    assert pruned(whole, "plain") == (["Add"], ["one"], ["plain"])
    assert pruned(whole, "both") == (["Add", "Clip"], ["one"], ["both"])


def test_names_that_are_no_text_are_told(whole: bytes) -> None:
    assert output_names(whole) == {"plain", "branched", "both"}
    odd = whole.replace(b"branched", b"branche\xff").replace(b"x", b"\xff")
    with pytest.raises(PackageError, match=r"name b'branche.xff', expected UTF-8"):
        output_names(odd)
    with pytest.raises(PackageError, match=r"name b'.xff', expected UTF-8"):
        read_values(odd, {"plain"})


def test_what_only_a_branch_reads_is_kept(whole: bytes) -> None:
    nodes, weights, _ = pruned(whole, "branched")
    assert nodes == ["Constant", "ReduceSum", "Constant", "Greater", "Mul", "If"]
    assert weights == ["two"]


def test_all_outputs_need_everything_but_what_nobody_reads(whole: bytes) -> None:
    nodes, weights, outputs = pruned(whole, "plain", "branched", "both")
    assert len(nodes) == 8
    assert weights == ["one", "two"]
    assert outputs == ["plain", "branched", "both"]


@pytest.mark.parametrize("outputs", [["plain"], ["branched"], ["both", "branched"]])
def test_the_answers_stay(whole: bytes, outputs: list[str]) -> None:
    before, _ = open_session(whole, "cpu", 1)
    after, _ = open_session(prune(whole, set(outputs)), "cpu", 1)
    assert [item.name for item in after.get_inputs()] == ["x", "y"]
    for sign in (-1.0, 1.0):
        feeds = {"x": np.float32([0.5, -3.0]), "y": np.float32([sign, 2 * sign])}
        for one, other in zip(before.run(outputs, feeds), after.run(outputs, feeds), strict=True):
            np.testing.assert_array_equal(one, other)


CUT = """
    <ir_version: 10, opset_import: ["": 20]>
    g (float[b, c] x, float[b] y) => (float[b, c] out, float[b, c] inner, float[b, c] third)
    {
        axes = Constant <value_ints = [1]> ()
        column = Unsqueeze (y, axes)
        sizes = Shape (x)
        inner = Expand (column, sizes)
        sum = Add (inner, x)
        out, third = Split <axis = 0, num_outputs = 2> (sum)
    }
"""


def test_tensors_that_are_given_become_inputs() -> None:
    whole = onnx.parser.parse_model(CUT).SerializeToString()
    model = onnx.load_model_from_string(prune(whole, {"out"}, ["inner"]))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Add", "Split"]
    assert [item.name for item in model.graph.output] == ["out"]
    inputs = {item.name: item.type.tensor_type for item in model.graph.input}
    assert list(inputs) == ["x", "y", "inner"]
    first, second = inputs["inner"].shape.dim
    assert (first.WhichOneof("value"), second.dim_param) == (None, "c")
    assert inputs["inner"].elem_type == onnx.TensorProto.FLOAT
    session, _ = open_session(model.SerializeToString(), "cpu", 1)
    (out,) = session.run(
        ["out"],
        {
            "x": np.float32([[1, 2], [3, 4]]),
            "y": np.float32([0, 0]),
            "inner": np.float32([[10, 20]]),
        },
    )
    assert out.tolist() == [[11, 22]]


def test_a_node_that_makes_more_than_what_is_given_stays() -> None:
    whole = onnx.parser.parse_model(CUT).SerializeToString()
    model = onnx.load_model_from_string(prune(whole, {"out"}, ["third"]))
    onnx.checker.check_model(model, full_check=True)
    assert list(model.graph.node[-1].output) == ["out", "third/not_used"]


@pytest.mark.parametrize("name", ["sum", "nowhere", "x"])
def test_what_no_node_makes_for_an_output_cannot_be_given(name: str) -> None:
    whole = onnx.parser.parse_model(CUT).SerializeToString()
    with pytest.raises(PackageError, match=f"has no output {name} that a node makes"):
        prune(whole, {"out"}, [name])


def test_values_and_sizes_of_inputs_are_told_apart(whole: bytes) -> None:
    cut = onnx.parser.parse_model(CUT).SerializeToString()
    assert read_values(cut, {"inner"}) == {"y"}
    assert read_values(cut, {"out"}) == {"x", "y"}
    assert read_values(whole, {"plain"}) == {"x"}
    # Read in a branch only.
    assert read_values(whole, {"branched"}) == {"y"}


@given(st.sets(st.integers(0, 9)), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9))))
def test_any_graph_keeps_the_ancestors_of_its_outputs(
    wanted: set[int], pairs: list[tuple[int, int]]
) -> None:
    # Node i makes n<i> of the values before it.
    users = {max(pair): min(pair) for pair in pairs if pair[0] != pair[1]}
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Neg", [f"n{users[i]}" if i in users else "x"], [f"n{i}"], name=str(i))
        for i in range(10)
    ]
    outputs = [info(f"n{i}", 1, ["b"]) for i in range(10)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [info("x", 1, ["b"])], outputs)
    )
    kept = onnx.load_model_from_string(
        prune(model.SerializeToString(), {f"n{i}" for i in wanted})
    ).graph
    expected = set(wanted)
    for index in reversed(range(10)):
        if index in expected and index in users:
            expected.add(users[index])
    assert [int(item.name) for item in kept.node] == sorted(expected)
    assert {item.name for item in kept.output} == {f"n{i}" for i in wanted}


def test_the_networks_that_come_with_the_daemon_stay_whole() -> None:
    from zeroloss.models import load_package
    from zeroloss.models.store import builtin_folder

    for folder in sorted(Path(builtin_folder()).iterdir()):
        package = load_package(folder)
        names = {item.name for item in package.manifest.outputs}
        graph = package.read_graph()
        before = onnx.load_model_from_string(graph).graph
        after = onnx.load_model_from_string(prune(graph, names)).graph
        assert [item.name for item in after.node] == [item.name for item in before.node]
