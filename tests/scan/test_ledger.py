"""The ledger balances at every moment, whatever happens in whatever order."""

from __future__ import annotations

from itertools import pairwise
from threading import Barrier, Thread

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zeroloss.scan import Ledger, runs_of

positions = st.integers(0, 200)
lengths = st.integers(1, 30)


def members(ranges):
    return {number for begin, end in ranges for number in range(begin, end)}


class LedgerAgainstSets(RuleBasedStateMachine):
    """Random operations on a ledger and on plain sets of positions."""

    @initialize()
    def begin(self):
        self.ledger = Ledger()
        self.announced = 0
        self.received: set[int] = set()
        self.processed: set[int] = set()
        self.rejected: dict[str, set[int]] = {}
        self.duplicates = 0
        self.masked = 0

    @property
    def settled(self):
        return self.processed.union(*self.rejected.values())

    @rule(count=positions)
    def announce(self, count):
        self.ledger.announce(count)
        self.announced = max(self.announced, count)

    @rule(begin=positions, length=lengths)
    def receive(self, begin, length):
        came = set(range(begin, begin + length))
        assert members(self.ledger.receive(begin, begin + length)) == came - self.received
        self.duplicates += len(came & self.received)
        self.received |= came
        self.announced = max(self.announced, begin + length)

    @rule(data=st.data(), count=st.integers(0, 40))
    def process(self, data, count):
        known = sorted(self.received)
        chosen = data.draw(st.lists(st.sampled_from(known), max_size=count)) if known else []
        self.ledger.process(np.array(chosen, dtype=np.int64))
        self.processed |= set(chosen) - self.settled

    @rule(data=st.data(), reason=st.sampled_from(["saturated", "channels"]))
    def reject(self, data, reason):
        if self.received:
            begin = data.draw(st.sampled_from(sorted(self.received)))
            end = begin
            while end in self.received:
                end += 1
            self.ledger.reject(begin, end, reason)
            new = set(range(begin, end)) - self.settled
            self.rejected.setdefault(reason, set()).update(new)

    @rule(count=st.integers(0, 1000))
    def mask(self, count):
        self.ledger.mask_channels(count)
        self.masked += count

    @invariant()
    def balances(self):
        totals = self.ledger.totals()
        assert totals.balanced
        assert totals.announced == self.announced
        assert totals.processed == len(self.processed)
        assert dict(totals.rejected) == {k: len(v) for k, v in self.rejected.items() if v}
        assert totals.pending == len(self.received - self.settled)
        assert totals.missed == self.announced - len(self.received)
        assert totals.duplicates == self.duplicates
        assert totals.masked_channels == self.masked
        assert members(self.ledger.gaps()) == set(range(self.announced)) - self.received
        assert members(self.ledger.pending()) == self.received - self.settled


TestLedgerAgainstSets = LedgerAgainstSets.TestCase


@given(st.lists(st.integers(0, 50), max_size=40))
def test_runs_of_keeps_the_order(numbers):
    found = runs_of(np.array(numbers, dtype=np.int64))
    assert [n for begin, end in found for n in range(begin, end)] == numbers
    assert all(left[1] != right[0] for left, right in pairwise(found))


def test_an_empty_ledger():
    totals = Ledger().totals()
    assert totals.balanced
    assert totals.announced == 0
    assert Ledger().gaps() == Ledger().pending() == []


def test_balances_while_threads_work():
    """Receivers, workers and readers at once: every reading balances, and so does the end."""
    ledger = Ledger()
    spectra, block, threads = 20_000, 50, 4
    barrier = Barrier(2 * threads + 1)
    unbalanced = []

    def receive(part):
        barrier.wait()
        for begin in range(part * block, spectra, threads * block):
            ledger.receive(begin, begin + block)

    def work(part):
        barrier.wait()
        for begin in range(part * block, spectra, threads * block):
            # Workers only take what has come: wait for it, as the queue does.
            while members_missing(ledger, begin, begin + block):
                pass
            if begin // block % 7 == 0:
                ledger.reject(begin, begin + block, "saturated")
            else:
                ledger.process(np.arange(begin, begin + block))
            ledger.mask_channels(1)

    def members_missing(ledger, begin, end):
        return any(b < end and begin < e for b, e in ledger.gaps())

    def read():
        barrier.wait()
        while ledger.totals().processed + sum(ledger.totals().rejected.values()) < spectra:
            if not ledger.totals().balanced:
                unbalanced.append(ledger.totals())

    ledger.announce(spectra)
    crowd = [Thread(target=receive, args=(part,)) for part in range(threads)]
    crowd += [Thread(target=work, args=(part,)) for part in range(threads)]
    crowd.append(Thread(target=read))
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
        assert not thread.is_alive()
    totals = ledger.totals()
    assert unbalanced == []
    assert totals.balanced
    assert (totals.pending, totals.missed) == (0, 0)
    blocks = range(0, spectra, block)
    rejected = block * sum(begin // block % 7 == 0 for begin in blocks)
    assert dict(totals.rejected) == {"saturated": rejected}
    assert totals.processed == spectra - rejected
    assert totals.masked_channels == len(blocks)
