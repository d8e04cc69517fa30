"""The models that runs are given follow what lies in the folders of packages."""

from __future__ import annotations

import gc
import logging
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.packages import make_dielectric_package, make_selected_package, put_package
from support.polling import poll_until
from zeroloss.config import Models
from zeroloss.models import (
    ModelSession,
    ModelStore,
    PackageError,
    ParameterError,
    load_package,
    save_package,
)
from zeroloss.service import ModelChoiceError, library
from zeroloss.service.library import ModelLibrary


class Watched:
    """A library on these folders, and what it said."""

    def __init__(
        self, *folders: Path, use: tuple[str, ...] = ("tiny",), given: tuple[str, ...] = ()
    ) -> None:
        self.sessions: tuple[ModelSession, ...] = ()
        self.swaps: list[str] = []
        config = Models(models=folders, use=use, set=given, provider="cpu")
        self.library = ModelLibrary(config, on_change=self._change, on_swap=self.swaps.append)

    def _change(self, sessions: tuple[ModelSession, ...]) -> None:
        self.sessions = sessions

    @property
    def hashes(self) -> dict[str, str]:
        return {item.package.name: item.package.sha256 for item in self.sessions}

    @property
    def health(self) -> dict[str, Any]:
        return self.library.health()

    def wait_for(self, **hashes: str) -> None:
        """Until runs are given these, and /health says so."""

        def told() -> bool:
            shown = {item["name"]: item["sha256"] for item in self.health["models"]}
            return self.hashes == shown == hashes

        poll_until(told, "the models")

    def wait_broken(self, *sentences: str) -> None:
        def said() -> bool:
            reasons = [item["reason"] for item in self.health["models_broken"]]
            return len(reasons) == len(sentences) and all(
                any(sentence in reason for reason in reasons) for sentence in sentences
            )

        poll_until(said, f"{sentences} in /health")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watched]]:
    """Libraries that look often, loaded, and closed at the end."""
    monkeypatch.setattr(library, "POLL_S", 0.02)
    opened: list[Watched] = []

    def opener(*folders: Path, **options: Any) -> Watched:
        watched = Watched(*folders, **options)
        opened.append(watched)
        watched.library.load()
        return watched

    yield opener
    for watched in opened:
        watched.library.close()


def shipped() -> set[str]:
    """Names of the packages that come with zeroloss and run without anybody's choosing."""
    packages = ModelStore().packages().items()
    return {
        name
        for name, item in packages
        if not item.manifest.when_named and item.manifest.takes.selection is None
    }


def test_a_renewed_package_is_for_the_next_run(tmp_path: Path, watch: Any) -> None:
    old = put_package(tmp_path / "tiny", version="1")
    watched = watch(tmp_path)
    assert (watched.hashes, watched.swaps) == ({"tiny": old}, [])
    kept = watched.sessions
    new = put_package(tmp_path / "tiny", version="2")
    watched.wait_for(tiny=new)
    assert watched.swaps == ["tiny"]
    # Who was given the old session still has it, open and with its graph.
    assert kept[0].package.sha256 == old
    assert kept[0].run([[1.0] * 900], 100.0, 1.0)["probability"].shape == (1, 4)
    assert watched.health["models"] == [
        {
            "name": "tiny",
            "version": "2",
            "sha256": new,
            "provider": "CPUExecutionProvider",
            "precision": "float32",
            "on_disk": True,
        }
    ]


def test_a_session_that_nobody_uses_is_let_go(tmp_path: Path, watch: Any) -> None:
    put_package(tmp_path / "tiny", version="1")
    watched = watch(tmp_path)
    old = weakref.ref(watched.sessions[0])
    watched.wait_for(tiny=put_package(tmp_path / "tiny", version="2"))

    def gone() -> bool:
        gc.collect()
        return old() is None

    poll_until(gone, "the old session to be let go")


def test_new_packages_come_in_by_themselves_unless_others_are_named(
    tmp_path: Path, watch: Any
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    everything, chosen = watch(*folders, use=()), watch(*folders, use=("tiny", "late"))
    builtin = everything.hashes
    assert set(builtin) == shipped()
    assert chosen.health["models_awaited"] == ["tiny", "late"]
    one = put_package(folders[0] / "tiny")
    other = put_package(folders[1] / "other", name="other")
    everything.wait_for(**builtin, tiny=one, other=other)
    chosen.wait_for(tiny=one)
    assert chosen.health["models_awaited"] == ["late"]
    over = put_package(folders[1] / "over", version="2")
    chosen.wait_for(tiny=over)


def test_a_broken_package_is_told_once_and_the_one_before_goes_on(
    tmp_path: Path, watch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    old = put_package(tmp_path / "tiny", version="1")
    other = put_package(tmp_path / "other", name="other")
    watched = watch(tmp_path, use=("tiny", "other"))
    (tmp_path / "tiny" / "model.onnx").write_bytes(b"half of a gr")
    watched.wait_broken("the package is damaged")
    # The same content again, and a sound neighbour, say nothing new.
    (tmp_path / "tiny" / "model.onnx").write_bytes(b"half of a gr")
    newer = put_package(tmp_path / "other", name="other", version="2")
    assert newer != other
    watched.wait_for(tiny=old, other=newer)
    told = [record for record in caplog.records if "the package is damaged" in record.message]
    assert len(told) == 1
    assert "works on until another comes" in caplog.text
    assert [item["on_disk"] for item in watched.health["models"]] == [False, True]
    new = put_package(tmp_path / "tiny", version="2")
    watched.wait_for(tiny=new, other=newer)
    assert watched.health["models_broken"] == []


def test_a_graph_that_does_not_keep_its_manifest_takes_no_place(tmp_path: Path, watch: Any) -> None:
    old = put_package(tmp_path / "tiny")
    watched = watch(tmp_path)
    put_package(
        tmp_path / "tiny",
        version="2",
        changes={"outputs.1.name": "other_name", "outputs.0.uncertainty": "other_name"},
    )
    watched.wait_broken("the graph has the outputs")
    assert watched.hashes == {"tiny": old}
    watched.wait_for(tiny=put_package(tmp_path / "tiny", version="3"))


def test_a_package_that_vanished_works_on_until_another_comes(tmp_path: Path, watch: Any) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    under = put_package(folders[0] / "tiny", version="1")
    over = put_package(folders[1] / "tiny", version="2")
    watched = watch(*folders)
    assert watched.hashes == {"tiny": over}
    shutil.rmtree(folders[1])
    poll_until(lambda: not watched.health["models"][0]["on_disk"], "the loss to be seen")
    # What it once hid is no successor: a folder that is away for a moment changes nothing.
    assert watched.hashes == {"tiny": over} != {"tiny": under}
    back = put_package(folders[1] / "tiny", version="3")
    watched.wait_for(tiny=back)


def test_a_package_that_moved_is_the_same_session(tmp_path: Path, watch: Any) -> None:
    put_package(tmp_path / "tiny")
    watched = watch(tmp_path)
    kept = watched.sessions
    shutil.move(tmp_path / "tiny", tmp_path / "moved")
    put_package(tmp_path / "other", name="other")
    poll_until(lambda: (tmp_path / "moved") in watched.library._published[0].stamps, "the move")
    assert watched.sessions == kept
    assert (watched.swaps, watched.health["models"][0]["on_disk"]) == ([], True)


def test_a_folder_with_a_dot_in_front_is_not_looked_at(tmp_path: Path, watch: Any) -> None:
    old = put_package(tmp_path / "tiny")
    put_package(tmp_path / ".tiny.part", version="2")
    watched = watch(tmp_path)
    assert watched.hashes == {"tiny": old}
    assert watched.health["models_broken"] == []


def test_a_named_model_that_is_not_there_is_an_error_unless_a_folder_is_empty(
    tmp_path: Path, watch: Any
) -> None:
    put_package(tmp_path / "a" / "tiny")
    with pytest.raises(ModelChoiceError, match=r"named absent; there are: .*tiny"):
        watch(tmp_path / "a", use=("absent",))
    (tmp_path / "empty").mkdir()
    awaiting = watch(tmp_path / "a", tmp_path / "empty", use=("tiny", "absent"))
    assert awaiting.health["models_awaited"] == ["absent"]
    with pytest.raises(PackageError, match="nowhere does not exist"):
        watch(tmp_path / "nowhere")


def test_at_the_start_a_package_that_does_not_open_is_an_error_only_where_it_was_named(
    tmp_path: Path, watch: Any
) -> None:
    put_package(
        tmp_path / "tiny",
        changes={"outputs.1.name": "other_name", "outputs.0.uncertainty": "other_name"},
    )
    with pytest.raises(PackageError, match="the graph has the outputs"):
        watch(tmp_path)
    watched = watch(tmp_path, use=())
    assert set(watched.hashes) == shipped()
    watched.wait_broken("the graph has the outputs")


def test_a_fault_of_looking_is_logged_once_and_the_watch_goes_on(
    tmp_path: Path, watch: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(tmp_path / "tiny")
    watched = watch(tmp_path)
    looks = []

    def failing(folders: Any) -> Any:
        looks.append(folders)
        raise RuntimeError("the file system is on strike")

    with monkeypatch.context() as patch:
        patch.setattr(library, "look", failing)
        poll_until(lambda: len(looks) > 3, "some looks")
    assert caplog.text.count("RuntimeError: the file system is on strike") == 1
    watched.wait_for(tiny=put_package(tmp_path / "tiny", version="2"))


def test_a_package_for_when_it_is_named_runs_only_then(tmp_path: Path, watch: Any) -> None:
    tiny = put_package(tmp_path / "tiny", changes={"when_named": True})
    everything, chosen = watch(tmp_path, use=()), watch(tmp_path)
    before = everything.hashes
    assert set(before) == shipped()
    assert chosen.hashes == {"tiny": tiny}
    shy = put_package(tmp_path / "shy", name="shy", changes={"when_named": True})
    other = put_package(tmp_path / "other", name="other")
    everything.wait_for(**before, other=other)
    assert shy not in everything.hashes.values()


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ("optic.beam_kev=1", ModelChoiceError, "no model package named optic; there are: "),
        ("tiny.beam_kev=1", ModelChoiceError, "the model tiny does not run: name it in use"),
        ("optics.beam=1", ParameterError, "has no parameter beam; it has refractive_index, beam_"),
        ("optics.beam_kev=1", ParameterError, "beam_kev = 1 keV, expected 20 to 400 keV"),
    ],
)
def test_what_cannot_be_set_is_an_error_at_the_start(
    tmp_path: Path, watch: Any, given: str, error: type[Exception], sentence: str
) -> None:
    make_dielectric_package(tmp_path)
    put_package(tmp_path / "tiny")
    with pytest.raises(error) as caught:
        watch(tmp_path, use=("optics",), given=(given,))
    assert sentence in str(caught.value)


def test_a_renewed_package_that_cannot_take_what_was_set_takes_no_place(
    tmp_path: Path, watch: Any
) -> None:
    made = load_package(make_dielectric_package(tmp_path))
    watched = watch(tmp_path, use=("optics",), given=("optics.refractive_index=3",))
    narrow = made.manifest.parameters[0].model_copy(update={"high": 2.0})
    parameters = (narrow, *made.manifest.parameters[1:])
    newer = made.manifest.model_copy(update={"parameters": parameters})
    save_package(tmp_path / "optics", newer, made.read_graph())
    watched.wait_broken("refractive_index = 3, expected 1 to 2")
    assert watched.hashes == {"optics": made.sha256}


def test_values_for_a_package_that_is_waited_for_wait_with_it(tmp_path: Path, watch: Any) -> None:
    watched = watch(tmp_path, use=("optics",), given=("optics.refractive_index=3",))
    assert watched.health["models_awaited"] == ["optics"]
    made = make_dielectric_package(tmp_path)
    watched.wait_for(optics=load_package(made).sha256)


def test_a_package_with_a_selection_runs_where_something_is_chosen(
    tmp_path: Path, watch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = load_package(make_selected_package(tmp_path)).sha256
    assert sha256 not in watch(tmp_path, use=()).hashes.values()
    assert caplog.text == ""
    named = watch(tmp_path, use=("selected",))
    assert (named.hashes, named.health["models_awaited"]) == ({}, [])
    assert "takes part in no run without --set selected.elements=B,C" in caplog.text
    chosen = watch(tmp_path, use=(), given=("selected.elements=Mn,O",))
    assert chosen.hashes["selected"] == sha256


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ("elements=Mn,Xy", ParameterError, "there is no Xy, expected 1 to 3 different of B, C,"),
        ("elements=B,C,N,O", ParameterError, "these are 4, expected 1 to 3 different"),
        ("elements=2", ParameterError, "there is no 2, expected"),
        ("exposure_ratio=2", ModelChoiceError, "runs only where something is selected: --set sel"),
    ],
)
def test_what_cannot_be_chosen_is_an_error_at_the_start(
    tmp_path: Path, watch: Any, given: str, error: type[Exception], sentence: str
) -> None:
    make_selected_package(tmp_path)
    with pytest.raises(error) as caught:
        watch(tmp_path, use=(), given=(f"selected.{given}",))
    assert sentence in str(caught.value)


def test_a_renewed_package_without_a_chosen_label_takes_no_place(
    tmp_path: Path, watch: Any
) -> None:
    made = load_package(make_selected_package(tmp_path))
    watched = watch(tmp_path, use=("selected",), given=("selected.elements=La,O",))
    selection = made.manifest.takes.selection
    assert selection is not None
    for labels in (("C", "O", "Mn"), ("O", "C", "La")):
        takes = made.manifest.takes.model_copy(
            update={"selection": selection.model_copy(update={"labels": labels})}
        )
        newer = made.manifest.model_copy(update={"takes": takes})
        save_package(tmp_path / "selected", newer, made.read_graph())
        if "La" in labels:
            watched.wait_for(selected=load_package(tmp_path / "selected").sha256)
        else:
            watched.wait_broken("there is no La, expected 1 to 3 different of C, O, Mn")
            assert watched.hashes == {"selected": made.sha256}
