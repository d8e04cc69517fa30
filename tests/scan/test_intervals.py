"""Interval sets against Python's own sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from zeroloss.scan import IntervalSet

intervals = st.tuples(st.integers(0, 60), st.integers(0, 20)).map(
    lambda pair: (pair[0], pair[0] + pair[1])
)


def members(ranges):
    return [number for begin, end in ranges for number in range(begin, end)]


operations = st.lists(st.tuples(st.sampled_from(["add", "remove"]), intervals), max_size=30)


@given(operations, intervals)
@example([("add", (3, 9)), ("remove", (5, 5))], (0, 9))
def test_behaves_like_a_set(done, asked):
    ours, theirs = IntervalSet(), set()
    for operation, (begin, end) in done:
        numbers = set(range(begin, end))
        if operation == "add":
            assert members(ours.add(begin, end)) == sorted(numbers - theirs)
            theirs |= numbers
        else:
            assert members(ours.remove(begin, end)) == sorted(numbers & theirs)
            theirs -= numbers
        assert len(ours) == len(theirs)
    assert members(ours) == sorted(theirs)
    assert members(ours.missing(*asked)) == sorted(set(range(*asked)) - theirs)
    for number in range(-1, 85):
        assert (number in ours) == (number in theirs)


@given(operations)
@example([("add", (0, 10)), ("remove", (5, 5))])
def test_intervals_stay_sorted_apart_and_few(done):
    ours = IntervalSet()
    for operation, (begin, end) in done:
        getattr(ours, operation)(begin, end)
    kept = list(ours)
    assert all(begin < end for begin, end in kept)
    # Neighbours that touch are one interval.
    assert all(left[1] < right[0] for left, right in pairwise(kept))


def test_a_long_run_costs_one_entry():
    ours = IntervalSet()
    for begin in range(0, 1 << 20, 64):
        ours.add(begin, begin + 64)
    assert list(ours) == [(0, 1 << 20)]
    assert ours.missing(0, 1 << 20) == []
