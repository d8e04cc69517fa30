"""What is due of one run, on a clock that the test drives."""

from __future__ import annotations

from support.published_runs import SmallRun
from zeroloss.outputs.live import LiveRun
from zeroloss.wire import LedgerUpdate, MapOpen


def ledgers(run: SmallRun, *, changing: bool) -> dict[float, LedgerUpdate]:
    """Those told in four seconds with 16 ticks each, by their time in seconds."""
    opened = MapOpen(
        run=run.start.run,
        seq=1,
        t_ns=1,
        daemon=bytes(8),
        start=run.start,
        packages=run.packages,
        software="test",
        config_sha256="c" * 64,
    )
    live = LiveRun(run, opened)
    told = {}
    for tick in range(64):
        if changing:
            run.ledger.receive(tick, tick + 1)
        for message in live.due(2 + len(told), 1000 + tick / 16):
            assert isinstance(message, LedgerUpdate)
            told[tick / 16] = message
    return told


def test_the_ledger_is_told_at_most_twice_a_second() -> None:
    told = ledgers(SmallRun.create((300, 100)), changing=True)
    assert list(told) == [item / 2 for item in range(8)]
    assert [item.totals.announced for item in told.values()] == [1 + 8 * item for item in range(8)]
    assert [item.seq for item in told.values()] == list(range(2, 10))


def test_a_ledger_that_does_not_change_is_told_again_after_a_while() -> None:
    told = ledgers(SmallRun.create((2, 2)), changing=False)
    assert list(told) == [0.0, 2.0]
