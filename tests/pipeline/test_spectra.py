"""The spectrum of a pixel or region: the counts that came, summed, and what models make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.packages import (
    expected_dielectric,
    expected_masked,
    expected_selected,
    make_dielectric_package,
    make_masked_package,
    make_package,
    make_selected_package,
)
from support.streams import ELEMENTS, T0_NS, counts_at, make_blocks, make_start
from zeroloss.maps import Closing
from zeroloss.models import ModelSession, load_package
from zeroloss.pipeline import Analysis, Run, spectra
from zeroloss.recording import RecordedRun, Recorder
from zeroloss.scan import ScanGeometry
from zeroloss.wire import (
    EnergyRange,
    Refusal,
    Request,
    RunStart,
    ScanPlan,
    Spectra,
    SpectraBlock,
    encode,
)

PLAN = ScanPlan(shape=(4, 8))
SHORT = EnergyRange(
    name="short", offset_ev=-1.0, scale_ev=0.5, size=3, dtype="float32", saturation=100.0
)
LOW = EnergyRange(name="low_loss", offset_ev=-10.0, scale_ev=0.25, size=128, dtype="float32")


class RecordedStream:
    """A run and its recorder, fed as the daemon does."""

    def __init__(
        self,
        folder: Path,
        start: RunStart,
        analyses: Sequence[Analysis] = (),
        *,
        sum_passes_bytes: int = 0,
        segment_bytes: int = 1 << 20,
    ) -> None:
        self.run = Run(start, analyses, sum_passes_bytes=sum_passes_bytes)
        self.recorder = Recorder(folder, start, segment_bytes=segment_bytes)
        self.run.folder = self.recorder.folder

    def feed(self, *blocks: SpectraBlock, recorded: bool = True) -> None:
        for block in blocks:
            location = self.recorder.write(encode(block), 1) if recorded else None
            self.run.receive(block, 1, location)

    def __enter__(self) -> RecordedStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.close()


def block_of(start: RunStart, counts: dict[str, np.ndarray]) -> SpectraBlock:
    """The first spectra of a run."""
    return SpectraBlock(run=start.run, seq=1, t_ns=1, schema=start.schema, first=0, counts=counts)


def request(*what: str, **where: Any) -> Request:
    if "pixels" in where:
        where["pixels"] = np.array(where["pixels"], np.uint32)
    return Request(op="spectrum", ticket=4, what=what, **where)


def answered(run: Run, *what: str, **where: Any) -> Spectra:
    answer = run.spectra(request(*what, **where))
    assert isinstance(answer, Spectra), answer
    return answer


def refused(run: Run, *what: str, **where: Any) -> str:
    answer = run.spectra(request(*what, **where))
    assert isinstance(answer, Refusal), answer
    assert (answer.ticket, answer.run) == (4, run.start.run)
    return answer.reason


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = make_package(tmp_path_factory.mktemp("models"), labels=ELEMENTS)
    return Analysis(ModelSession(load_package(folder)), make_start(PLAN).ranges[0])


def test_one_pixel_gives_what_is_on_the_map_and_a_region_its_sum(
    tmp_path: Path, tiny: Analysis
) -> None:
    with RecordedStream(tmp_path, make_start(PLAN), [tiny], segment_bytes=50_000) as stream:
        run = stream.run
        works = []
        for block in make_blocks(run.start, 32, block=5):
            location = stream.recorder.write(encode(block), 1)
            works += run.receive(block, 1, location)
        run.process(works)
        for pixel in (0, 17, 31):
            one = answered(run, "raw/core_loss", "tiny/probability", "tiny/spread", pixels=[pixel])
            np.testing.assert_array_equal(one.arrays["raw/core_loss"], counts_at([pixel])[0])
            assert one.arrays["raw/core_loss"].dtype == np.float64
            for name in ("tiny/probability", "tiny/spread"):
                on_map = run.store.layer(name).reshape(32, -1)[pixel]
                np.testing.assert_array_equal(one.arrays[name], on_map)
        region = answered(run, rows=(1, 3), columns=(2, 5))
    positions = [8 * row + column for row in (1, 2) for column in (2, 3, 4)]
    np.testing.assert_array_equal(
        region.arrays["raw/core_loss"], counts_at(positions).sum(axis=0, dtype=float)
    )
    assert (region.pixels, region.spectra, region.empty, region.left_out) == (6, 6, 0, {})
    raw, probability, _ = one.infos
    assert (raw.kind, raw.unit, raw.axis_ev, raw.sha256) == ("raw", "counts", (100.0, 1.0), "")
    assert (probability.kind, probability.labels) == ("probability", ELEMENTS)
    assert probability.sha256 == tiny.session.package.sha256
    assert probability.provider == "CPUExecutionProvider"


@st.composite
def streams(draw: st.DrawFn) -> tuple[RunStart, list[SpectraBlock]]:
    """A short run of any pattern with invalid channels, its blocks in any order, some twice."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    region = None
    if draw(st.booleans()):
        y0, x0 = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        region = (y0, x0, draw(st.integers(1, rows - y0)), draw(st.integers(1, columns - x0)))
    plan = ScanPlan(
        shape=(rows, columns),
        pattern=draw(st.sampled_from(("raster", "serpentine", "list"))),
        region=region,
        passes=draw(st.sampled_from((1, 2, None))),
    )
    start = make_start(plan, ranges=(SHORT,))
    most = ScanGeometry(plan).expected or 20
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    blocks = []
    first = 0
    while first < most:
        n = min(most - first, draw(st.integers(1, 4)))
        counts = rng.integers(0, 50, (n, 3)).astype(np.float32)
        counts[rng.random((n, 3)) < 0.1] = np.nan
        counts[rng.random((n, 3)) < 0.05] = 100.0
        counts[rng.random(n) < 0.1] = np.nan
        counts[rng.random((n, 3)) < 0.05] = -3.0
        pixels = rng.integers(0, rows * columns, n).astype(np.uint32)
        blocks.append(
            SpectraBlock(
                run=start.run,
                seq=len(blocks) + 1,
                t_ns=T0_NS,
                schema=start.schema,
                first=first,
                counts={"short": counts},
                pixels=pixels if plan.pattern == "list" else None,
            )
        )
        first += n
    order = draw(st.permutations(blocks))
    kept = draw(st.integers(1, len(order)))
    return start, [*order[:kept], *draw(st.lists(st.sampled_from(order[:kept]), max_size=2))]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(streams(), st.data(), st.booleans())
def test_whatever_came_in_whatever_order_is_summed_once(
    stream: tuple[RunStart, list[SpectraBlock]], data: st.DataObject, summing: bool
) -> None:
    start, blocks = stream
    geometry = ScanGeometry(start.scan)
    asked = data.draw(st.lists(st.integers(0, geometry.pixels - 1), min_size=1, max_size=6))
    total, spectra_summed, dead, filled = np.zeros(3), 0, 0, set()
    for block in {block.first: block for block in blocks}.values():
        pixels = block.pixels
        if pixels is None:
            pixels = geometry.pixel_of(np.arange(block.first, block.first + block.n))
        for pixel, counts in zip(pixels, block.counts["short"], strict=True):
            if pixel in asked:
                valid = np.where(counts >= 100, np.nan, counts.astype(np.float64))
                if np.isfinite(valid).any():
                    total, spectra_summed = total + valid, spectra_summed + 1
                    filled.add(int(pixel))
                else:
                    dead += 1
    with (
        TemporaryDirectory() as folder,
        RecordedStream(
            Path(folder), start, sum_passes_bytes=summing << 20, segment_bytes=600
        ) as recorded,
    ):
        recorded.feed(*blocks)
        run = recorded.run
        live = run.spectra(request("raw/short", pixels=asked))
        if run.sums is not None:
            assert isinstance(live, Refusal) or live.counts_from == "sums"
        run.close(Closing("success"))
        for answer in (live, run.spectra(request("raw/short", pixels=asked))):
            if isinstance(answer, Refusal):
                assert spectra_summed == 0
                continue
            np.testing.assert_array_equal(answer.arrays["raw/short"], total)
            assert answer.pixels == len(set(asked))
            if answer.counts_from == "recording":
                assert answer.spectra == spectra_summed
                assert answer.empty == len(set(asked) - filled)
                assert sum(answer.left_out.values()) == dead


def test_the_index_is_rebuilt_from_the_recording(tmp_path: Path) -> None:
    start = make_start(PLAN)
    with RecordedStream(tmp_path, start) as stream:
        stream.feed(*make_blocks(start, 20))
        before = answered(stream.run, rows=(0, 4))
    again = Run(start, (), sum_passes_bytes=0)
    again.folder = stream.recorder.folder
    for item in RecordedRun(stream.recorder.folder).messages():
        if isinstance(item.message, SpectraBlock):
            again.receive(item.message, item.received_ns, item.location)
    after = answered(again, rows=(0, 4))
    np.testing.assert_array_equal(after.arrays["raw/core_loss"], before.arrays["raw/core_loss"])
    assert (after.spectra, after.empty) == (before.spectra, before.empty) == (20, 12)
    assert replace(after, t_ns=0, arrays={}) == replace(before, t_ns=0, arrays={})


def test_what_is_not_in_the_recording_or_damaged_there_is_told(tmp_path: Path) -> None:
    start = make_start(PLAN)
    with RecordedStream(tmp_path, start) as stream:
        blocks = list(make_blocks(start, 32, block=8))
        location = stream.recorder.write(encode(blocks[0]), 1)
        stream.run.receive(blocks[0], 1, location)
        stream.feed(blocks[1])
        stream.feed(blocks[2], recorded=False)
        run = stream.run
    data = bytearray(location.segment.read_bytes())
    data[location.offset + 400] ^= 1
    location.segment.write_bytes(bytes(data))
    answer = answered(run)
    assert (answer.pixels, answer.spectra, answer.empty) == (32, 8, 24)
    assert answer.left_out == {"damaged in the recording": 8, "not in the recording": 8}
    np.testing.assert_array_equal(
        answer.arrays["raw/core_loss"], counts_at(range(8, 16)).sum(axis=0, dtype=float)
    )
    assert refused(run, rows=(0, 1)) == (
        "no spectrum of these 8 pixels can be summed: 8 damaged in the recording"
    )
    assert refused(run, pixels=[31]) == "no usable spectrum of this pixel has come"
    location.segment.unlink()
    assert "cannot read the recording" in refused(run, rows=(1, 2))


def test_masks_are_those_of_the_model(tmp_path: Path) -> None:
    package = make_masked_package(tmp_path / "models")
    session = ModelSession(load_package(package))
    start = make_start(PLAN, ranges=(LOW,))
    counts = np.random.default_rng(5).poisson(40.0, (4, 128)).astype(np.float32)
    counts[0, 3], counts[1, 5], counts[2, 7] = -900.0, np.nan, np.inf
    counts[3] = np.nan
    with RecordedStream(tmp_path, start, [Analysis(session, LOW)]) as stream:
        stream.feed(block_of(start, {"low_loss": counts}))
        answer = answered(
            stream.run,
            *("raw/low_loss", "masked/mean", "masked/reason", "masked/curves"),
            rows=(0, 1),
        )
        dark = refused(stream.run, "masked/mean", pixels=[3])
    total = counts[:3].sum(axis=0, dtype=np.float64)
    total[7] = np.nan
    np.testing.assert_array_equal(answer.arrays["raw/low_loss"], total)
    assert total[3] < 0
    handed = np.where(total < 0, np.nan, total)[None].astype(np.float32)
    expected = expected_masked(handed, -10.0, 0.25)
    np.testing.assert_allclose(answer.arrays["masked/mean"], expected["mean"][0], rtol=1e-6)
    assert answer.arrays["masked/reason"] == expected["reason"][0]
    curves = next(item for item in answer.infos if item.name == "masked/curves")
    assert (curves.kind, curves.axis_ev, curves.labels) == (
        "spectrum",
        (-2.0, 0.25),
        ("first", "twice"),
    )
    size = answer.arrays["masked/curves"].shape[-1]
    np.testing.assert_array_equal(
        answer.arrays["masked/curves"][1], 2 * np.nan_to_num(handed[0, :size])
    )
    assert (answer.spectra, answer.empty) == (3, 5)
    assert answer.left_out == {"no valid channel": 1}
    assert "1 no valid channel" in dark


def test_a_sum_without_a_common_valid_channel_has_no_answer_of_a_model(
    tmp_path: Path, tiny: Analysis
) -> None:
    start = make_start(PLAN, dtype="float32")
    counts = counts_at([0, 1], dtype="float32")
    counts[0, ::2], counts[1, 1::2] = np.nan, np.nan
    block = block_of(start, {"core_loss": counts})
    with RecordedStream(tmp_path, start, [Analysis(tiny.session, start.ranges[0])]) as stream:
        stream.feed(block)
        assert np.isnan(answered(stream.run, pixels=[0, 1]).arrays["raw/core_loss"]).all()
        assert refused(stream.run, "tiny/probability", pixels=[0, 1]) == (
            "no channel of core_loss is valid in all of the 2 spectra"
        )
        assert answered(stream.run, "tiny/probability", pixels=[1]).spectra == 1


@pytest.mark.parametrize("dark", [False, True])
def test_the_axis_is_moved_as_on_the_maps(tmp_path: Path, tiny: Analysis, dark: bool) -> None:
    changes = {"outputs.2.shifts_axis": True}
    package = make_masked_package(tmp_path / "models", name="zero", changes=changes)
    zero = Analysis(ModelSession(load_package(package)), LOW)
    start = make_start(PLAN, ranges=(*make_start(PLAN).ranges, LOW))
    low = np.full((2, 128), np.nan if dark else 60.0, np.float32)
    if not dark:
        low[[0, 1], [30, 44]] = 500
    core = counts_at([0, 1])
    with RecordedStream(tmp_path, start, [tiny, zero]) as stream:
        run = stream.run
        block = block_of(start, {"core_loss": core, "low_loss": low})
        works = run.receive(block, 1, stream.recorder.write(encode(block), 1))
        run.process(works)
        for pixel in (0, 1):
            answer = answered(run, "tiny/probability", pixels=[pixel])
            np.testing.assert_array_equal(
                answer.arrays["tiny/probability"],
                run.store.layer("tiny/probability").reshape(32, -1)[pixel],
            )
            assert (answer.spectra, list(answer.arrays)) == (1, ["tiny/probability"])
    moved = run.store.layer("zero/peak").ravel()[:2].tolist()
    assert moved == ([-2.5, 1.0] if not dark else pytest.approx([np.nan] * 2, nan_ok=True))


# What is refused.


def test_runs_that_are_not_recorded_answer_from_their_sums_or_say_so(tiny: Analysis) -> None:
    single = Run(make_start(PLAN), [tiny], sum_passes_bytes=1 << 30)
    passes = Run(make_start(replace(PLAN, passes=2)), [tiny], sum_passes_bytes=1 << 30)
    for run in (single, passes):
        for block in make_blocks(run.start, 32):
            run.receive(block, 1)
    assert "is not recorded, so its spectra cannot be read again" in refused(single, pixels=[0])
    answer = answered(passes, "raw/core_loss", "tiny/spread", pixels=[0, 3])
    assert (answer.counts_from, answer.spectra, answer.empty) == ("sums", 2, 0)
    passes.close(Closing("success"))
    assert "is not recorded" in refused(passes, pixels=[0])


def test_names_and_pixels_that_are_not_there(tmp_path: Path, tiny: Analysis) -> None:
    with RecordedStream(tmp_path, make_start(PLAN), [tiny]) as stream:
        stream.feed(*make_blocks(stream.run.start, 32))
        run = stream.run
        for name in ("raw/low", "tiny/none", "other/probability", "raw", "tiny/"):
            assert refused(run, name, pixels=[0]) == (
                f"nothing is called {name}; this run has raw/core_loss, tiny/probability, "
                "tiny/spread"
            )
        assert refused(run, pixels=[0, 32]) == "pixel 32 is outside the map of 4 x 8 pixels"
        assert "not inside the map of 4 x 8" in refused(run, rows=(0, 5))
        assert "not inside the map of 4 x 8" in refused(run, columns=(7, 9))


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Run(make_start(ScanPlan(shape=(1024, 1024))), (), sum_passes_bytes=0)
    assert refused(large) == (
        "a request for 1048576 pixels: the cap is 262144; ask for a smaller region"
    )
    start = make_start(replace(PLAN, passes=None))
    with RecordedStream(tmp_path, start) as stream:
        stream.feed(*make_blocks(start, 96))
        assert answered(stream.run).spectra == 96
        monkeypatch.setattr(spectra, "MAX_READ_SPECTRA", 95)
        assert "sums 96 spectra over all passes: the cap is 95" in refused(stream.run)
        assert answered(stream.run, rows=(0, 3)).spectra == 72
        monkeypatch.setattr(spectra, "MAX_READ_BYTES", 200_000)
        assert "MiB of the recording" in refused(stream.run, rows=(0, 3))
        assert answered(stream.run, pixels=[0]).spectra == 3


def test_a_model_that_fails_is_a_sentence(tmp_path: Path, tiny: Analysis) -> None:
    wrong = replace(tiny, range=replace(tiny.range, scale_ev=-1.0))
    with RecordedStream(tmp_path, make_start(PLAN), [wrong]) as stream:
        stream.feed(*make_blocks(stream.run.start, 16))
        assert "scale_ev must be above 0" in refused(stream.run, "tiny/spread", pixels=[0])


def test_few_bytes_are_read_for_few_pixels(tmp_path: Path) -> None:
    start = make_start(ScanPlan(shape=(40, 40)))
    with RecordedStream(tmp_path, start, segment_bytes=100_000) as stream:
        stream.feed(*make_blocks(start, 1600))
        found = stream.run.index.of_positions(np.array([5, 6, 1599]))
    blocks = list(found.blocks())
    assert len(blocks) == 2
    assert found.nbytes < 2 * 16 * 900 * 4 + 1000


def test_parameters_of_a_request_count_before_those_of_the_run(tmp_path: Path) -> None:
    package = make_dielectric_package(tmp_path / "models")
    start = make_start(PLAN, ranges=(LOW,))
    told = {"refractive_index": 3.0, "beam_kev": 200.0}
    optics = Analysis(ModelSession(load_package(package)), LOW, told)
    counts = np.random.default_rng(8).poisson(50.0, (32, LOW.size)).astype(np.float32)
    names = ("optics/eps_real", "optics/thickness_nm")
    with RecordedStream(tmp_path / "recordings", start, [optics]) as stream:
        run = stream.run
        stream.feed(block_of(start, {"low_loss": counts}))
        for asked in ({}, {"optics.beam_kev": 60.0}, {"optics.collection_mrad": 5.0}):
            used = told | {key.partition(".")[2]: value for key, value in asked.items()}
            answer = answered(run, *names, rows=(1, 3), parameters=asked)
            total = counts[8:24].sum(axis=0, keepdims=True)
            for name in names:
                expected = expected_dielectric(total, **used)[name.partition("/")[2]]
                np.testing.assert_allclose(answer.arrays[name], expected[0], rtol=1e-5)
            stamped = {item.name: item.value for item in answer.infos[0].parameters}
            assert stamped == {"collection_mrad": 20.0, **used}
        for key, value, sentence in (
            ("optic.beam_kev", 60.0, "this run has no model optic; it has optics"),
            ("optics.beam", 60.0, "the model optics has no parameter beam; it has refractive_"),
            ("optics.beam_kev", 1.0, "beam_kev = 1 keV, expected 20 to 400 keV"),
        ):
            assert sentence in refused(run, *names, parameters={key: value})


def selected(folder: Path, core: EnergyRange) -> Analysis:
    """A model of oxygen and manganese on the core loss, with the low loss beside it."""
    session = ModelSession(load_package(make_selected_package(folder)))
    return Analysis(session, core, {"exposure_ratio": 4.0}, (5, 6), LOW)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_region_is_summed_with_its_low_loss_beside(tmp_path: Path, passes: int) -> None:
    core_range = make_start(PLAN).ranges[0]
    start = make_start(ScanPlan(shape=(4, 8), passes=passes), ranges=(core_range, LOW))
    package = make_masked_package(
        tmp_path / "models", name="zero", changes={"outputs.2.shifts_axis": True}
    )
    zero = Analysis(ModelSession(load_package(package)), LOW)
    core = counts_at(range(passes * 32))
    low = np.random.default_rng(9).poisson(30.0, (passes * 32, LOW.size)).astype(np.float32)
    low[:, 46] += 900
    low[9] = np.nan
    analyses = [selected(tmp_path / "models", core_range), zero]
    names = ("selected/signal", "selected/density", "selected/why")
    with RecordedStream(tmp_path, start, analyses, sum_passes_bytes=1 << 30) as stream:
        run = stream.run
        block = block_of(start, {"core_loss": core, "low_loss": low})
        run.process(run.receive(block, 1, stream.recorder.write(encode(block), 1)))
        assert (run.sums is None) == (passes == 1)
        # Pixel 9 has lost the low loss of its first pass: its region knows nothing per count.
        for where, whole in (({"rows": (2, 4)}, True), ({"rows": (1, 2)}, False)):
            answer = answered(run, *names, **where)
            first, last = (8 * row for row in where["rows"])
            at = [one * 32 + pixel for one in range(passes) for pixel in range(first, last)]
            expected = expected_selected(
                core[at].sum(axis=0)[None],
                100.0 - 1.5,
                1.0,
                ["O", "Mn"],
                low_loss=(low[at].sum(axis=0)[None], -10.0 - 1.5, 0.25) if whole else None,
                exposure_ratio=4.0,
            )
            for name in names:
                values = expected[name.partition("/")[2]][0]
                np.testing.assert_allclose(answer.arrays[name], values, rtol=1e-5, err_msg=name)
        assert (answer.infos[0].labels, answer.infos[0].kind) == (("O", "Mn"), "scalar")
        one = answered(run, *names, pixels=[20])
        for name in names:
            on_map = run.store.layer(name).reshape(32, -1)[20]
            np.testing.assert_array_equal(one.arrays[name].ravel(), on_map)
        assert np.isnan(run.store.layer("selected/density").reshape(32, -1)[9]).all()
        assert run.store.layer("selected/why").ravel()[9] == 1
        assert "has no parameter element; it has exposure_ratio, elements" in refused(
            run, *names, rows=(0, 1), parameters={"selected.element": 1.0}
        )
        assert "elements = 1: there is no 1, expected 1 to 3 different of B" in refused(
            run, *names, rows=(0, 1), parameters={"selected.elements": 1.0}
        )
