"""The store finds every whole package and tells of every damaged one."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from support.packages import make_package, put_package
from zeroloss.models import ModelSession, ModelStore, PackageError, load_package
from zeroloss.models.check import try_out
from zeroloss.models.store import builtin_folder, look


def test_the_shipped_packages_are_whole() -> None:
    store = ModelStore()
    assert store.broken == {}
    assert all(package.folder.parent == builtin_folder() for package in store.packages().values())


SHIPPED = sorted(ModelStore().packages().items())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if item.manifest.takes.selection else [])
        for name, item in SHIPPED
    ],
)
def test_a_shipped_package_works(name: str) -> None:
    session = ModelSession(ModelStore().get(name), "cpu")
    assert try_out(session, 1024).company == 0


def test_packages_of_a_folder_are_found(tmp_path: Path) -> None:
    make_package(tmp_path, name="one")
    make_package(tmp_path, name="two")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("not a package", "utf-8")
    store = ModelStore([tmp_path])
    assert store.get("one").name == "one"
    assert set(store.packages()) - set(ModelStore().packages()) == {"one", "two"}
    assert store.broken == {}


def test_a_folder_may_be_a_package_itself(tmp_path: Path) -> None:
    assert ModelStore([make_package(tmp_path, name="one")]).get("one").name == "one"


def test_a_package_is_found_by_name_or_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_package(tmp_path, name="one")
    make_package(tmp_path, name="elements")
    monkeypatch.chdir(tmp_path)
    store = ModelStore()
    assert store.find(str(folder)).folder == folder
    assert store.find("one").folder == Path("one")
    # A name goes over a folder that is called so.
    assert store.find("elements") is store.get("elements")
    with pytest.raises(PackageError, match="there is no model package 'two'; there are: "):
        store.find("two")


def test_a_later_folder_overrides_by_name(tmp_path: Path) -> None:
    for version in ("1", "2"):
        make_package(tmp_path / version, version=version)
    for order in (["1", "2"], ["2", "1"]):
        store = ModelStore([tmp_path / name for name in order])
        assert store.get("tiny").manifest.version == order[-1]


def test_a_damaged_package_hides_nothing(tmp_path: Path) -> None:
    make_package(tmp_path / "user", name="good")
    damaged = make_package(tmp_path / "user", name="bad")
    (damaged / "model.onnx").write_bytes(b"damaged")
    bare = make_package(tmp_path / "user", name="bare")
    (bare / "manifest.json").unlink()
    store = ModelStore([tmp_path / "user"])
    assert store.get("good").name == "good"
    assert set(store.broken) == {damaged, bare}
    with pytest.raises(PackageError) as loading:
        load_package(damaged)
    assert store.broken[damaged] == str(loading.value)
    assert "there is no file manifest.json" in store.broken[bare]
    with pytest.raises(PackageError, match="the package is damaged, copy it again"):
        store.get("bad")


def test_twins_in_one_folder_are_told(tmp_path: Path) -> None:
    first = make_package(tmp_path, name="one")
    twin = make_package(tmp_path, name="two", changes={"name": "one"})
    store = ModelStore([tmp_path])
    assert store.get("one").folder == first
    assert f"{first} has the same name 'one'" in store.broken[twin]


def test_an_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    make_package(tmp_path, name="one")
    with pytest.raises(PackageError, match=r"no model package 'three'; there are: .*\bone"):
        ModelStore([tmp_path]).get("three")


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    same = make_package(tmp_path, name="same")
    changed = make_package(tmp_path, name="changed")
    gone = make_package(tmp_path, name="gone")
    first = ModelStore([tmp_path])
    assert {same, changed, gone} <= first.fresh == first.stamps.keys()
    put_package(changed, name="changed", version="2")
    shutil.rmtree(gone)
    second = ModelStore([tmp_path], before=first)
    assert second.fresh == {changed}
    assert second.get("same") is first.get("same")
    assert second.get("changed").manifest.version == "2"
    assert "gone" not in second.packages()
    shutil.rmtree(tmp_path)
    assert second.stamps != look([tmp_path])
    assert ModelStore([tmp_path], before=second).stamps == look([]) == look([tmp_path])


def test_a_refused_package_gives_its_name_back_until_it_changes(tmp_path: Path) -> None:
    under, over = (make_package(tmp_path / name) for name in ("1", "2"))
    folders = [under.parent, over.parent]
    store = ModelStore(folders)
    store.refuse(over, "does not open")
    assert store.get("tiny").folder == under
    later = ModelStore(folders, before=store)
    assert (later.get("tiny").folder, later.broken) == (under, {over: "does not open"})
    put_package(over, version="2")
    mended = ModelStore(folders, before=later)
    assert (mended.get("tiny").folder, mended.broken) == (over, {})


def test_a_package_that_nobody_may_read_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = make_package(tmp_path, name="locked")
    make_package(tmp_path, name="open")
    stat = Path.stat

    def denied(path: Path, **options: bool) -> os.stat_result:
        if path.parent == locked:
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", denied)
    store = ModelStore([tmp_path])
    assert store.get("open").name == "open"
    assert "manifest.json cannot be read: [Errno 13] Permission denied" in store.broken[locked]


def test_a_folder_with_a_dot_in_front_is_not_looked_at(tmp_path: Path) -> None:
    make_package(tmp_path, name="one").rename(tmp_path / ".one.part")
    assert "one" not in ModelStore([tmp_path]).packages()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="nowhere does not exist"):
        ModelStore([tmp_path / "nowhere"])
