"""Which pixel each position of a scan belongs to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeroloss.scan import ScanGeometry
from zeroloss.wire import ScanPlan


@st.composite
def plans(draw, patterns=("raster", "serpentine")):
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    region = None
    if draw(st.booleans()):
        y0, x0 = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        region = (y0, x0, draw(st.integers(1, rows - y0)), draw(st.integers(1, columns - x0)))
    return ScanPlan(
        shape=(rows, columns),
        pattern=draw(st.sampled_from(patterns)),
        region=region,
        passes=draw(st.none() | st.integers(1, 4)),
    )


def inside(plan):
    """Flat pixels of the scanned region."""
    y0, x0, height, width = plan.region or (0, 0, *plan.shape)
    flat = np.arange(plan.shape[0] * plan.shape[1]).reshape(plan.shape)
    return flat[y0 : y0 + height, x0 : x0 + width]


@given(plans(), st.integers(0, 3))
def test_every_pass_visits_every_pixel_of_the_region_once(plan, number):
    geometry = ScanGeometry(plan)
    per_pass = geometry.per_pass
    positions = np.arange(number * per_pass, (number + 1) * per_pass)
    pixels = geometry.pixel_of(positions)
    assert pixels.dtype == np.uint32
    assert sorted(pixels.tolist()) == sorted(inside(plan).ravel().tolist())
    assert set(geometry.pass_of(positions).tolist()) == {number}


@given(plans())
def test_rows_follow_each_other_and_serpentine_turns_round(plan):
    geometry = ScanGeometry(plan)
    region = inside(plan)
    visited = geometry.pixel_of(np.arange(geometry.per_pass)).reshape(region.shape)
    for row, expected in enumerate(region):
        turned = plan.pattern == "serpentine" and row % 2 == 1
        np.testing.assert_array_equal(visited[row], expected[::-1] if turned else expected)


@given(plans(patterns=("serpentine",)))
def test_the_beam_of_a_serpentine_never_jumps(plan):
    geometry = ScanGeometry(plan)
    pixels = geometry.pixel_of(np.arange(geometry.per_pass)).astype(int)
    rows, columns = np.divmod(pixels, plan.shape[1])
    assert (np.abs(np.diff(rows)) + np.abs(np.diff(columns)) == 1).all()


@given(plans())
def test_expected_spectra(plan):
    geometry = ScanGeometry(plan)
    assert geometry.pixels == plan.shape[0] * plan.shape[1]
    assert geometry.per_pass == inside(plan).size
    if plan.passes is None:
        assert geometry.expected is None
    else:
        assert geometry.expected == plan.passes * geometry.per_pass


def test_positions_far_into_an_endless_run():
    geometry = ScanGeometry(ScanPlan(shape=(64, 64), passes=None))
    far = (1 << 40) - 1
    assert geometry.pixel_of([far]).tolist() == [far % 4096]
    assert geometry.pass_of([far]).tolist() == [far // 4096]


def test_a_list_carries_its_own_pixels():
    geometry = ScanGeometry(ScanPlan(shape=(3, 4), pattern="list"))
    assert geometry.per_pass is None
    assert geometry.expected is None
    assert geometry.pass_of([0, 5, 99]).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="carries its pixels"):
        geometry.pixel_of([0])


@given(plans(), st.data())
def test_pixels_lead_back_to_their_positions(plan, data):
    geometry = ScanGeometry(plan)
    asked = data.draw(st.lists(st.integers(0, geometry.pixels - 1), unique=True))
    positions = geometry.positions_of(np.array(asked, np.uint32))
    scanned = [pixel for pixel in asked if pixel in inside(plan)]
    assert geometry.pixel_of(positions).tolist() == scanned
    assert all(0 <= position < geometry.per_pass for position in positions)


def test_a_listed_scan_has_no_positions_of_pixels():
    with pytest.raises(ValueError, match="carries its pixels"):
        ScanGeometry(ScanPlan(shape=(2, 2), pattern="list")).positions_of(np.zeros(1, np.uint32))
