"""HTTP: /metrics for Prometheus and /health for people and supervisors, read only."""

from __future__ import annotations

import json
import socketserver
import sys
from collections.abc import Callable, Iterable, Mapping
from threading import BoundedSemaphore, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from .endpoints import check_host
from .errors import EndpointError
from .metrics import Metrics

MAX_CONNECTIONS = 16
"""Connections served at a time; further ones are closed at once."""
IDLE_S = 5.0
"""A connection that says nothing for so long is closed."""

Health = Callable[[], Mapping[str, object]]
_StartResponse = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    timeout = IDLE_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
        """Requests are not logged: a scraper asks every few seconds."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 4 * MAX_CONNECTIONS
    # On Windows this flag would let two daemons share one port.
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, address: tuple[str, int]) -> None:
        self._slots = BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Without the name look-up of HTTPServer, which can hang on machines without DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that hangs up in the middle is no event."""


class HealthServer:
    """Serves `/metrics` and `/health` from a thread until `close`.

    `health` returns what `/health` shows as JSON; HTTP status 200 when its `status` is "ok", 503
    otherwise. Raises `EndpointError` when the port is taken or, unless `allow_remote`, when other
    machines could reach it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Metrics,
        health: Health,
        *,
        allow_remote: bool = False,
    ) -> None:
        check_host("health and metrics", host, allow_remote)
        self._metrics = make_wsgi_app(metrics.registry)
        self._health = health
        try:
            self._server = _Server((host, port))
        except OSError as error:
            raise EndpointError(
                f"health and metrics: cannot bind {host}:{port} ({error.strerror}); is another "
                "zeroloss running? Stop it or choose another port"
            ) from None
        self._server.set_app(self._answer)
        self.host = host
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._serve, name="zeroloss-health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and release the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def _answer(self, environ: dict[str, Any], start: _StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if method not in ("GET", "HEAD"):
            return _reply(start, "405 Method Not Allowed", "text/plain", b"GET or HEAD only\n")
        head = method == "HEAD"
        if path == "/metrics":
            environ = {**environ, "REQUEST_METHOD": "GET"}
            body = self._metrics(environ, start)
            return [] if head else body
        if path == "/health":
            status, text = self._state()
            return _reply(start, status, "application/json", text, head)
        return _reply(start, "404 Not Found", "text/plain", b"/health or /metrics\n", head)

    def _state(self) -> tuple[str, bytes]:
        try:
            state = self._health()
            text = json.dumps(state, indent=2, default=str, allow_nan=False)
            good = state["status"] == "ok"
        except Exception as error:  # noqa: BLE001 - whatever is wrong, /health must be able to say it
            good, text = False, json.dumps({"status": "failed", "reason": repr(error)})
        return "200 OK" if good else "503 Service Unavailable", text.encode() + b"\n"


def _reply(
    start: _StartResponse, status: str, kind: str, body: bytes, head: bool = False
) -> list[bytes]:
    start(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [] if head else [body]
