"""Maps in a terminal: every state of a pixel can be told apart, at every size."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from rich.screen import Screen

from support.live import LOW_LOSS, MappedRun, make_run_start, publisher
from support.polling import poll_until
from zeroloss.scan import Coverage
from zeroloss_clients import LiveMaps, MapView
from zeroloss_clients.terminal import MapsView, final_report, picture, ramp
from zeroloss_clients.terminal.picture import fitted
from zeroloss_clients.terminal.view import arrange


def view_of(values, coverage=None):
    values = np.asarray(values, np.float32)
    if coverage is None:
        coverage = np.full(values.shape, Coverage.DONE, np.uint8)
    return MapView("Fe", values, np.asarray(coverage, np.uint8), threshold=0.5)


def colours(lines):
    """Pixel colours [half lines, columns, 3] of a picture."""
    rows = []
    for line in lines:
        top, bottom = [], []
        for span in line.spans:
            top.append(tuple(span.style.color.get_truecolor()))
            below = span.style.bgcolor
            bottom.append((-1, -1, -1) if below is None else tuple(below.get_truecolor()))
        rows += [top, bottom]
    return np.array(rows)


def test_the_ramp_rises_in_lightness_and_ends_are_far_apart():
    linear = (ramp.RAMP / 255.0) ** 2.2
    lightness = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()
    assert lightness[0] < 0.05
    assert lightness[-1] > 0.75


def test_each_pixel_is_drawn_in_its_colour():
    values = np.linspace(0, 1, 12).reshape(4, 3)
    got = colours(picture(view_of(values), 3, 2))
    np.testing.assert_array_equal(got, ramp.colours_of(values.astype(np.float32)))


def test_every_state_has_a_colour_of_its_own():
    coverage = np.array([list(Coverage)] * 2, np.uint8)
    got = colours(picture(view_of(np.full((2, 5), 0.95), coverage), 5, 1))[0]
    assert len({tuple(colour) for colour in got.tolist()}) == 5
    assert tuple(got[Coverage.LOST]) == ramp.LOST
    assert tuple(got[Coverage.PENDING]) == ramp.PENDING
    assert tuple(got[Coverage.UNSEEN]) == ramp.UNSEEN
    plain = picture(view_of(np.full((2, 5), 0.95), coverage), 5, 1, colour=False)[0].plain
    assert plain == " ?@x!"


def test_a_pixel_without_a_value_is_a_hole_of_its_own():
    values = np.array([[0.1, np.nan, 0.95, np.nan]] * 2)
    coverage = np.full((2, 4), Coverage.DONE, np.uint8)
    coverage[:, 3] = Coverage.LOST
    view = view_of(values, coverage)
    got = colours(picture(view, 4, 1))[0]
    assert tuple(got[1]) == ramp.MASKED
    assert tuple(got[3]) == ramp.LOST
    assert ramp.MASKED not in {tuple(colour) for colour in ramp.RAMP.tolist()}
    assert picture(view, 4, 1, colour=False)[0].plain == ".~@x"
    # Beside a value it is left out of the mean; alone it stays a hole.
    assert (colours(picture(view, 2, 1))[0][0] == ramp.colours_of(np.float32(0.1))).all()
    alone = view_of([[np.nan, np.nan, 0.5, 0.5]] * 2)
    assert (colours(picture(alone, 2, 1))[0] == [ramp.MASKED, ramp.RAMP[32]]).all()


def test_a_span_moves_the_ends_of_the_ramp():
    values = np.array([[10.0, 15.0, 20.0]] * 2)
    got = colours(picture(view_of(values), 3, 1, span=(10.0, 20.0)))[0]
    assert (got == ramp.RAMP[[0, 32, 63]]).all()
    flat = colours(picture(view_of(values), 3, 1, span=(10.0, 10.0)))[0]
    assert (flat == ramp.RAMP[[0, 63, 63]]).all()


def test_shrinking_averages_what_is_mapped_and_never_hides_a_hole():
    values = np.zeros((100, 200), np.float32)
    values[:, 100:] = 1.0
    coverage = np.full((100, 200), Coverage.DONE, np.uint8)
    coverage[37, 11] = Coverage.LOST
    coverage[90:, 100:] = Coverage.UNSEEN
    got = colours(picture(view_of(values, coverage), 20, 5))
    assert got.shape == (10, 20, 3)
    assert [tuple(pixel) for pixel in np.argwhere((got == ramp.LOST).all(axis=2))] == [(3, 1)]
    assert (got[9, 10:] == ramp.UNSEEN).all()
    assert (got[0, 10:] == ramp.RAMP[-1]).all()
    mixed = np.indices((2, 8)).sum(axis=0) % 2
    assert (colours(picture(view_of(mixed), 4, 1))[0] == ramp.RAMP[32]).all()


@pytest.mark.parametrize(
    ("shape", "columns", "lines"),
    [((1, 1), 30, 10), ((1, 500), 40, 8), ((500, 1), 40, 8), ((48, 64), 7, 3), ((3, 7), 200, 90)],
)
def test_every_shape_fits_into_every_box(shape, columns, lines):
    height, width = fitted(shape, columns, lines)
    got = picture(view_of(np.full(shape, 0.5)), columns, lines)
    assert 1 <= len(got) == (height + 1) // 2 <= lines
    assert all(line.cell_len == width <= columns for line in got)


def test_maps_are_arranged_to_be_large():
    assert arrange((48, 64), 1, 55, 19) == (1, 1)
    assert arrange((48, 64), 6, 55, 19)[0] == 3
    assert arrange((10, 200), 4, 60, 20)[0] == 1
    columns, count = arrange((48, 64), 12, 20, 6)
    assert count < 12
    assert columns <= 2


def screen(view, width, height):
    console = Console(
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    lines = console.render_lines(Screen(view), console.options.update(height=height))
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.fixture
def growing():
    """Live maps of a run that is half mapped and has lost some spectra."""
    source = MappedRun(make_run_start((20, 30)))
    with (
        publisher() as publishing,
        LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint) as maps,
    ):
        publishing.open(source)
        source.fill(0, 300, 0.25)
        source.ledger.announce(340)
        source.store.mark(np.arange(320, 340, dtype=np.uint32), Coverage.LOST)
        run = maps.wait_for_run(10)
        poll_until(lambda: run.rate_hz == 1000.0 and run.ledger.announced == 340)
        poll_until(lambda: (run.coverage == Coverage.LOST).sum() == 20)
        yield maps, source


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (200, 60), (20, 6)])
def test_the_view_fits_the_terminal(growing, size):
    lines = screen(MapsView(growing[0]), *size)
    assert len(lines) == size[1]
    assert all(len(line) == size[0] for line in lines)


def test_the_view_tells_what_there_is_to_know(growing):
    maps, source = growing
    view = MapsView(maps, "zeroloss")
    view.note = "a note"
    text = "\n".join(screen(view, 80, 24))
    for words in (
        "live",
        "a test scan",
        "Fe 100 %",
        "300/600 mapped",
        "1000/s",
        "lag 250 ms",
        "340 announced = 300 mapped + 0 pending + 40 missed + 0 rejected",
        "elements 1 (00000000) on CPU",
        "█ lost",
        "a note",
    ):
        assert words in text
    assert "▀" in text
    source.close()
    maps.wait_for_close(10)
    assert "finished: success" in screen(view, 80, 24)[0]


def test_labels_are_told_by_their_share_and_scalars_by_their_span():
    source = MappedRun(make_run_start((2, 10)), (LOW_LOSS,))
    with (
        publisher() as publishing,
        LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint) as maps,
    ):
        publishing.open(source)
        source.fill_low_loss([1.25] * 8 + [np.nan] * 8, [0] * 8 + [1] * 6 + [2] * 2)
        run = maps.wait_for_run(10)
        poll_until(lambda: run.ledger.processed == 16 and not run["low_loss/gap"].mask[0, 0])
        text = "\n".join(screen(MapsView(maps), 80, 24))
        for words in ("gap 1.25 to 1.25 eV", "why", "given", "50 %", "38 %", "12 %", "█ no value"):
            assert words in text
        for words in ("gap_error", "mean p"):
            assert words not in text
        source.close()
        out = io.StringIO()
        Console(width=80, file=out).print(final_report(maps.wait_for_close(10)))
    printed = out.getvalue()
    assert "low_loss/why: given 50 %, metal 38 %, vacuum 12 %" in printed
    assert "gap 1.25 to 1.25 eV" in printed
    assert "~" in printed
    assert "detected" not in printed


def test_a_layer_without_any_value_says_so():
    source = MappedRun(make_run_start((2, 10)), (LOW_LOSS,))
    with (
        publisher() as publishing,
        LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint) as maps,
    ):
        publishing.open(source)
        source.fill_low_loss([np.nan] * 20, [1] * 20)
        run = maps.wait_for_run(10)
        poll_until(
            lambda: run.ledger.processed == 20 and not (run["low_loss/why"].values == 0).any()
        )
        assert "gap no value" in "\n".join(screen(MapsView(maps), 80, 24))


def test_scalars_are_drawn_beside_the_elements(growing):
    maps, _ = growing
    text = "\n".join(screen(MapsView(maps), 120, 40))
    assert "thickness 0.25 to 0.25 t/λ" in text
    assert "spread" not in text


def test_the_view_before_there_is_anything():
    with (
        publisher() as publishing,
        LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint) as maps,
    ):
        view = MapsView(maps)
        poll_until(lambda: maps.connected)
        assert "waiting for a run" in "".join(screen(view, 80, 24))
        publishing.open(MappedRun(make_run_start((5, 5))))
        maps.wait_for_run(10)
        assert "no pixel is mapped yet" in "".join(screen(view, 80, 24))
    assert "waiting for the daemon" in "".join(
        screen(MapsView(LiveMaps("tcp://127.0.0.1:9", "tcp://127.0.0.1:9")), 80, 24)
    )


def test_a_final_report_can_be_printed_without_colour(growing):
    maps, source = growing
    source.close()
    out = io.StringIO()
    Console(width=80, file=out).print(final_report(maps.wait_for_close(10)))
    text = out.getvalue()
    assert "detected: Fe" in text
    assert "finished: success" in text
    assert "40 missed" in text
    assert "x" * 7 in text
    assert "\x1b" not in text
