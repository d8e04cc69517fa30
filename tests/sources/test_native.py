"""Messages come in as they were sent, and what would lose or leak them is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
import zmq

from support.recordings import frames, make_block, make_start, make_stream
from zeroloss.sources import NativeSource, Received, SourceError, native
from zeroloss.wire import WireError, decode, encode
from zeroloss.wire.limits import MAX_PARTS

ANY = "tcp://127.0.0.1:0"
WAIT_S = 20.0


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    with zmq.Context() as context:
        yield context


def push_to(context: zmq.Context, source: NativeSource) -> zmq.Socket:
    push = context.socket(zmq.PUSH)
    push.linger = 0
    push.connect(source.endpoint)
    return push


def receive(source: NativeSource) -> Received:
    received = source.receive(WAIT_S)
    assert received is not None
    return received


def test_what_is_pushed_comes_in_order_frame_by_frame(context: zmq.Context) -> None:
    stream = make_stream(make_start(), 20)
    with NativeSource(ANY) as source, push_to(context, source) as push:
        before = time.time_ns()
        for message in stream:
            push.send_multipart(encode(message))
        for message in stream:
            received = receive(source)
            assert [bytes(part) for part in received.parts] == frames(message)
            assert before <= received.received_ns <= time.time_ns()


def test_long_frames_come_whole_and_read_only(context: zmq.Context) -> None:
    long = os.urandom(3 << 20)
    with NativeSource(ANY) as source, push_to(context, source) as push:
        push.send_multipart([b"spec//", b"header", long])
        parts = receive(source).parts
    assert parts[:2] == [b"spec//", b"header"]
    assert isinstance(parts[0], bytes)
    view = memoryview(parts[2])
    assert view.readonly
    assert view == long  # still there although the source is closed


def test_nothing_within_the_time_is_none() -> None:
    with NativeSource(ANY) as source:
        begin = time.monotonic()
        assert source.receive(0.05) is None
        assert time.monotonic() - begin >= 0.04
        assert source.receive(0.0) is None


def test_subscribing_to_a_source_that_publishes(context: zmq.Context) -> None:
    start = make_start()
    with context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        publisher.bind(ANY)
        endpoint = publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        with NativeSource(endpoint, kind="sub", bind=False) as source:
            assert publisher.poll(1000 * WAIT_S)
            assert publisher.recv() == b"\x01"
            publisher.send_multipart(encode(start))
            assert decode(receive(source).parts) == start


def test_pulling_from_a_source_that_has_no_other_reader(context: zmq.Context) -> None:
    with context.socket(zmq.PUSH) as push:
        push.linger = 0
        push.bind(ANY)
        endpoint = push.getsockopt_string(zmq.LAST_ENDPOINT)
        with NativeSource(endpoint, bind=False, sole_consumer=True) as source:
            assert source.endpoint == endpoint
            push.send_multipart(frames(make_start()))
            receive(source)


def test_pulling_from_a_source_that_others_may_read_is_refused() -> None:
    with pytest.raises(SourceError, match=r"steals frames.*--sole-consumer"):
        NativeSource("tcp://127.0.0.1:9", bind=False)


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://192.0.2.1:5550"])
@pytest.mark.parametrize("bind", [True, False])
def test_endpoints_beyond_this_machine_are_refused(endpoint: str, bind: bool) -> None:
    with pytest.raises(SourceError, match=r"beyond this machine.*CURVE.*--allow-remote"):
        NativeSource(endpoint, kind="sub", bind=bind)


def test_endpoints_beyond_this_machine_can_be_allowed() -> None:
    with NativeSource("tcp://0.0.0.0:0", allow_remote=True) as source:
        assert source.endpoint.startswith("tcp://0.0.0.0:")


def test_localhost_is_this_machine() -> None:
    with NativeSource("tcp://localhost:0") as source:
        assert source.endpoint.startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize(
    "endpoint", ["", "5550", "tcp://127.0.0.1", "tcp://127.0.0.1:70000", "x:1"]
)
def test_what_is_no_endpoint_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(SourceError, match=r"expected an endpoint like tcp://127\.0\.0\.1:5550"):
        NativeSource(endpoint)


def test_an_unknown_kind_is_one_sentence() -> None:
    with pytest.raises(SourceError, match="expected 'pull' or 'sub'"):
        NativeSource(ANY, kind="rep")  # type: ignore[arg-type]


def test_a_port_already_taken_names_the_port_and_what_to_do() -> None:
    with NativeSource(ANY) as source:
        port = source.endpoint.rpartition(":")[2]
        with pytest.raises(SourceError, match=f"port {port} is already taken.*--source"):
            NativeSource(source.endpoint)


def test_more_frames_than_the_protocol_has_are_cut_and_the_next_message_is_whole(
    context: zmq.Context,
) -> None:
    start = make_start()
    with NativeSource(ANY) as source, push_to(context, source) as push:
        push.send_multipart([b"x"] * 500)
        push.send_multipart(encode(start))
        parts = receive(source).parts
        assert len(parts) == MAX_PARTS + 1
        with pytest.raises(WireError, match="the cap is"):
            decode(parts)
        assert decode(receive(source).parts) == start


def test_a_frame_beyond_the_cap_never_comes_in(
    context: zmq.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "MAX_BUFFER_BYTES", 1000)
    with (
        NativeSource(ANY) as source,
        push_to(context, source) as good,
        push_to(context, source) as bad,
    ):
        bad.send_multipart([b"a", bytes(1001)])
        good.send_multipart([b"b", bytes(1000)])
        assert receive(source).parts[0] == b"b"
        assert source.receive(0.1) is None


def test_a_source_waits_for_a_slow_daemon_and_nothing_is_lost(context: zmq.Context) -> None:
    block = bytes(1 << 20)
    with NativeSource(ANY) as source, context.socket(zmq.PUSH) as push:
        push.linger = 0
        push.sndhwm = 1
        push.connect(source.endpoint)
        sent = 0
        while sent < 100 and push.poll(300, zmq.POLLOUT):
            push.send_multipart([b"spec//", b"%d" % sent, block])
            sent += 1
        assert sent < 40, "megabytes hidden in buffers"
        numbers = [int(bytes(receive(source).parts[1])) for _ in range(sent)]
        assert numbers == list(range(sent))


def test_a_shared_context_outlives_the_source(context: zmq.Context) -> None:
    source = NativeSource("inproc://spectra", context=context)
    with context.socket(zmq.PUSH) as push:
        push.connect("inproc://spectra")
        push.send_multipart(encode(make_block(make_start(), 0)))
        receive(source)
    source.close()
    source.close()
    assert not context.closed
