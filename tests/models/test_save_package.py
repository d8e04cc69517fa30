"""A package is written such that nobody ever takes half of it for whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.packages import make_package
from zeroloss.models import PackageError, load_package, save_package


def test_a_saved_package_is_the_one_that_was_loaded(package: Path, tmp_path: Path) -> None:
    loaded = load_package(package)
    target = tmp_path / "new" / "folder" / "tiny"
    save_package(target, loaded.manifest, loaded.read_graph())
    saved = load_package(target)
    assert (saved.manifest, saved.read_graph()) == (loaded.manifest, loaded.read_graph())
    assert [item.name for item in target.parent.iterdir()] == ["tiny"]


def test_renewing_a_package_leaves_other_files_alone(tmp_path: Path) -> None:
    old, new = (
        load_package(make_package(tmp_path / name, version=name, labels=labels))
        for name, labels in (("1", ("C", "N")), ("2", ("N", "O")))
    )
    (old.folder / "card.md").write_text("notes", "utf-8")
    save_package(old.folder, new.manifest, new.read_graph())
    assert load_package(old.folder).manifest == new.manifest != old.manifest
    names = {item.name for item in old.folder.iterdir()}
    assert names == {"card.md", "manifest.json", "model.onnx"}
    assert [item.name for item in old.folder.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("step", ["model.onnx", "manifest.json"])
def test_a_package_that_was_renewed_half_is_never_taken_for_whole(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (
        load_package(make_package(tmp_path / name, version=name, labels=labels))
        for name, labels in (("1", ("C", "N")), ("2", ("N", "O")))
    )
    graph = new.read_graph()
    replace = Path.replace

    def failing(path: Path, target: Path) -> Path:
        if path.name == step:
            raise OSError("the power is gone")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="the power is gone"):
        save_package(old.folder, new.manifest, graph)
    if step == "model.onnx":
        assert load_package(old.folder).sha256 == old.sha256
    else:
        with pytest.raises(PackageError, match="the package is damaged"):
            load_package(old.folder)


def test_a_manifest_of_another_graph_is_not_saved(package: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="make the manifest of this graph"):
        save_package(tmp_path / "new", load_package(package).manifest, b"another")
    assert not (tmp_path / "new").exists()
