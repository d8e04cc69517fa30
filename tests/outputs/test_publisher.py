from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from support.polling import poll_until
from support.published_runs import SmallRun
from support.publishers import Connect, assert_same, metric, new_publisher
from zeroloss.outputs import Publisher
from zeroloss.outputs.live import PAGE_BYTES, UPDATE_BYTES
from zeroloss.scan import Coverage
from zeroloss.wire import (
    Heartbeat,
    LedgerUpdate,
    MapClose,
    MapOpen,
    MapUpdate,
    Refusal,
    Request,
    Snapshot,
)

HALF_S = 30.0


def write_all(run: SmallRun, begun: threading.Event, rows: int = 1) -> threading.Thread:
    """Fill the map from a thread; `begun` is set half-way."""
    step = run.store.shape[1] * rows

    def write() -> None:
        rng = np.random.default_rng(3)
        for begin in range(0, run.store.pixels, step):
            run.fill(begin, min(begin + step, run.store.pixels), rng)
            if begin >= run.store.pixels // 2:
                begun.set()
        run.close()

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_a_run_is_opened_updated_told_and_closed(publisher: Publisher, connect: Connect) -> None:
    client = connect()
    assert isinstance(client.next_message(), Heartbeat)
    run = SmallRun.create((4, 5))
    run.fill(0, 20, np.random.default_rng(1))
    run.close()
    publisher.open(run)
    messages: list[Any] = []
    while not messages or not isinstance(messages[-1], MapClose):
        message = client.next_message()
        if not isinstance(message, Heartbeat):
            messages.append(message)
    opened, update, told, closed = messages
    assert isinstance(opened, MapOpen)
    assert (opened.start, opened.packages) == (run.start, run.packages)
    assert (opened.software, opened.config_sha256) == ("test", "c" * 64)
    assert isinstance(update, MapUpdate)
    assert update.pixels.tolist() == list(range(20))
    assert (update.coverage == Coverage.DONE).all()
    assert isinstance(told, LedgerUpdate)
    assert told.totals.processed == 20
    assert isinstance(closed, MapClose)
    assert closed.totals == run.totals()
    assert closed.detected == run.store.detected()
    assert [message.seq for message in messages] == [1, 2, 3, 4]
    assert {message.daemon for message in messages} == {publisher.daemon}


def test_a_finished_map_is_published_to_its_end_before_the_publisher_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zeroloss.outputs.live.UPDATE_BYTES", 500)
    publisher = new_publisher(rate_hz=1.0)
    run = SmallRun.create((40, 40))
    run.fill(0, 1600, np.random.default_rng(1))
    run.close()
    publisher.open(run)
    publisher.start()
    publisher.close()
    assert publisher.failure is None
    assert metric(publisher, "published_messages_total", kind=MapClose.KIND) == 1
    assert run.store.take_dirty(1) is None


@pytest.mark.parametrize("at_once", [False, True])
def test_a_late_joiner_has_the_whole_map(
    publisher: Publisher, connect: Connect, at_once: bool
) -> None:
    run = SmallRun.create((200, 100))
    publisher.open(run)
    half = threading.Event()
    writer = write_all(run, half)
    assert at_once or half.wait(HALF_S)
    client = connect()
    client.follow()
    writer.join()
    assert_same(client, run)
    assert client.closed is not None
    assert client.closed.totals.processed == 20_000


def test_who_joins_half_way_has_all_there_is(publisher: Publisher, connect: Connect) -> None:
    run = SmallRun.create((128, 128), tuple(f"L{i}" for i in range(80)))
    publisher.open(run)
    half = threading.Event()
    writer = write_all(run, half)
    assert half.wait(HALF_S)
    client = connect()
    client.snapshot()
    writer.join()
    assert np.count_nonzero(client.coverage) >= client.coverage.size // 2


def test_who_joins_after_the_end_has_it_from_the_snapshot(
    publisher: Publisher, connect: Connect
) -> None:
    run = SmallRun.create((10, 10))
    run.fill(0, 100, np.random.default_rng(1))
    run.close()
    publisher.open(run)
    first = connect()
    first.follow()
    late = connect()
    late.snapshot()
    assert_same(late, run)
    assert late.closed == first.closed


def test_two_subscribers_end_with_the_same_map(publisher: Publisher, connect: Connect) -> None:
    run = SmallRun.create((100, 100))
    publisher.open(run)
    half = threading.Event()
    early, late = connect(), connect()
    early.snapshot()
    writer = write_all(run, half)
    assert half.wait(HALF_S)
    late.follow()
    early.follow()
    writer.join()
    assert_same(early, run)
    assert_same(late, run)


def test_updates_carry_only_what_changed_and_are_split(
    publisher: Publisher, connect: Connect
) -> None:
    labels = tuple(f"L{i}" for i in range(64))
    run = SmallRun.create((256, 256), labels)
    client = connect()
    # From here on it hears everything.
    assert isinstance(client.next_message(), Heartbeat)
    publisher.open(run)
    client.snapshot()
    rng = np.random.default_rng(1)
    run.fill(0, run.store.pixels, rng)
    seen = np.zeros(run.store.pixels, int)
    while not seen.all():
        message = client.step()
        if isinstance(message, MapUpdate):
            assert sum(item.nbytes for item in message.values.values()) <= UPDATE_BYTES
            seen[message.pixels] += 1
    run.fill(17, 18, rng)
    run.close()
    while client.closed is None:
        message = client.step()
        if isinstance(message, MapUpdate):
            seen[message.pixels] += 1
    assert client.snapshots == 1
    assert np.flatnonzero(seen == 2).tolist() == [17]
    assert (np.delete(seen, 17) == 1).all()
    assert_same(client, run)
    page = client.ask(Request(op="snapshot", ticket=1))
    assert isinstance(page, Snapshot)
    assert 1 < len(page.coverage) < run.store.pixels
    assert sum(item.nbytes for item in page.values.values()) <= PAGE_BYTES


class DrivenClock:
    """The time of a publisher: it stands still until it is moved on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return int(self.now * 1e9)


def test_at_most_rate_hz_updates(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DrivenClock()
    monkeypatch.setattr("zeroloss.outputs.publisher.time", clock)
    slow = new_publisher(rate_hz=5.0)
    run = SmallRun.create((300, 10))
    slow.open(run)
    slow.start()
    client = connect(slow)

    def published(message: type[MapUpdate | LedgerUpdate]) -> float:
        return metric(slow, "published_messages_total", kind=message.KIND)

    poll_until(lambda: published(LedgerUpdate) == 1, "the first turn")
    rng = np.random.default_rng(1)
    for count in range(1, 6):
        run.fill(count, count + 1, rng)
        clock.now += 0.199
        # The second answer is of a later turn: what the first one's had to publish is out.
        client.gaps()
        client.gaps()
        assert published(MapUpdate) == count - 1
        clock.now += 0.002
        poll_until(lambda count=count: published(MapUpdate) == count, "the update that is due")
    slow.close()


def test_a_slow_subscriber_misses_messages_but_no_content(connect: Connect) -> None:
    fast = new_publisher(rate_hz=200.0)
    fast.start()
    labels = tuple(f"L{i}" for i in range(64))
    run = SmallRun.create((64, 256), labels)
    slow, quick = connect(fast, rcvhwm=2), connect(fast)
    fast.open(run)
    slow.snapshot()
    quick.snapshot()
    rng = np.random.default_rng(1)
    # The slow one reads nothing while the other is fed far more than any queue in between holds.
    for _ in range(120):
        run.fill(0, 4096, rng)
        before = quick.updates
        while quick.updates == before:
            quick.step()
    run.close()
    quick.follow()
    slow.follow()
    fast.close()
    assert slow.snapshots > 1
    assert_same(slow, run)
    assert_same(quick, run)


def test_heartbeats_come_all_the_time(publisher: Publisher, connect: Connect) -> None:
    client = connect()
    idle = [client.next_message() for _ in range(4)]
    assert all(isinstance(message, Heartbeat) for message in idle)
    assert {message.run for message in idle} == {bytes(16)}
    assert {message.seq for message in idle} == {0}
    run = SmallRun.create((2, 2))
    publisher.open(run)
    while True:
        message = client.next_message()
        if isinstance(message, Heartbeat) and message.run == run.start.run:
            break
    assert message.seq >= 1


def test_a_new_daemon_has_a_new_identity(publisher: Publisher) -> None:
    other = new_publisher()
    assert other.daemon != publisher.daemon
    other.close()


def test_a_subscriber_survives_a_restart_on_the_same_ports(connect: Connect) -> None:
    before = new_publisher()
    before.start()
    run = SmallRun.create((10, 10))
    run.fill(0, 50, np.random.default_rng(1))
    before.open(run)
    client = connect(before)
    client.snapshot()
    assert client.opened is not None
    identity = client.opened.daemon
    maps, requests = before.maps_endpoint, before.requests_endpoint
    before.close()

    after = Publisher(maps=maps, requests=requests, software="test", config_sha256="")
    after.start()
    again = SmallRun(run.start, run.packages, SmallRun.create((10, 10)).store)
    again.fill(0, 100, np.random.default_rng(2))
    after.open(again)
    again.close()
    while client.opened.daemon == identity:
        client.step()
    assert client.opened.daemon == after.daemon
    while client.closed is None:
        client.step()
    assert_same(client, again)
    after.close()


def test_what_is_written_before_close_is_published(connect: Connect) -> None:
    publisher = new_publisher(rate_hz=1.0)
    publisher.start()
    client = connect(publisher)
    assert isinstance(client.next_message(), Heartbeat)
    run = SmallRun.create((3, 3))
    run.fill(0, 9, np.random.default_rng(1))
    run.close()
    publisher.open(run)
    publisher.close()
    kinds: list[str] = []
    while "close" not in kinds:
        kinds.append(client.next_message().KIND)
    assert [kind for kind in kinds if kind != "hb"] == ["open", "map", "loss", "close"]


def test_traffic_is_counted(publisher: Publisher, connect: Connect) -> None:
    client = connect()
    run = SmallRun.create((10, 10))
    run.fill(0, 90, np.random.default_rng(1))
    run.close()
    publisher.open(run)
    client.follow()
    # Its answer comes after everything before was counted.
    client.gaps()
    assert metric(publisher, "published_messages_total", kind="close") == 1
    assert metric(publisher, "published_bytes_total", kind="map") > 90 * 8 * 4
    assert metric(publisher, "replies_total", kind="snap") >= 1
    assert metric(publisher, "reply_bytes_total", kind="snap") > 100 * 8 * 4


def test_a_run_that_breaks_is_told_not_hidden() -> None:
    publisher = new_publisher()
    publisher.start()
    run = SmallRun.create((1, 1))
    run.packages = (replace(run.packages[0], outputs=None),)  # type: ignore[arg-type]
    publisher.open(run)
    poll_until(lambda: publisher.failure is not None, "the failure")
    assert publisher.failure is not None
    assert "the publisher stopped" in publisher.failure
    publisher.close()


def test_a_closed_publisher_has_released_its_ports(connect: Connect) -> None:
    for _ in range(20):
        one = new_publisher()
        one.start()
        assert isinstance(connect(one).gaps(), Refusal)
        one.close()
        one.close()
        again = Publisher(
            maps=one.maps_endpoint,
            requests=one.requests_endpoint,
            software="test",
            config_sha256="",
        )
        again.close()
