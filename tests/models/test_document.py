"""docs/model-package.md says what the code does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zeroloss.models import Manifest, ModelSession, load_package

DOCUMENT = Path(__file__).parents[2] / "docs" / "model-package.md"
ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<default>`[^`]*`|required) \| .+ \|$", re.M)


def schema_keys(schema: dict[str, Any]) -> dict[str, str]:
    """Every key of the manifest and its default as JSON, or "required"."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, entry in node["properties"].items():
            inner = entry.get("items", entry)
            if "$ref" in inner:
                mark = "." if inner is entry else "[]."
                target = schema["$defs"][inner["$ref"].removeprefix("#/$defs/")]
                yield from walk(target, f"{prefix}{name}{mark}")
            elif name in node.get("required", ()):
                yield f"{prefix}{name}", "required"
            else:
                # A default that is made anew each time is not in the schema: the empty object.
                yield f"{prefix}{name}", json.dumps(entry.get("default", {}))

    return dict(walk(schema, ""))


def test_the_key_list_is_that_of_the_schema() -> None:
    rows = {
        row["key"]: row["default"].strip("`") for row in ROW.finditer(DOCUMENT.read_text("utf-8"))
    }
    expected = schema_keys(Manifest.model_json_schema())
    expected["format"] = "required"  # a file must say it, Python code may leave it out
    assert rows == expected


def test_the_example_makes_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = pytest.importorskip("onnx.parser", reason="needs the package onnx")
    model = parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20]> g (
            float[batch, channel] counts, float[batch] offset_ev, float[batch] scale_ev
        ) => (float[batch] brightness) {
            axes = Constant <value_ints = [1]> ()
            brightness = ReduceMean <keepdims = 0> (counts, axes)
        }
    """)
    (tmp_path / "brightness.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.S)
    exec(program, {})
    session = ModelSession(load_package(tmp_path / "my_models" / "brightness"))
    assert session.run([[1.0, 3.0]], 100.0, 50.0)["brightness"].tolist() == [2.0]
