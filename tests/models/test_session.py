"""The session gives the graph's answers, the same bits in any company, or one clear sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.conftest import parse_graph

from support.packages import expected_answer, make_package, make_spectra, replace_graph
from zeroloss.models import (
    InferenceError,
    ModelSession,
    PackageError,
    ProviderError,
    load_package,
)
from zeroloss.models.provider import EP_NAMES, open_session
from zeroloss.models.session import _batches

LABELS = ("C", "N", "O", "Fe")
Open = Callable[..., ModelSession]

# A graph of the right form whose answers are all one half.
HALVES = """
    probability = Expand (half, size)
    spread = Expand (half, size)
"""
PLAIN = """
    half = Constant <value = float {0.5}> ()
    batch = Shape <start = 0, end = 1> (counts)
    four = Constant <value_ints = [4]> ()
    size = Concat <axis = 0> (batch, four)
    {rest}
"""


FIVE = "float[batch,4] probability, float[batch,5] spread"


def plain(rest: str) -> str:
    return PLAIN.replace("{rest}", rest)


@pytest.fixture
def session(package: Path) -> ModelSession:
    return ModelSession(load_package(package))


def noisy(n: int, channels: int = 900, seed: int = 7) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    clean = make_spectra([["C"], ["O", "Fe"], [], ["N"]] * (n // 4 + 1), channels=channels)[:n]
    spectra = rng.poisson(clean).astype(np.float32)
    spectra[rng.random(spectra.shape) < 0.02] = np.nan
    return spectra


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 30])
def test_the_answers_are_those_of_the_graph(session: ModelSession, n: int) -> None:
    counts = noisy(n)
    answer = session.run(counts, 100.0, 1.0)
    probability, spread = expected_answer(counts, 100.0, 1.0, LABELS)
    assert answer["probability"].dtype == np.float32
    assert answer["probability"].shape == (n, 4)
    np.testing.assert_allclose(answer["probability"], probability, atol=1e-5)
    np.testing.assert_allclose(answer["spread"], spread, atol=1e-5)


def test_known_edges_are_found(session: ModelSession) -> None:
    probability = session.run(make_spectra([["C", "Fe"], [], ["O"]]), 100.0, 1.0)["probability"]
    found = probability > 0.5
    assert found.tolist() == [
        [True, False, False, True],
        [False, False, False, False],
        [False, False, True, False],
    ]


def test_what_was_not_measured_is_not_zero(session: ModelSession) -> None:
    counts = make_spectra([["C"], ["C"]])
    counts[1, 184:200] = np.nan  # 16 of the 40 channels above the carbon onset
    counts[:, 700:] = np.nan  # Fe is out of sight
    answer = session.run(counts, 100.0, 1.0)
    assert answer["probability"][1, 0] == pytest.approx(answer["probability"][0, 0], abs=0.01)
    assert answer["probability"][1, 0] > 0.9


def test_every_spectrum_may_have_its_own_axis(session: ModelSession) -> None:
    counts = np.stack([make_spectra([["O"]], offset_ev=o, scale_ev=s)[0] for o, s in AXES])
    offsets, scales = (np.array(column, np.float32) for column in zip(*AXES, strict=True))
    together = session.run(counts, offsets, scales)["probability"]
    alone = [session.run(counts[i : i + 1], *axis)["probability"][0] for i, axis in enumerate(AXES)]
    assert together.tobytes() == np.stack(alone).tobytes()
    assert (together[:, 2] > 0.5).all()


AXES = [(100.0, 1.0), (150.0, 0.8), (90.0, 0.7)]


def test_the_same_bits_in_whatever_company(session: ModelSession) -> None:
    spectrum = noisy(1, seed=1)
    alone = session.run(spectrum, 100.0, 1.0)
    nothing = np.full((20, 900), np.nan, np.float32)
    for neighbours in (noisy(20, seed=2), noisy(20, seed=3) * 1e6, np.zeros((20, 900)), nothing):
        for position in range(17):
            counts = neighbours.astype(np.float32)
            counts[position] = spectrum[0]
            answer = session.run(counts, 100.0, 1.0)
            for name, values in alone.items():
                assert answer[name][position].tobytes() == values[0].tobytes()


def test_the_same_bits_from_kernels_that_depend_on_the_batch(open_graph: Open) -> None:
    # With the batch as the columns of a product, other batch sizes sum in another order.
    session = open_graph(
        plain("""
            from = Constant <value = float {0.0}> ()
            to = Constant <value = float {900.0}> ()
            step = Constant <value = float {1.0}> ()
            form = Constant <value_ints = [1, 900]> ()
            index = Range (from, to, step)
            waves = Sin (index)
            weights = Reshape (waves, form)
            columns = Transpose <perm = [1, 0]> (counts)
            products = MatMul (weights, columns)
            rows = Transpose <perm = [1, 0]> (products)
            probability = Expand (rows, size)
            spread = Expand (half, size)
        """)
    )
    counts = np.nan_to_num(noisy(8))
    together = session.run(counts, 100.0, 1.0)["probability"]
    for n in range(1, 8):
        fewer = session.run(counts[:n], 100.0, 1.0)["probability"]
        assert fewer.tobytes() == together[:n].tobytes()


def test_the_same_bits_from_many_threads(session: ModelSession) -> None:
    counts = noisy(40)
    alone = session.run(counts, 100.0, 1.0)["probability"].tobytes()
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: session.run(counts, 100.0, 1.0)["probability"], range(24))
        assert {answer.tobytes() for answer in answers} == {alone}


def test_the_spectra_are_left_as_they_were(session: ModelSession) -> None:
    counts = noisy(9)
    before = counts.tobytes()
    session.run(counts, 100.0, 1.0)
    assert counts.tobytes() == before


def test_counts_of_any_layout_and_type(session: ModelSession) -> None:
    counts = np.nan_to_num(noisy(6))
    expected = session.run(counts, 100.0, 1.0)["probability"].tobytes()
    for same in (np.asfortranarray(counts), counts.astype(np.uint16), counts.astype(np.float64)):
        assert session.run(same, 100.0, 1.0)["probability"].tobytes() == expected


def test_only_what_is_wanted_is_answered_with_the_same_bits(session: ModelSession) -> None:
    counts = noisy(11)
    everything = session.run(counts, 100.0, 1.0)
    for wanted in (["spread"], ["probability"], ["spread", "probability"], []):
        answer = session.run(counts, 100.0, 1.0, wanted)
        assert set(answer) == set(wanted)
        for name, values in answer.items():
            assert values.tobytes() == everything[name].tobytes()
    with pytest.raises(InferenceError, match="tiny has no output colour; it has probability, spre"):
        session.run(counts, 100.0, 1.0, ["probability", "colour"])


def spectral(tmp_path: Path, graph: object = None) -> ModelSession:
    """A session whose second output is a spectrum."""
    changes = {"outputs.0.uncertainty": None, "outputs.1.kind": "spectrum"}
    folder = make_package(tmp_path, name="spectral", changes=changes)
    if graph is not None:
        replace_graph(folder, graph)
    return ModelSession(load_package(folder))


def test_a_spectrum_is_computed_only_where_it_is_wanted(tmp_path: Path) -> None:
    # The spread has its size only for spectra of 4 channels.
    graph = parse_graph(
        plain("""
            probability = Expand (half, size)
            spread = Reshape (counts, size)
        """)
    )
    session = spectral(tmp_path, graph)
    assert set(session.run(np.ones((3, 4)), 0.0, 1.0)) == {"probability", "spread"}
    for n in (1, 20):
        answer = session.run(np.ones((n, 9)), 0.0, 1.0, ["probability"])
        assert answer["probability"].tolist() == [[0.5] * 4] * n
    for wanted in (None, ["spread"], ["probability", "spread"]):
        with pytest.raises(InferenceError, match="the graph failed"):
            session.run(np.ones((1, 9)), 0.0, 1.0, wanted)
    with pytest.raises(InferenceError, match="the graph failed"):
        session.warm_up(9)
    session.warm_up(4)
    assert list(session.timings) == [8]


def test_a_map_has_the_same_bits_as_a_look_at_the_spectrum(tmp_path: Path) -> None:
    session, counts = spectral(tmp_path), noisy(11)
    everything = session.run(counts, 100.0, 1.0)
    alone = session.run(counts, 100.0, 1.0, ["probability"])["probability"]
    assert alone.tobytes() == everything["probability"].tobytes()


def test_only_what_is_asked_for_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[set[str]] = []

    def told(*arguments: Any) -> Any:
        found = open_session(*arguments)
        opened.append({item.name for item in found[0].get_outputs()})
        return found

    monkeypatch.setattr("zeroloss.models.session.open_session", told)
    session, counts = spectral(tmp_path), noisy(11)
    assert opened == [{"probability"}]
    mapped = session.run(counts, 100.0, 1.0, ["probability"])
    assert len(opened) == 1
    whole = [session.run(counts, 100.0, 1.0) for _ in range(2)]
    assert opened[1:] == [{"probability", "spread"}]
    proving = ModelSession(session.package, outputs=["spread"])
    spread = proving.run(counts, 100.0, 1.0, ["spread"])["spread"]
    assert opened[2:] == [{"spread"}]
    assert spread.tobytes() == whole[0]["spread"].tobytes()
    other = proving.run(counts, 100.0, 1.0, ["probability"])["probability"]
    assert opened[3:] == [{"probability", "spread"}]
    assert other.tobytes() == mapped["probability"].tobytes()
    everything = ModelSession(session.package, outputs=["probability", "spread"])
    assert set(everything.run(counts, 100.0, 1.0)) == opened[4] == {"probability", "spread"}
    assert len(opened) == 5
    with pytest.raises(InferenceError, match="spectral has no output colour"):
        ModelSession(session.package, outputs=["colour"])


def test_a_spectrum_of_another_form_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    session = spectral(tmp_path, parse_graph(plain(HALVES), outputs=FIVE))
    assert session.run(np.ones((1, 9)), 0.0, 1.0, ["probability"])["probability"].shape == (1, 4)
    # As whatever else a model that is open cannot do.
    for ask in (lambda: session.warm_up(9), lambda: session.run(np.ones((1, 9)), 0.0, 1.0)):
        with pytest.raises(InferenceError, match=r"spread has the shape .*, expected \['any', 4"):
            ask()


@pytest.mark.parametrize(
    ("shape", "offset", "scale", "expected"),
    [
        ((9,), 0.0, 1.0, r"takes counts \[n, channels\] of 2 to 16384 channels, got \[9\]"),
        ((2, 1), 0.0, 1.0, r"got \[2, 1\]"),
        ((1, 16385), 0.0, 1.0, r"got \[1, 16385\]"),
        ((2, 9), np.zeros(3), 1.0, r"offset_ev must be one number or \[2\], got \[3\]"),
        ((2, 9), 0.0, np.ones((2, 1)), r"scale_ev must be one number or \[2\], got \[2, 1\]"),
        ((2, 9), np.nan, 1.0, "offset_ev must be finite, got nan"),
        ((2, 9), 0.0, np.inf, "scale_ev must be finite, got inf"),
        ((2, 9), 0.0, 0.0, "scale_ev must be above 0 eV per channel, got 0"),
        ((2, 9), 0.0, np.array([1.0, -0.5]), "got -0.5"),
    ],
)
def test_spectra_that_no_model_takes(
    session: ModelSession,
    shape: tuple[int, ...],
    offset: float,
    scale: float,
    expected: str,
) -> None:
    with pytest.raises(InferenceError, match=expected):
        session.run(np.ones(shape, np.float32), offset, scale)


def test_warm_up_times_every_bucket(tmp_path: Path) -> None:
    session = ModelSession(load_package(make_package(tmp_path, cpu_bucket=4)))
    assert (session.timings, session.seconds_per_spectrum) == ({}, 0.0)
    session.warm_up(500)
    assert session.smallest_bucket == 4
    assert list(session.timings) == [4]
    assert session.seconds_per_spectrum == session.timings[4] / 4 > 0


def test_the_graph_never_sees_another_batch_size(open_graph: Open) -> None:
    # The graph answers with the batch size that it was given.
    session = open_graph(
        plain("""
            rows = Cast <to = 1> (batch)
            probability = Expand (rows, size)
            spread = Expand (rows, size)
        """)
    )
    for n in (1, 7, 8, 20):
        counts = np.ones((n, 9), np.float32)
        assert set(session.run(counts, 0.0, 1.0)["spread"].ravel()) == {8.0}


@given(st.integers(0, 300), st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True))
def test_batches_take_the_next_bigger_bucket(n: int, sizes: list[int]) -> None:
    buckets = tuple(sorted(sizes))
    batches = list(_batches(n, buckets))
    assert [first for first, _, _ in batches] == list(_starts(batches))
    assert sum(used for _, used, _ in batches) == n
    for number, (_, used, bucket) in enumerate(batches):
        assert 0 < used <= bucket
        assert all(smaller < used for smaller in buckets if smaller < bucket)
        assert used == buckets[-1] or number == len(batches) - 1


def _starts(batches: list[tuple[int, int, int]]) -> Iterator[int]:
    at = 0
    for _, used, _ in batches:
        yield at
        at += used


def test_the_map_says_what_made_it(session: ModelSession) -> None:
    info = session.info("core")
    assert (info.name, info.version, info.range_name) == ("tiny", "1.0.0", "core")
    assert (info.provider, info.precision) == ("CPUExecutionProvider", "float32")
    assert info.sha256 == session.package.sha256
    assert [(item.name, item.shape, item.labels) for item in info.outputs] == [
        ("probability", (4,), LABELS),
        ("spread", (4,), LABELS),
    ]
    assert info.outputs[0].uncertainty == "spread"
    assert info.outputs[0].threshold == 0.5


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        ("float[b,c] spectra, float[b] offset_ev, float[b] scale_ev", None, "has the inputs "),
        ("float[b,c] counts, float[b] offset_ev", None, "inputs counts, offset_ev, expected are"),
        ("double[b,c] counts, float[b] offset_ev, float[b] scale_ev", None, "type tensor.double"),
        ("float[8,c] counts, float[b] offset_ev, float[b] scale_ev", None, r"shape \[8, 'c'\]"),
        ("float[b,99] counts, float[b] offset_ev, float[b] scale_ev", None, r"expected \['any'"),
        ("float[b,c] counts, float[b,1] offset_ev, float[b] scale_ev", None, "input offset_ev has"),
        (None, "float[b,4] probability", "outputs probability, expected are probability, spread"),
        (None, "float[b,4] probability, float[b,4] spread, float[b,4] size_f", "the outputs"),
        (None, "float[b,5] probability, float[b,4] spread", r"expected \['any', 4\]"),
        (None, "float[b,4,1] probability, float[b,4] spread", "output probability has the shape"),
        (None, "double[b,4] probability, float[b,4] spread", "model package .*written"),
    ],
)
def test_a_foreign_graph_is_refused(
    open_graph: Open, inputs: str | None, outputs: str | None, expected: str
) -> None:
    shape_of = inputs.split("] ")[1].split(",")[0] if inputs else "counts"
    body = plain(HALVES).replace("(counts)", f"({shape_of})")
    body += "size_f = Expand (half, size)" if outputs and "size_f" in outputs else ""
    given_inputs = {} if inputs is None else {"inputs": inputs}
    with pytest.raises(PackageError, match=expected):
        open_graph(body, outputs=outputs, **given_inputs)


@pytest.mark.parametrize("name", ["spread", "scale_ev", "channel"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    folder = make_package(tmp_path, name="odd")
    graph = (folder / "model.onnx").read_bytes()
    other = name.encode()[:-1] + b"\xff"
    replace_graph(folder, graph.replace(name.encode(), other))
    with pytest.raises(PackageError, match=r"package .*odd: the graph has .* UTF-8"):
        ModelSession(load_package(folder))


def test_a_graph_that_the_runtime_refuses(open_graph: Open) -> None:
    with pytest.raises(PackageError, match=r"written: ONNX Runtime refuses the graph: .*NoSuch"):
        open_graph("probability, spread = NoSuchOperator (counts)")


@pytest.mark.parametrize(("n", "size"), [(1, 3), (8, 3), (20, 3), (8, 100_000)])
def test_a_size_left_open_is_compared_when_it_runs(open_graph: Open, n: int, size: int) -> None:
    # A full batch is written into the answers without a copy: no other shape may get there.
    session = open_graph(
        plain(f"""
            other = Constant <value_ints = [{size}]> ()
            wrong = Concat <axis = 0> (batch, other)
            probability = Expand (half, wrong)
            spread = Expand (half, size)
        """),
        outputs="float[b,k] probability, float[b,j] spread",
    )
    with pytest.raises(InferenceError, match=rf"probability came as \[8, {size}\], .* \[8, 4\]"):
        session.run(np.ones((n, 9)), 0.0, 1.0)


def test_what_a_graph_hands_through_is_answered_too(open_graph: Open) -> None:
    session = open_graph("probability = Identity (counts) spread = Identity (probability)")
    counts = np.arange(84.0, dtype=np.float32).reshape(21, 4)
    for values in session.run(counts, 0.0, 1.0).values():
        np.testing.assert_array_equal(values, counts)


def test_full_batches_are_written_in_place(open_graph: Open) -> None:
    session = open_graph("probability = Add (counts, counts) spread = Neg (counts)")
    inputs: dict[str, Any] = {"counts": np.ones((8, 4), np.float32)}
    inputs |= {name: np.ones(8, np.float32) for name in ("offset_ev", "scale_ev")}
    names = ["probability", "spread"]
    room = np.full((3, 8, 4), 7.0, np.float32)
    assert session._light.run_into(names, inputs, [room[0], room[2]])
    assert [set(part.ravel()) for part in room] == [{2.0}, {7.0}, {-1.0}]
    room = np.full((3, 8, 5), 7.0, np.float32)
    assert not session._light.run_into(names, inputs, [room[0], room[2]])
    assert set(room.ravel()) == {7.0}


@pytest.mark.parametrize("n", [3, 8])
def test_answers_that_are_not_finite_come_as_nan(open_graph: Open, n: int) -> None:
    session = open_graph(
        plain("""
            axes = Constant <value_ints = [1]> ()
            zero = Constant <value = float {0.0}> ()
            total = ReduceSum (counts, axes)
            infinite = Div (total, zero)
            probability = Expand (infinite, size)
            spread = Expand (half, size)
        """)
    )
    answer = session.run(([[1.0, 2.0], [-1.0, -1.0], [np.nan, 1.0]] * 3)[:n], 0.0, 1.0)
    assert np.isnan(answer["probability"]).all()
    assert (answer["spread"] == 0.5).all()


def test_a_failing_graph_is_one_sentence(open_graph: Open) -> None:
    session = open_graph(
        plain("""
            probability = Reshape (counts, size)
            spread = Expand (half, size)
        """)
    )
    assert session.run(np.full((1, 4), 0.25), 0.0, 1.0)["probability"].tolist() == [[0.25] * 4]
    with pytest.raises(InferenceError, match=r"written: the graph failed on a batch of \[8, 3\]: "):
        session.run(np.ones((1, 3)), 0.0, 1.0)


def test_a_device_that_is_not_there_is_an_error(package: Path) -> None:
    loaded = load_package(package)
    found = ModelSession(loaded, "auto").provider
    if found != EP_NAMES["cpu"]:
        assert ModelSession(loaded, "cuda").provider == EP_NAMES["cuda"]
        return
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(ProviderError, match=f"the provider {provider} .* was asked for"):
            ModelSession(loaded, provider)


def test_the_runtime_prints_nothing(
    open_graph: Open, package: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = ModelSession(load_package(package), "auto")
    session.warm_up(100)
    with pytest.raises(PackageError):
        open_graph("probability, spread = NoSuchOperator (counts)")
    assert capfd.readouterr() == ("", "")
