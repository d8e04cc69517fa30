from __future__ import annotations

import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.polling import poll_until
from support.published_runs import SmallRun
from support.publishers import Connect, metric, new_publisher
from zeroloss.outputs import Publisher
from zeroloss.outputs.publisher import REPLIES_SNDHWM
from zeroloss.wire import (
    Gaps,
    Refusal,
    Request,
    decode,
    encode,
)
from zeroloss.wire.limits import MAX_HEADER_BYTES


def test_peers_that_ask_and_never_read_hold_a_bounded_number_of_answers(
    publisher: Publisher, connect: Connect
) -> None:
    labels = tuple(f"L{i}" for i in range(100))
    run = SmallRun.create((200, 200), labels)
    publisher.open(run)
    other = connect()
    other.snapshot()
    greedy = connect()
    asked = 60
    # Receives at most one answer into its own queue.
    greedy.asking.close(0)
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.setsockopt(zmq.RCVBUF, 4096)
    socket.connect(publisher.requests_endpoint)
    for ticket in range(asked):
        socket.send_multipart(encode(Request(op="snapshot", ticket=ticket)))
    while metric(publisher, "replies_dropped_total") < asked - 3 * REPLIES_SNDHWM:
        assert isinstance(other.gaps(), Gaps)
    socket.close(0)
    context.term()


def test_gaps_are_told_to_the_source(publisher: Publisher, connect: Connect) -> None:
    client = connect()
    run = SmallRun.create((10, 10))
    run.ledger.announce(100)
    run.ledger.receive(10, 20)
    publisher.open(run)
    client.snapshot()
    answer = client.gaps(run.start.run)
    assert answer == Gaps(
        run=run.start.run,
        ticket=answer.seq,
        t_ns=answer.t_ns,
        announced=100,
        ranges=((0, 10), (20, 100)),
        ended=False,
    )
    run.ended = True
    answer = client.gaps()
    assert isinstance(answer, Gaps)
    assert answer.ended


def test_more_gaps_than_a_reply_holds_are_told_in_parts(
    publisher: Publisher, connect: Connect
) -> None:
    client = connect()
    run = SmallRun.create((200, 100))
    for position in range(1, 10_001, 2):
        run.ledger.receive(position, position + 1)
    publisher.open(run)
    client.snapshot()
    answer = client.gaps()
    assert isinstance(answer, Gaps)
    assert not answer.complete
    assert len(answer.ranges) == 4096


def test_what_cannot_be_answered_is_refused_in_a_sentence(
    publisher: Publisher, connect: Connect
) -> None:
    client = connect()
    early = client.ask(Request(op="snapshot", ticket=1))
    assert isinstance(early, Refusal)
    assert (early.ticket, early.reason) == (1, "no run has been opened yet")
    run = SmallRun.create((2, 2))
    publisher.open(run)
    client.snapshot()
    unknown = client.ask(Request(op="snapshot", ticket=7, run=b"u" * 16))
    assert isinstance(unknown, Refusal)
    assert unknown.ticket == 7
    assert "not known here" in unknown.reason
    beyond = client.ask(Request(op="snapshot", ticket=8, first=4))
    assert isinstance(beyond, Refusal)
    assert beyond.reason == "pixel 4: the map has 4 pixels"
    client.asking.send_multipart(encode(run.start))
    foreign = decode(client.asking.recv_multipart())
    assert isinstance(foreign, Refusal)
    assert foreign.reason == "expected a request (ask), got 'run'"
    assert metric(publisher, "malformed_requests_total", fault="kind") == 1


def test_finished_runs_are_let_go_and_open_ones_kept(connect: Connect) -> None:
    publisher = new_publisher(keep_runs=2)
    publisher.start()
    client = connect(publisher)
    runs = [SmallRun.create((1, 1)) for _ in range(4)]
    for run in runs[1:]:
        run.close()
    for run in runs:
        publisher.open(run)
        client.snapshot()
        while (
            client.opened is None
            or client.opened.run != run.start.run
            or not (client.closed or run is runs[0])
        ):
            client.snapshot()
    kept = [isinstance(client.gaps(run.start.run), Gaps) for run in runs]
    assert kept == [True, False, False, True]
    publisher.close()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=40))
def test_random_requests_are_refused_and_counted(
    publisher: Publisher, connect: Connect, frames: list[bytes]
) -> None:
    client = connect()
    before = sum(
        sample.value
        for family in publisher.metrics.malformed_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )
    client.asking.send_multipart(frames)
    answer = decode(client.asking.recv_multipart())
    assert isinstance(answer, Refusal)
    after = sum(
        sample.value
        for family in publisher.metrics.malformed_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )
    assert after == before + 1
    client.close()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 400), st.integers(0, 255))
def test_a_request_with_one_changed_byte_is_answered_or_refused(
    publisher: Publisher, connect: Connect, position: int, value: int
) -> None:
    client = connect()
    topic, header = encode(Request(op="snapshot", ticket=5))
    changed = bytearray(header)
    changed[position % len(changed)] = value
    client.asking.send_multipart([topic, bytes(changed)])
    assert isinstance(decode(client.asking.recv_multipart()), Refusal)
    client.close()


def test_an_endless_request_is_cut_off(publisher: Publisher, connect: Connect) -> None:
    good, bad = connect(), connect()
    bad.asking.send_multipart([b"ask//", bytes(MAX_HEADER_BYTES + 1)])
    assert isinstance(good.gaps(), Refusal)
    # The transport drops the connection with the long message, and whatever was sent on it before
    # it notices; what is sent once it is back is read again.
    bad.asking.setsockopt(zmq.RCVTIMEO, 500)

    def answered() -> bool:
        try:
            return isinstance(bad.gaps(), Refusal)
        except zmq.Again:
            return False

    poll_until(answered, "the connection to be back")
    assert metric(publisher, "malformed_requests_total", fault="oversized") == 0
