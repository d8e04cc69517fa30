from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from threading import Thread

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.published_runs import LABELS, PROBABILITY, SPREAD, package, run_start
from zeroloss.maps import MapSizeError, MapStore
from zeroloss.scan import Coverage
from zeroloss.wire import OutputInfo, RunStart

F32 = npt.NDArray[np.float32]


def store_of(shape: tuple[int, int]) -> MapStore:
    return MapStore(run_start(shape), (package(),))


def pixels(*indices: int) -> npt.NDArray[np.uint32]:
    return np.array(indices, np.uint32)


def passes(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def values(*levels: float) -> dict[str, F32]:
    """Both layers at one level per pixel."""
    level = np.repeat(np.array(levels, np.float32)[:, None], len(LABELS), axis=1)
    return {PROBABILITY: level, SPREAD: level / np.float32(10)}


def test_a_new_map_is_unknown_and_clean() -> None:
    store = store_of((2, 3))
    assert store.layers.keys() == {PROBABILITY, SPREAD}
    assert np.isnan(store.layer(PROBABILITY)).all()
    assert store.layer(PROBABILITY).shape == (2, 3, len(LABELS))
    assert (store.coverage() == Coverage.UNSEEN).all()
    assert store.take_dirty(100) is None


def test_written_values_stand_at_row_times_columns_plus_column() -> None:
    store = store_of((2, 3))
    store.write(pixels(5, 0), values(0.25, 0.5), passes(0, 0))
    layer = store.layer(PROBABILITY)
    assert layer[1, 2].tolist() == [0.25] * 4
    assert layer[0, 0].tolist() == [0.5] * 4
    assert np.isnan(layer[0, 1:]).all()
    assert store.coverage().tolist() == [[2, 0, 0], [0, 0, 2]]
    np.testing.assert_array_equal(store.plane(SPREAD, (3,)), store.layer(SPREAD)[..., 3])


def test_spectra_are_not_kept_per_pixel_but_may_be_offered() -> None:
    info = package()
    spectrum = OutputInfo(name="subtracted", kind="spectrum", shape=(100,))
    info = replace(info, outputs=(*info.outputs, spectrum))
    store = MapStore(run_start((1, 2)), (info,))
    assert store.layers.keys() == {PROBABILITY, SPREAD}
    store.write(
        pixels(1),
        {**values(1.0), "elements/subtracted": np.zeros((1, 100), np.float32)},
        passes(0),
    )
    assert store.coverage().tolist() == [[0, 2]]


def test_the_newest_pass_stays_whatever_the_order() -> None:
    store = store_of((1, 2))
    store.write(pixels(0, 1, 0), values(0.3, 0.1, 0.2), passes(2, 0, 1))
    assert store.plane(PROBABILITY, (0,))[0].tolist() == pytest.approx([0.3, 0.1])
    store.write(pixels(0, 1), values(0.9, 0.8), passes(1, 1))
    assert store.plane(PROBABILITY, (0,))[0].tolist() == pytest.approx([0.3, 0.8])


def test_of_one_pass_the_last_written_stays() -> None:
    store = store_of((1, 1))
    store.write(pixels(0, 0, 0), values(0.1, 0.2, 0.3), passes(4, 4, 4))
    assert store.plane(PROBABILITY, (0,))[0, 0] == np.float32(0.3)
    store.write(pixels(0), values(0.4), passes(4))
    assert store.plane(PROBABILITY, (0,))[0, 0] == np.float32(0.4)


def test_layers_of_one_pixel_never_come_from_two_passes() -> None:
    store = store_of((1, 1))
    store.write(pixels(0), values(0.1), passes(0))
    newer = values(0.7)
    store.write(pixels(0), {PROBABILITY: newer[PROBABILITY]}, passes(1))
    assert np.isnan(store.plane(SPREAD, (0,))[0, 0])
    store.write(pixels(0), {SPREAD: newer[SPREAD]}, passes(1))
    assert store.plane(PROBABILITY, (0,))[0, 0] == np.float32(0.7)
    assert store.plane(SPREAD, (0,))[0, 0] == np.float32(0.07)


def test_marks_never_take_back_what_is_done() -> None:
    store = store_of((1, 3))
    store.write(pixels(0), values(0.1), passes(0))
    store.mark(pixels(0, 1, 2), Coverage.PENDING)
    store.mark(pixels(1), Coverage.LOST)
    assert store.coverage().tolist() == [[Coverage.DONE, Coverage.LOST, Coverage.PENDING]]


def test_a_mark_that_changes_nothing_is_no_change() -> None:
    store = store_of((1, 3))
    store.mark(pixels(1), Coverage.PENDING)
    assert store.take_dirty(10) is not None
    store.mark(pixels(1), Coverage.PENDING)
    assert store.take_dirty(10) is None


@given(
    st.lists(st.lists(st.integers(0, 8999), min_size=1, max_size=50, unique=True), max_size=8),
    st.integers(1, 60),
)
def test_every_change_is_taken_once(writes: list[list[int]], limit: int) -> None:
    store = store_of((90, 100))
    changed: set[int] = set()
    for indices in writes:
        store.mark(pixels(*indices), Coverage.PENDING)
        changed |= set(indices)
    taken: list[int] = []
    while (part := store.take_dirty(limit)) is not None:
        at, coverage, layers = part
        assert 1 <= len(at) <= limit
        assert (coverage == Coverage.PENDING).all()
        assert layers[PROBABILITY].shape == (len(at), len(LABELS))
        taken += at.tolist()
    assert taken == sorted(changed)


def test_what_was_taken_is_a_copy() -> None:
    store = store_of((1, 2))
    store.write(pixels(0), values(0.1), passes(0))
    part = store.take_dirty(10)
    assert part is not None
    coverage, layers = store.page(0, 2)
    store.write(pixels(0, 1), values(0.9, 0.9), passes(1, 1))
    assert part[2][PROBABILITY][0, 0] == np.float32(0.1)
    assert layers[PROBABILITY][0, 0] == np.float32(0.1)
    assert coverage.tolist() == [2, 0]


def test_pages_cover_the_map_and_end_with_it() -> None:
    store = store_of((3, 4))
    store.write(pixels(*range(12)), values(*np.arange(12) / 100), passes(*[0] * 12))
    parts = [store.page(first, 5) for first in (0, 5, 10)]
    assert [len(coverage) for coverage, _ in parts] == [5, 5, 2]
    joined = np.concatenate([layers[PROBABILITY] for _, layers in parts])
    np.testing.assert_array_equal(joined.reshape(3, 4, 4), store.layer(PROBABILITY))


@pytest.mark.parametrize(
    ("present", "mapped", "found"), [(1, 100, True), (1, 101, False), (2, 101, True), (1, 7, True)]
)
def test_a_label_counts_from_one_percent_of_the_mapped_pixels(
    present: int, mapped: int, found: bool
) -> None:
    store = store_of((20, 20))
    layers = {
        PROBABILITY: np.zeros((mapped, len(LABELS)), np.float32),
        SPREAD: np.zeros((mapped, len(LABELS)), np.float32),
    }
    layers[PROBABILITY][:present, 2] = 0.5
    store.write(np.arange(mapped, dtype=np.uint32), layers, np.zeros(mapped, np.int64))
    assert store.detected() == {PROBABILITY: ("N",) if found else ()}


def test_nothing_is_detected_on_an_empty_map() -> None:
    assert store_of((2, 2)).detected() == {PROBABILITY: ()}


def test_a_map_beyond_the_cap_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(MapSizeError, match=r"8192 x 8192 .* 2688.0 MiB: the cap is 1024.0 MiB"):
        MapStore(run_start((8192, 8192)), (package(),), max_bytes=1 << 30)
    labels = tuple(f"L{i}" for i in range(1000))
    with pytest.raises(MapSizeError, match=r"the cap is 4096\.0 MiB"):
        MapStore(run_start((1024, 1024)), (package(labels),))


def test_more_layers_than_a_message_carries_are_refused() -> None:
    outputs = tuple(OutputInfo(name=f"o{i}", kind="scalar", shape=()) for i in range(63))
    with pytest.raises(MapSizeError, match="63 map layers: one map holds at most 62"):
        MapStore(run_start((1, 1)), (replace(package(), outputs=outputs),))


@pytest.mark.parametrize(
    ("at", "layers", "text"),
    [
        (pixels(6), values(0.1), "pixel 6 is outside the map of 2 x 3"),
        (
            pixels(0),
            {"elements/colour": np.zeros((1, 4), np.float32)},
            "no layer 'elements/colour'",
        ),
        (pixels(0), {PROBABILITY: np.zeros((1, 5), np.float32)}, r"expected \(1, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    at: npt.NDArray[np.uint32], layers: Mapping[str, F32], text: str
) -> None:
    store = store_of((2, 3))
    with pytest.raises(ValueError, match=text):
        store.write(at, dict(layers), passes(0))
    assert store.take_dirty(10) is None


def test_an_unknown_layer_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match=f"{PROBABILITY}, {SPREAD}"):
        store_of((1, 1)).layer("elements/none")


def test_a_reader_never_sees_half_a_pixel() -> None:
    store = store_of((40, 50))
    everything = np.arange(2000, dtype=np.uint32)
    rounds = 60

    def write() -> None:
        for number in range(rounds):
            level = np.full((2000, len(LABELS)), number, np.float32)
            store.write(
                everything, {PROBABILITY: level, SPREAD: level}, np.full(2000, number, np.int64)
            )

    writer = Thread(target=write)
    writer.start()
    newest: float = -1
    while newest < rounds - 1:
        part = store.take_dirty(500)
        if part is None:
            continue
        _, coverage, layers = part
        assert (coverage == Coverage.DONE).all()
        np.testing.assert_array_equal(layers[PROBABILITY], layers[SPREAD])
        newest = max(newest, float(layers[PROBABILITY].max()))
    writer.join()
    assert (store.layer(PROBABILITY) == rounds - 1).all()


def test_the_run_of_a_map_is_kept() -> None:
    start: RunStart = run_start((1, 1))
    assert MapStore(start, ()).start is start
