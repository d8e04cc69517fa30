"""The stream sender against a real receiver: timing, faults, restarts, repair."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import zmq

from support.live import Receiver, make_run_start
from support.polling import poll_until
from zeroloss_clients.microscope import (
    FaultError,
    FaultPlan,
    Readout,
    SenderState,
    SourceAbortedError,
    StreamSender,
)

SHAPE = (10, 100)
TOTAL = 1000


def spectra(begin, end):
    """Counts that tell their own position."""
    return np.repeat(np.arange(begin, end, dtype=np.uint32)[:, None], 8, axis=1)


def reread(begin, end):
    yield begin, Readout({"core": spectra(begin, end)})


def send_all(sender, begin=0, end=TOTAL, block=20):
    for first in range(begin, end, block):
        sender.send(first, {"core": spectra(first, min(end, first + block))})


def assert_all_kept(receiver, total=TOTAL):
    assert sorted(receiver.kept) == list(range(total))
    assert all((counts == position).all() for position, counts in receiver.kept.items())


def test_a_run_arrives_whole_and_is_confirmed():
    with Receiver() as receiver:
        start = make_run_start(SHAPE)
        sender = StreamSender(start, receiver.endpoint, requests=receiver.requests, reread=reread)
        send_all(sender)
        report = sender.finish()
        assert report.complete is True
        assert (report.spectra, report.repaired) == (TOTAL, 0)
        assert_all_kept(receiver)
        assert receiver.ends[0].spectra == TOTAL
        assert receiver.ends[0].seq == TOTAL // 20 + 1
        assert receiver.run.start == start


def test_without_a_daemon_it_waits_and_says_so_then_goes_on():
    with Receiver() as gone:
        endpoint = gone.endpoint
    states = []
    sender = StreamSender(make_run_start(SHAPE), endpoint, requests=None, on_state=states.append)
    pusher = threading.Thread(target=send_all, args=(sender,))
    pusher.start()
    poll_until(lambda: SenderState.WAITING in [*states, sender.state])
    assert pusher.is_alive()
    with Receiver(endpoint) as receiver:
        pusher.join()
        assert sender.finish().complete is None
        poll_until(lambda: len(receiver.kept) == TOTAL)
        assert_all_kept(receiver)


def test_closing_a_sender_that_waits_for_its_daemon_does_not_hang():
    with Receiver() as gone:
        endpoint = gone.endpoint
    with StreamSender(make_run_start(SHAPE), endpoint) as sender:
        sender.send(0, {"core": spectra(0, 10)})
    with pytest.raises(SourceAbortedError, match="stopped"):
        send_all(sender)


def test_heartbeats_and_run_starts_go_on_when_nothing_happens(monkeypatch):
    monkeypatch.setattr("zeroloss_clients.microscope.sender.START_EVERY_S", 0.4)
    monkeypatch.setattr("zeroloss_clients.microscope.sender.HEARTBEAT_EVERY_S", 0.1)
    with (
        Receiver() as receiver,
        StreamSender(make_run_start(SHAPE), receiver.endpoint, requests=None) as sender,
    ):
        sender.send(0, {"core": spectra(0, 7)})
        poll_until(lambda: len(receiver.beats) >= 3 and receiver.starts >= 2)
        assert receiver.beats[-1].spectra == 7
        assert receiver.beats[-1].seq == 1


@pytest.mark.parametrize("fault", ["drop=0.2", "reorder=0.3", "duplicate=0.3", "corrupt=0.2"])
def test_faults_on_the_way_are_repaired(fault):
    with Receiver() as receiver:
        sender = StreamSender(
            make_run_start(SHAPE),
            receiver.endpoint,
            requests=receiver.requests,
            reread=reread,
            faults=FaultPlan.parse([fault], seed=3),
        )
        send_all(sender)
        report = sender.finish()
        assert report.complete is True
        assert_all_kept(receiver)
        assert (receiver.malformed > 0) == fault.startswith("corrupt")
        if fault.startswith("drop"):
            assert report.repaired > 0
        if fault.startswith("duplicate"):
            assert receiver.run.totals().duplicates > 0


def test_a_daemon_that_is_killed_and_comes_back_empty_gets_everything():
    states = []
    with Receiver() as receiver:
        sender = StreamSender(
            make_run_start(SHAPE),
            receiver.endpoint,
            requests=receiver.requests,
            reread=reread,
            on_state=states.append,
        )
        send_all(sender, 0, 500)
        poll_until(lambda: len(receiver.kept) > 200)
    poll_until(lambda: sender.state is SenderState.WAITING)
    with Receiver(receiver.endpoint, receiver.requests) as again:
        # In the middle of the run: what the first one had is sent to the second.
        poll_until(lambda: len(again.kept) == 500)
        assert SenderState.REPAIRING in states
        send_all(sender, 500, TOTAL)
        assert sender.finish().complete is True
        assert_all_kept(again)


def test_a_daemon_that_is_killed_after_the_run_end_is_waited_for():
    with Receiver() as receiver:
        plan = FaultPlan.parse(["drop=0.3"], seed=1)
        sender = StreamSender(
            make_run_start(SHAPE),
            receiver.endpoint,
            requests=receiver.requests,
            reread=reread,
            faults=plan,
        )
        send_all(sender)
        poll_until(lambda: receiver.run is not None and sender.report.spectra == TOTAL)
    run = receiver.run
    reports = []
    finisher = threading.Thread(target=lambda: reports.append(sender.finish()))
    finisher.start()
    with Receiver(receiver.endpoint, receiver.requests, run=run) as again:
        finisher.join()
        assert reports[0].complete is True
        assert sorted({*receiver.kept, *again.kept}) == list(range(TOTAL))
        assert run.totals().missed == 0
        assert run.ended


def test_it_gives_up_on_a_daemon_that_never_comes_back():
    with Receiver() as receiver:
        sender = StreamSender(
            make_run_start(SHAPE), receiver.endpoint, requests=receiver.requests, reread=reread
        )
        send_all(sender)
        poll_until(lambda: len(receiver.kept) == TOTAL)
    report = sender.finish(patience_s=0.5)
    assert report.complete is False
    assert "not confirmed" in report.reason


def test_a_receiver_that_never_answers_leaves_the_question_open(monkeypatch):
    monkeypatch.setattr("zeroloss_clients.microscope.sender.UNANSWERED_S", 0.4)
    with Receiver() as gone:
        nobody = gone.requests
    with Receiver() as receiver:
        sender = StreamSender(
            make_run_start(SHAPE), receiver.endpoint, requests=nobody, reread=reread
        )
        send_all(sender)
        report = sender.finish()
        assert report.complete is None
        assert f"nobody answers at {nobody}" in report.reason
        poll_until(lambda: len(receiver.kept) == TOTAL)
        assert_all_kept(receiver)


def test_what_the_source_no_longer_has_is_told():
    def half(begin, end):
        if begin < 500:
            yield from reread(begin, min(end, 500))

    with Receiver() as receiver:
        sender = StreamSender(
            make_run_start(SHAPE),
            receiver.endpoint,
            requests=receiver.requests,
            reread=half,
            faults=FaultPlan.parse(["drop=0.3"], seed=5),
        )
        send_all(sender)
        report = sender.finish()
        assert report.complete is True
        assert report.lost == sum(end - begin for begin, end in receiver.run.gaps()) > 0
        assert min(begin for begin, _ in receiver.run.gaps()) >= 500


def test_an_aborted_source_is_gone_without_an_end():
    with Receiver() as receiver:
        sender = StreamSender(
            make_run_start(SHAPE),
            receiver.endpoint,
            requests=receiver.requests,
            reread=reread,
            faults=FaultPlan.parse(["abort=10"]),
        )
        with pytest.raises(SourceAbortedError, match="vanished after 10 messages"):
            send_all(sender)
        report = sender.finish()
        assert report.complete is None
        assert report.messages <= 10
        assert not receiver.ends


def test_a_publishing_source_reaches_a_subscriber():
    start = make_run_start(SHAPE)
    sender = StreamSender(start, "tcp://127.0.0.1:*", requests=None, pattern="pub", bind=True)
    pusher = threading.Thread(target=send_all, args=(sender,))
    pusher.start()
    socket = zmq.Context.instance().socket(zmq.SUB)
    try:
        socket.subscribe(b"")
        socket.connect(sender.endpoint)
        kinds = []
        while "end" not in kinds:
            assert socket.poll(20_000)
            kinds.append(socket.recv_multipart()[0].split(b"/")[0].decode())
            if len(kinds) == 10:
                pusher.join()
                finisher = threading.Thread(target=sender.finish)
                finisher.start()
        finisher.join()
        assert kinds[0] == "run"
        assert kinds.count("spec") == TOTAL // 20
    finally:
        socket.close(0)


def test_an_endpoint_that_is_taken_or_senseless_is_one_sentence():
    with (
        StreamSender(
            make_run_start(SHAPE), "tcp://127.0.0.1:*", requests=None, bind=True
        ) as sender,
        pytest.raises(OSError, match=f"cannot listen at {sender.endpoint}"),
    ):
        StreamSender(make_run_start(SHAPE), sender.endpoint, requests=None, bind=True)
    with pytest.raises(OSError, match="cannot connect at nowhere"):
        StreamSender(make_run_start(SHAPE), "nowhere")


@pytest.mark.parametrize(
    "text", ["drop=2", "drop=x", "melt=1", "stall=-1@3", "abort=-1", "endless=1"]
)
def test_a_senseless_fault_is_refused(text):
    with pytest.raises(FaultError, match="expected one of"):
        FaultPlan.parse([text])
