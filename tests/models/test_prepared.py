"""Tensors that the counts do not change are made once for a run, and give the same answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.packages import make_selected_package, read_manifest, replace_graph
from support.packages.selected import SELECTED_GRAPH
from zeroloss.models import InferenceError, LowLoss, ModelSession, PackageError, load_package
from zeroloss.models import graph as graphs
from zeroloss.models.check import try_out
from zeroloss.models.graph import CutGraph

N = 20
COUNTS = np.random.default_rng(2).poisson(50, (N, 900)).astype(np.float32)
LOW = LowLoss(np.random.default_rng(3).poisson(50, (N, 64)).astype(np.float32), -2.0, 0.5)
MAPPED = ("signal", "density", "why")
Answer = dict[str, np.ndarray[Any, Any]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_selected_package(tmp_path)


@pytest.fixture
def session(package: Path) -> ModelSession:
    return ModelSession(load_package(package))


def ask(session: ModelSession, counts: Any = COUNTS, offset: Any = 100.0, **options: Any) -> Answer:
    options = {"selection": (2, 5), **options}
    return session.run(counts, offset, 1.0, MAPPED, {"exposure_ratio": 2.0}, **options)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of the counts of every time that tensors are prepared."""
    shapes: list[tuple[int, ...]] = []
    make = CutGraph._tensors

    def told(self: CutGraph, batch: graphs.Tensors) -> graphs.Tensors:
        shapes.append(batch["counts"].shape)
        return make(self, batch)

    monkeypatch.setattr(CutGraph, "_tensors", told)
    return shapes


def test_they_are_made_once_where_they_are_the_same_for_all_spectra(
    session: ModelSession, prepared: list[tuple[int, ...]]
) -> None:
    whole = ask(session, whole=True)
    assert prepared == []
    for _ in range(3):
        for name, values in ask(session).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-6)
    ask(session, COUNTS[:3])
    assert prepared == [(1, 900)]
    ask(session, selection=(2, 6))
    ask(session, offset=100.5)
    ask(session, COUNTS[:, :800])
    assert prepared == [(1, 900)] * 3 + [(1, 800)]


@pytest.mark.parametrize(
    "options", [{"offset": np.full(N, 100.0)}, {"low_loss": LOW}, {"offset": 99.0 + np.arange(N)}]
)
def test_they_are_made_for_every_batch_where_spectra_have_their_own(
    session: ModelSession, prepared: list[tuple[int, ...]], options: dict[str, Any]
) -> None:
    whole = ask(session, **options, whole=True)
    for name, values in ask(session, **options).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-6)
    assert prepared == [(8, 900)] * 3


def test_what_they_are_not_made_of_does_not_count(
    session: ModelSession, prepared: list[tuple[int, ...]]
) -> None:
    for ratio in (1.0, 2.0, np.linspace(1, 2, N)):
        session.run(COUNTS, 100.0, 1.0, MAPPED, {"exposure_ratio": ratio}, selection=(1,))
    assert len(prepared) == 1


def test_few_are_kept_and_not_for_ever(
    session: ModelSession, prepared: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for offset in (1.0, 2.0, 3.0, 4.0, 1.0, 5.0, 1.0, 2.0):
        ask(session, offset=offset)
    assert len(prepared) == 6
    monkeypatch.setattr(graphs, "MAX_KEPT_BYTES", 4 * 3 * 900)
    for offset in (1.0, 2.0, 2.0, 1.0):
        ask(session, offset=offset)
    assert len(prepared) == 6 + 2
    monkeypatch.setattr(graphs, "MAX_KEPT_BYTES", 100)
    for _ in range(3):
        ask(session, offset=1.0)
    assert len(prepared) == 8 + 2


def test_the_same_bits_in_any_company_and_from_many_threads(session: ModelSession) -> None:
    for options in ({}, {"offset": np.full(N, 100.0)}):
        together = ask(session, **options)
        for row in (0, 7, 19):
            own = {key: value[row : row + 1] for key, value in options.items()}
            for name, values in ask(session, COUNTS[row : row + 1], **own).items():
                assert values.tobytes() == together[name][row : row + 1].tobytes()
    offsets = [float(i % 6) for i in range(36)]
    alone = {offset: ask(session, offset=offset)["signal"].tobytes() for offset in set(offsets)}
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda offset: ask(session, offset=offset)["signal"].tobytes(), offsets)
        assert list(found) == [alone[offset] for offset in offsets]


def test_nothing_asked_prepares_nothing(
    session: ModelSession, prepared: list[tuple[int, ...]]
) -> None:
    assert ask(session, COUNTS[:0])["signal"].shape == (0, 2)
    assert session.run(COUNTS, 100.0, 1.0, [], selection=(1,)) == {}
    assert set(session.run(COUNTS, 100.0, 1.0, selection=(1,))) == {*MAPPED, "curve"}
    assert prepared == []


def test_warm_up_runs_what_a_run_will_run(
    session: ModelSession, prepared: list[tuple[int, ...]]
) -> None:
    session.warm_up(300)
    assert prepared == [(1, 300)]
    session.warm_up(300, low_loss_channels=40)
    session.warm_up(300, own_axes=True)
    assert prepared[1:] == [(8, 300)] * 6
    assert list(session.timings) == [8]


@pytest.fixture
def rewritten(package: Path) -> Callable[..., ModelSession]:
    """Opens the package with some lines of its graph replaced."""
    parser = pytest.importorskip("onnx.parser", reason="needs the package onnx")

    def open_it(*pairs: tuple[str, str]) -> ModelSession:
        text = SELECTED_GRAPH
        for line, instead in pairs:
            assert line in text
            text = text.replace(line, instead)
        replace_graph(package, parser.parse_model(text))
        return ModelSession(load_package(package))

    return open_it


WINDOWS = "float[batch, 3, channel] windows"


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (
            [
                (
                    "windows = Cast <to = 1> (seen)",
                    """
                    absent = IsNaN (counts)
                    measured = Not (absent)
                    measured_rows = Unsqueeze (measured, axis_1)
                    both = And (seen, measured_rows)
                    windows = Cast <to = 1> (both)
                    """,
                )
            ],
            "the prepared tensors windows are made of the values of counts, expected is",
        ),
        (
            # The size of what is measured is made of values.
            [
                (
                    "channels = Shape <start = 1> (counts)",
                    """
                    measured = NonZero (counts)
                    some = Shape <start = 1> (measured)
                    nought = Sub (some, some)
                    all_channels = Shape <start = 1> (counts)
                    channels = Add (all_channels, nought)
                    """,
                )
            ],
            "the prepared tensors windows are made of the values of counts",
        ),
        (
            [(f", {WINDOWS}", "")],
            "the graph has the outputs curve, density, signal, why, expected are curve, density",
        ),
        (
            [
                (f", {WINDOWS}", ""),
                ("float[batch, 3] signal", "float[8, 3, channel] windows, float[batch, 3] signal"),
            ],
            "the prepared tensor windows has the shape [8, 3, 'channel'], expected is an open",
        ),
    ],
)
def test_what_is_not_prepared_without_the_counts_is_refused(
    rewritten: Callable[..., ModelSession], pairs: list[tuple[str, str]], sentence: str
) -> None:
    with pytest.raises(PackageError) as caught:
        rewritten(*pairs)
    assert sentence in str(caught.value)


def test_they_may_be_of_any_type(rewritten: Callable[..., ModelSession]) -> None:
    session = rewritten(
        (WINDOWS, "bool[batch, 3, channel] windows"),
        ("windows = Cast <to = 1> (seen)", "windows = Identity (seen)"),
        ("products = Mul (windows, rows)", "w = Cast <to = 1> (windows)\nproducts = Mul (w, rows)"),
    )
    for options in ({}, {"low_loss": LOW}):
        whole = ask(session, **options, whole=True)
        for name, values in ask(session, **options).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-6)


def test_check_finds_what_does_not_broadcast(rewritten: Callable[..., ModelSession]) -> None:
    session = rewritten(
        ("products = Mul (windows, rows)", "products = Concat <axis = 0> (windows, windows)"),
        ("signal = ReduceSum <keepdims = 0> (products, axis_2)", ""),
        (
            "unknown = IsNaN",
            """
            both = ReduceSum <keepdims = 0> (products, axis_2)
            batch = Shape <start = 0, end = 1> (windows)
            nought = Sub (batch, batch)
            to_axis = Constant <value_ints = [0]> ()
            signal = Slice (both, nought, batch, to_axis)
            unknown = IsNaN
            """.rstrip(),
        ),
    )
    with pytest.raises(InferenceError, match=r"signal came as \[1, 3\], the manifest promises"):
        try_out(session, 200)


def test_check_compares_both_ways_with_the_whole_graph(
    session: ModelSession, rewritten: Callable[..., ModelSession]
) -> None:
    assert try_out(session, 333).company == 0.0
    # The size of the batch in the prepared part is that of the batch, or 1.
    session = rewritten(
        (
            "windows = Cast <to = 1> (seen)",
            """
            all = Cast <to = 1> (seen)
            size = Shape <start = 0, end = 1> (counts)
            size_f = Cast <to = 1> (size)
            windows = Mul (all, size_f)
            """,
        )
    )
    with pytest.raises(InferenceError, match="with windows prepared apart the graph answers other"):
        try_out(session, 333)


def test_the_manifest_names_them(package: Path) -> None:
    assert read_manifest(package)["graph"]["prepared"] == ["windows"]
