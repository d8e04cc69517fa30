from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from zeroloss.outputs import EndpointError, HealthServer, Metrics
from zeroloss.outputs.health import MAX_CONNECTIONS

State = dict[str, object]


@pytest.fixture
def state() -> State:
    return {"status": "ok", "provider": "CPUExecutionProvider"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics, state: State) -> Iterator[HealthServer]:
    server = HealthServer("127.0.0.1", 0, metrics, lambda: state)
    yield server
    server.close()


def ask(
    server: HealthServer, path: str, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=10)) as connection:
        connection.request(method, path)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def test_health_is_json_and_200_while_all_is_well(server: HealthServer, state: State) -> None:
    status, headers, body = ask(server, "/health")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert json.loads(body) == state


@pytest.mark.parametrize("word", ["starting", "degraded", ""])
def test_anything_but_ok_is_503_and_says_why(server: HealthServer, state: State, word: str) -> None:
    state["status"] = word
    status, _, body = ask(server, "/health")
    assert status == 503
    assert json.loads(body)["status"] == word


def test_health_that_cannot_be_told_is_503(server: HealthServer, state: State) -> None:
    state["lag_s"] = float("nan")
    status, _, body = ask(server, "/health")
    assert status == 503
    assert json.loads(body)["status"] == "failed"
    del state["status"], state["lag_s"]
    status, _, body = ask(server, "/health")
    assert (status, json.loads(body)["reason"]) == (503, "KeyError('status')")


def test_metrics_are_what_prometheus_reads(server: HealthServer, metrics: Metrics) -> None:
    metrics.batch("elements", 128, {"wait": 0.002, "inference": 0.02})
    metrics.malformed_messages.labels("dtype").inc()
    metrics.queue_bytes.set(4096)
    metrics.recording("failed")
    metrics.build("zeroloss 1", "c" * 64)
    status, headers, body = ask(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["zeroloss_batches_total", "elements"] == 1
    assert samples["zeroloss_batch_spectra_sum",] == 128
    assert samples["zeroloss_stage_seconds_count", "inference"] == 1
    assert samples["zeroloss_malformed_messages_total", "dtype"] == 1
    assert samples["zeroloss_queue_bytes",] == 4096
    assert samples["zeroloss_recording", "failed"] == 1
    assert samples["zeroloss_recording", "recording"] == 0
    assert all(name[0].startswith("zeroloss_") for name in samples)


@pytest.mark.parametrize("path", ["/metrics", "/health"])
def test_head_tells_the_same_without_the_body(server: HealthServer, path: str) -> None:
    status, headers, body = ask(server, path, "HEAD")
    assert status == 200
    assert body == b""
    assert headers["Content-Type"]


@pytest.mark.parametrize("path", ["/", "/metrics/", "/health/x", "/favicon.ico", "/../etc/passwd"])
def test_other_paths_are_404(server: HealthServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_changed(server: HealthServer, method: str) -> None:
    assert ask(server, "/health", method)[0] == 405
    assert ask(server, "/metrics", method)[0] == 405


def test_requests_are_not_logged(server: HealthServer, capfd: pytest.CaptureFixture[str]) -> None:
    ask(server, "/health")
    ask(server, "/nothing")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("noise", [b"\r\n\r\n", b"\0\xff" * 40 + b"\r\n\r\n", b"GET\r\n\r\n"])
def test_noise_on_the_port_changes_nothing(
    server: HealthServer, noise: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(socket.create_connection((server.host, server.port), 10)) as peer:
        peer.sendall(noise)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(4096):
            pass
    assert ask(server, "/health")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_connections_are_bounded(server: HealthServer) -> None:
    silent = [socket.create_connection((server.host, server.port), 10) for _ in range(24)]
    try:
        closed = 0
        for peer in silent:
            peer.settimeout(3.0)
        # Those beyond the bound are closed at once; the others wait for a request.
        for peer in silent[MAX_CONNECTIONS:]:
            closed += peer.recv(1) == b""
        assert closed == len(silent) - MAX_CONNECTIONS
    finally:
        for peer in silent:
            peer.close()


def test_a_taken_port_is_one_sentence(server: HealthServer, metrics: Metrics) -> None:
    with pytest.raises(EndpointError, match=r"cannot bind 127\.0\.0\.1:\d+ .* another port"):
        HealthServer("127.0.0.1", server.port, metrics, dict)


def test_other_machines_are_kept_out_unless_allowed(metrics: Metrics) -> None:
    with pytest.raises(EndpointError, match="can be reached from other machines"):
        HealthServer("0.0.0.0", 0, metrics, dict)
    HealthServer("0.0.0.0", 0, metrics, dict, allow_remote=True).close()
