"""A package is whole, or refused with one sentence that says why."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.packages import (
    REASONS,
    change,
    make_masked_package,
    make_package,
    read_manifest,
    replace_graph,
    write_manifest,
)
from zeroloss.models import PackageError, load_package
from zeroloss.models.onnx_file import check_onnx
from zeroloss.models.package import MAX_GRAPH_BYTES, MAX_MANIFEST_BYTES, parse_manifest


def refusal(package: Path) -> str:
    with pytest.raises(PackageError) as caught:
        load_package(package)
    sentence = str(caught.value)
    assert str(package) in sentence
    assert "\n" not in sentence
    return sentence


def test_a_whole_package_loads(package: Path) -> None:
    loaded = load_package(package)
    manifest = (package / "manifest.json").read_bytes()
    graph = (package / "model.onnx").read_bytes()
    assert loaded.sha256 == hashlib.sha256(manifest + hashlib.sha256(graph).digest()).hexdigest()
    assert loaded.name == "tiny"
    assert loaded.manifest.takes.window_ev == (244.0, 748.0)
    assert loaded.read_graph() == graph


def test_the_hash_covers_manifest_and_graph(tmp_path: Path) -> None:
    hashes = {
        load_package(make_package(tmp_path / str(number), **kinds)).sha256
        for number, kinds in enumerate(
            [{}, {"version": "1.0.1"}, {"threshold": 0.4}, {"labels": ("B", "N", "O", "Fe")}]
        )
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("format", 2, "format 2 is not one that this version of zeroloss reads (it reads 1)"),
        ("format", "1", "format '1' is not one"),
        ("colour", "red", "unknown key colour"),
        ("graph.colour", "red", "unknown key graph.colour"),
        ("takes.modality", "xrd", "takes.modality is 'xrd': input should be 'eels' or 'edx'"),
        ("takes.window_ev", [500, 100], "takes: window_ev must rise, got (500.0, 100.0)"),
        ("takes.window_ev", [0, 1e999], "takes.window_ev.1 is inf"),
        ("takes.window_ev", [1], "the key takes.window_ev.1 is missing"),
        ("takes", None, "takes is None"),
        ("buckets.cpu", 257, "buckets.cpu is 257: input should be less than or equal to 256"),
        ("buckets.cpu", "8", "buckets.cpu is '8': input should be a valid integer"),
        ("buckets.gpu", [0], "buckets.gpu.0 is 0"),
        ("name", "Big Name", "name is 'Big Name'"),
        ("outputs", [], "outputs is []"),
        ("outputs.0.threshold", None, "a probability needs labels and a threshold"),
        ("outputs.0.labels", ["C"], "1 labels do not fit shape (4,)"),
        ("outputs.0.labels", ["C", "C", "N", "O"], "labels are not unique"),
        ("outputs.0.axis", {"offset_ev": 0, "scale_ev": 1}, "only a spectrum has an axis"),
        ("outputs.0.shifts_axis", True, "must be a scalar of shape [] in eV"),
        (
            "outputs.0.reason",
            "spread",
            "its reason 'spread' is not among the outputs",
        ),
        ("outputs.1", {"name": "s", "kind": "label"}, "names of at least 2 codes"),
        ("outputs.1", {"name": "s", "kind": "label", "labels": ["a"]}, "at least 2 codes"),
        (
            "outputs.1",
            {"name": "s", "kind": "spectrum"},
            "[channels] or [curves, channels]",
        ),
        ("takes.scale_ev", [0, 1], "takes: scale_ev must be above 0 and rise, got (0.0, 1.0)"),
        ("takes.scale_ev", [0.2, 0.1], "takes: scale_ev must be above 0 and rise"),
        ("takes.signed_counts", 1, "takes.signed_counts is 1"),
        ("outputs.0.uncertainty", "doubt", "its uncertainty 'doubt' is not among"),
        ("outputs.1.name", "probability", "outputs of the same name"),
        ("outputs.1.shape", [1, 1, 1, 4], "outputs.1.shape"),
        ("outputs.1", {"name": "s", "kind": "scalar", "shape": [60000, 60000]}, "more than 65536"),
        ("graph.max_error", 0.01, "departs from torch by 0.01, more than its own limit of 0.001"),
        ("graph.max_error", float("nan"), "graph.max_error is nan"),
        ("graph.sha256", "0" * 64, "manifest says 000000"),
        ("graph.sha256", "abc", "graph.sha256 is 'abc'"),
        ("graph.file", "../model.onnx", "graph.file is '../model.onnx'"),
        ("graph.file", "/etc/model.onnx", "graph.file is '/etc/model.onnx'"),
        ("graph.file", "other.onnx", "there is no file other.onnx"),
        ("graph.opset", 21, "model.onnx is of opset 20, the manifest says 21"),
    ],
)
def test_a_wrong_value_is_named(package: Path, key: str, value: object, expected: str) -> None:
    manifest = read_manifest(package)
    change(manifest, key, value)
    write_manifest(package, manifest)
    assert expected in refusal(package)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("outputs.3.shape", [3], "output reason: a label needs the shape []"),
        ("outputs.3.reason", "reason", "output reason: a label is never missing"),
        ("outputs.0.shifts_axis", True, "output mean: what shifts the axis must be"),
        ("outputs.4.labels", ["a", "b", "c"], "output curves: 3 labels do not fit shape (2, 16)"),
        ("outputs.4.axis.scale_ev", 0, "outputs.4.axis.scale_ev is 0"),
        ("outputs.4.shape", [2, 2, 16], "output curves: a spectrum is [channels] or [curves"),
    ],
)
def test_a_wrong_value_of_a_masked_package(
    tmp_path: Path, key: str, value: object, expected: str
) -> None:
    assert expected in refusal(make_masked_package(tmp_path, changes={key: value}))


def test_two_outputs_cannot_shift_the_axis(tmp_path: Path) -> None:
    both = {"outputs.0.unit": "eV", "outputs.0.shifts_axis": True, "outputs.2.shifts_axis": True}
    folder = make_masked_package(tmp_path, changes=both)
    assert "at most one output shifts the axis, here are ['mean', 'peak']" in refusal(folder)


def test_a_masked_package_says_what_its_values_are(tmp_path: Path) -> None:
    manifest = load_package(
        make_masked_package(tmp_path, changes={"outputs.2.shifts_axis": True})
    ).manifest
    assert manifest.shifts_axis == "peak"
    assert manifest.output("mean").reason == "reason"
    assert manifest.output("reason").labels == REASONS
    axis = manifest.output("curves").axis
    assert axis is not None
    assert (axis.offset_ev, axis.scale_ev, axis.name) == (-2.0, 0.25, "energy loss")


@pytest.mark.parametrize(
    "key", ["format", "name", "graph.sha256", "graph.max_error", "takes", "outputs", "trained.data"]
)
def test_a_missing_key_is_named(package: Path, key: str) -> None:
    manifest = read_manifest(package)
    inner: Any = manifest
    *path, last = key.split(".")
    for part in path:
        inner = inner[part]
    del inner[last]
    write_manifest(package, manifest)
    assert f"the key {key} is missing" in refusal(package)


def test_many_errors_are_cut_short(package: Path) -> None:
    manifest = read_manifest(package)
    write_manifest(package, manifest | {f"extra_{number}": number for number in range(9)})
    assert "unknown key extra_2; and 6 more" in refusal(package)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "invalid JSON"),
        (b"{", "invalid JSON"),
        (b"\xff\xfe", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON: recursion limit"),
        (b"[]", "expected an object with keys, got []"),
        (b"12", "expected an object with keys, got 12"),
    ],
)
def test_what_is_no_manifest(package: Path, content: bytes, expected: str) -> None:
    (package / "manifest.json").write_bytes(content)
    assert expected in refusal(package)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists))
@settings(deadline=None, max_examples=50)
def test_any_bytes_give_one_typed_error(tmp_path_factory: Any, content: object) -> None:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(PackageError):
        parse_manifest(raw, Path("somewhere"))


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_missing_file_is_named(package: Path, name: str) -> None:
    (package / name).unlink()
    assert f"there is no file {name}" in refusal(package)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_folder_in_place_of_a_file(package: Path, name: str) -> None:
    (package / name).unlink()
    (package / name).mkdir()
    assert f"there is no file {name}" in refusal(package)


@pytest.mark.parametrize(
    ("name", "cap"), [("manifest.json", MAX_MANIFEST_BYTES), ("model.onnx", MAX_GRAPH_BYTES)]
)
def test_a_file_above_its_cap_is_not_read(package: Path, name: str, cap: int) -> None:
    with (package / name).open("r+b") as file:
        file.truncate(cap + 1)
    assert f"{name} has {cap + 1} bytes, at most {cap} are read" in refusal(package)


def _link(package: Path, target: Path, name: str) -> None:
    (package / name).replace(target)
    try:
        (package / name).symlink_to(target)
    except OSError as error:
        pytest.skip(f"this account may not make links: {error}")


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_a_link_out_of_the_folder_is_refused(package: Path, tmp_path: Path, name: str) -> None:
    _link(package, tmp_path / f"outside-{name}", name)
    assert f"{name} leads out of the folder" in refusal(package)


def test_a_link_inside_the_folder_is_fine(package: Path) -> None:
    _link(package, package / "inside.bin", "model.onnx")
    assert load_package(package).name == "tiny"


def test_a_flipped_bit_is_noticed(package: Path) -> None:
    data = bytearray((package / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (package / "model.onnx").write_bytes(data)
    assert "the package is damaged, copy it again" in refusal(package)


def test_a_graph_that_changes_after_loading_is_refused(package: Path) -> None:
    loaded = load_package(package)
    (package / "model.onnx").write_bytes(b"another")
    with pytest.raises(PackageError, match="the package is damaged"):
        loaded.read_graph()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a graph", b"\x00" * 64, b"\x3a\xff"])
def test_a_graph_that_is_no_onnx_file(package: Path, content: bytes) -> None:
    replace_graph(package, content)
    assert "model.onnx is not an ONNX file" in refusal(package)


@pytest.fixture
def graph_bytes(package: Path) -> bytes:
    return (package / "model.onnx").read_bytes()


def test_weights_in_another_file_are_refused(package: Path, graph_bytes: bytes) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    model = onnx.load_model_from_string(graph_bytes)
    onnx.save_model(
        model,
        package / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    replace_graph(package, (package / "model.onnx").read_bytes())
    assert "keeps weights in another file" in refusal(package)


def test_external_weights_inside_an_attribute_of_a_nested_graph_are_found() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    helper = onnx.helper
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=1)
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    inner = helper.make_graph([constant], "inner", [], [])
    branch = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([branch], "outer", [], []))
    with pytest.raises(PackageError, match="keeps weights in another file"):
        check_onnx(model.SerializeToString())


def test_the_opset_is_that_of_the_standard_operators() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the package onnx")
    helper = onnx.helper
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=opsets)
    assert check_onnx(model.SerializeToString()) == 18


@given(data=st.data())
@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
def test_a_damaged_graph_gives_a_typed_error_or_an_opset(
    graph_bytes: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(graph_bytes)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        opset = check_onnx(bytes(damaged[:cut]))
    except PackageError:
        return
    assert isinstance(opset, int)


def test_graphs_nested_beyond_reason_are_refused() -> None:
    # Model.graph > node > attribute > graph > ..., written inside out.
    def field(number: int, content: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(content)) + content

    graph = b""
    for _ in range(200):
        graph = field(1, field(5, field(6, graph)))
    model = field(7, graph) + field(8, b"\x10\x14")
    with pytest.raises(PackageError, match="deeper than"):
        check_onnx(model)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))
