"""Requests for spectra are answered beside the publishing, in order, and refused when too many."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import numpy as np
import pytest
import zmq

from support.published_runs import SmallRun
from support.publishers import Connect, metric
from zeroloss.outputs import Publisher
from zeroloss.outputs.answers import MAX_WAITING
from zeroloss.wire import Gaps, Refusal, Request, Spectra, decode, encode


class SlowRun(SmallRun):
    """A run whose spectra take until `gate` is open."""

    gate: Event
    begun: Event

    def spectra(self, request: Request) -> Spectra | Refusal:
        self.begun.set()
        assert self.gate.wait(20)
        return super().spectra(request)


@pytest.fixture
def slow(publisher: Publisher, connect: Connect) -> Iterator[SlowRun]:
    small = SlowRun.create((4, 5))
    assert isinstance(small, SlowRun)
    small.gate, small.begun = Event(), Event()
    small.fill(0, 15, np.random.default_rng(1))
    publisher.open(small)
    connect().snapshot()
    yield small
    small.gate.set()


def asked(ticket: int, run: SmallRun | None = None) -> Request:
    return Request(op="spectrum", ticket=ticket, run=run and run.start.run, rows=(2, 4))


def test_the_sum_of_a_region(publisher: Publisher, connect: Connect, slow: SlowRun) -> None:
    slow.gate.set()
    client = connect()
    answer = client.ask(asked(3))
    assert isinstance(answer, Spectra)
    assert (answer.ticket, answer.pixels, answer.spectra, answer.empty) == (3, 10, 5, 5)
    expected = np.arange(10, 15).sum() + 5.0 * np.arange(64)
    np.testing.assert_array_equal(answer.arrays["raw/core"], expected)
    assert answer.infos[0].axis_ev == (100.0, 1.0)
    # Its answer comes after everything before was counted.
    client.gaps()
    assert metric(publisher, "replies_total", kind="spectra") == 1
    assert metric(publisher, "stage_seconds_count", stage="spectra") == 1


def test_other_requests_are_answered_meanwhile_and_too_many_are_refused(
    publisher: Publisher, connect: Connect, slow: SlowRun
) -> None:
    other = connect()
    clients = [connect() for _ in range(MAX_WAITING + 2)]
    poller = zmq.Poller()
    for client in clients:
        poller.register(client.asking, zmq.POLLIN)
        client.asking.send_multipart(encode(asked(1)))
        # One is at work; all but one of the others find room to wait.
        assert slow.begun.wait(20)
    assert isinstance(other.gaps(), Gaps)
    ((refused, _),) = poller.poll(20_000)
    busy = decode(refused.recv_multipart())
    assert isinstance(busy, Refusal)
    assert "busy" in busy.reason
    slow.gate.set()
    for client in clients:
        if client.asking is not refused:
            assert isinstance(decode(client.asking.recv_multipart()), Spectra)


def test_whatever_goes_wrong_is_a_refusal(publisher: Publisher, connect: Connect) -> None:
    class BrokenRun(SmallRun):
        def spectra(self, request: Request) -> Spectra | Refusal:
            raise KeyError("something nobody thought of")

    publisher.open(BrokenRun.create((1, 1)))
    client = connect()
    client.snapshot()
    answer = client.ask(asked(1))
    assert isinstance(answer, Refusal)
    assert answer.reason == "the spectra could not be worked out: KeyError"


def test_a_peer_that_went_away_costs_nothing(
    publisher: Publisher, connect: Connect, slow: SlowRun
) -> None:
    context = zmq.Context()
    gone = context.socket(zmq.DEALER)
    gone.connect(publisher.requests_endpoint)
    gone.send_multipart(encode(asked(1)))
    client = connect()
    client.asking.send_multipart(encode(asked(2)))
    assert isinstance(connect().gaps(), Gaps)
    gone.close(0)
    context.term()
    slow.gate.set()
    answer = decode(client.asking.recv_multipart())
    assert isinstance(answer, Spectra)


def test_closing_does_not_wait_for_requests_that_wait(
    publisher: Publisher, connect: Connect, slow: SlowRun
) -> None:
    client = connect()
    for ticket in range(4):
        client.asking.send_multipart(encode(asked(ticket)))
    assert isinstance(connect().gaps(), Gaps)
    slow.gate.set()
    publisher.close()
    assert publisher.failure is None
