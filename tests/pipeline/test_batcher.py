from __future__ import annotations

from threading import Thread
from typing import cast

import numpy as np

from zeroloss.pipeline import Batcher, Run, Work


class _Owner:
    """Batches hold work of one run: its identity and whether it is recorded matter here."""

    recording = True


def work(owner: object, first: int, n: int) -> Work:
    return Work(
        cast(Run, owner),
        np.arange(first, first + n),
        np.arange(first, first + n, dtype=np.uint32),
        {"core_loss": np.full((n, 16), first, np.uint16)},
        received_ns=0,
    )


def positions(batch: list[Work]) -> list[int]:
    return [int(position) for item in batch for position in item.positions]


def test_a_batch_is_what_waits_up_to_the_limit_and_the_rest_stays() -> None:
    batcher, owner = Batcher(1 << 20), _Owner()
    batcher.push(work(owner, 0, 5))
    batcher.push(work(owner, 5, 5))
    assert positions(batcher.take(lambda _: 7, 0)) == list(range(7))
    assert positions(batcher.take(lambda _: 7, 0)) == [7, 8, 9]
    assert batcher.take(lambda _: 7, 0) == []
    assert batcher.nbytes == 0


def test_a_batch_holds_one_run_only() -> None:
    batcher, one, other = Batcher(1 << 20), _Owner(), _Owner()
    batcher.push(work(one, 0, 2))
    batcher.push(work(other, 0, 2))
    assert len(batcher.take(lambda _: 100, 0)) == 1
    assert batcher.take(lambda _: 100, 0)[0].run is other


def test_runs_that_come_at_the_same_time_fill_their_batches_in_turn() -> None:
    batcher, one, other = Batcher(1 << 20), _Owner(), _Owner()
    for first in range(6):
        batcher.push(work(one, first, 1))
        batcher.push(work(other, first, 1))
    batches = [batcher.take(lambda _: 4, 0) for _ in range(4)]
    assert [positions(batch) for batch in batches] == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5], [4, 5]]
    assert [batch[0].run for batch in batches] == [one, other, one, other]
    assert batcher.nbytes == 0


def test_beyond_its_capacity_the_oldest_leaves_for_the_newest() -> None:
    owner = _Owner()
    size = work(owner, 0, 4).nbytes
    batcher = Batcher(2 * size)
    evicted = [item for first in (0, 4, 8, 12) for item in batcher.push(work(owner, first, 4))]
    assert positions(evicted) == list(range(8))
    assert positions(batcher.take(lambda _: 100, 0)) == list(range(8, 16))


def test_what_is_not_recorded_never_leaves() -> None:
    safe, unsafe = _Owner(), _Owner()
    unsafe.recording = False
    size = work(safe, 0, 4).nbytes
    batcher = Batcher(3 * size)
    assert batcher.offer(work(unsafe, 0, 4))
    assert batcher.offer(work(unsafe, 4, 4))
    evicted = [item for first in (8, 12, 16) for item in batcher.push(work(safe, first, 4))]
    assert positions(evicted) == list(range(8, 16))
    assert positions(batcher.take(lambda _: 100, 0)) == list(range(8))
    assert positions(batcher.take(lambda _: 100, 0)) == list(range(16, 20))
    assert batcher.nbytes == 0


def test_an_offer_beyond_the_capacity_is_declined_and_nothing_is_lost() -> None:
    owner = _Owner()
    batcher = Batcher(work(owner, 0, 4).nbytes)
    assert batcher.offer(work(owner, 0, 4))
    assert not batcher.offer(work(owner, 4, 4))
    assert positions(batcher.take(lambda _: 100, 0)) == [0, 1, 2, 3]
    assert batcher.offer(work(owner, 4, 4))


def test_live_work_goes_before_backlog() -> None:
    batcher, owner = Batcher(1 << 20), _Owner()
    assert batcher.push_backlog(work(owner, 0, 2), timeout_s=0)
    batcher.push(work(owner, 10, 2))
    assert positions(batcher.take(lambda _: 100, 0)) == [10, 11]
    assert positions(batcher.take(lambda _: 100, 0)) == [0, 1]


def test_the_backlog_waits_for_room() -> None:
    owner = _Owner()
    batcher = Batcher(work(owner, 0, 4).nbytes)
    assert batcher.push_backlog(work(owner, 0, 4), timeout_s=0)
    assert not batcher.push_backlog(work(owner, 4, 4), timeout_s=0)
    batcher.take(lambda _: 100, 0)
    assert batcher.push_backlog(work(owner, 4, 4), timeout_s=0)


def test_many_producers_lose_nothing() -> None:
    batcher, owner = Batcher(1 << 30), _Owner()

    def produce(begin: int) -> None:
        for first in range(begin, begin + 1000, 10):
            batcher.push(work(owner, first, 10))

    threads = [Thread(target=produce, args=(begin,)) for begin in range(0, 4000, 1000)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < 4000:
        seen.extend(positions(batcher.take(lambda _: 33, 5)))
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(4000))
