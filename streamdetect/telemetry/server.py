"""Metrics and health over HTTP: ``/metrics``, ``/live``, ``/ready``, and nothing else.

Runs on a thread of its own, so that a busy event loop still answers; loopback unless told otherwise. ``/live`` answers
as long as the process does; ``/ready`` asks the callback it was given, which must be quick and thread-safe.
"""

import socket
import socketserver
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from prometheus_client import CONTENT_TYPE_LATEST

from streamdetect.errors import SettingsError
from streamdetect.telemetry.catalogue import Metrics

PLAIN: Final = "text/plain; charset=utf-8"
REQUEST_TIMEOUT_S: Final = 5.0
STOP_POLL_S: Final = 0.05


class TelemetryServer:
    """``with TelemetryServer(metrics, ready=...) as server: print(server.url)``.

    ``port`` 0, or one that is taken, becomes any free one; ``url`` says which. Raises ``SettingsError`` when ``host``
    is not an address of this machine.
    """

    def __init__(
        self, metrics: Metrics, *, ready: Callable[[], bool], host: str = "127.0.0.1", port: int = 9464
    ) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "ready": staticmethod(ready)})
        self._server = _bind(host, port, handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_POLL_S,), name="telemetry", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where the server answers."""
        host = str(self._server.server_address[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the name service for our own name, as the stock server would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    ready: Callable[[], bool]
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, self.metrics.page(), CONTENT_TYPE_LATEST)
        elif path == "/live":
            self._answer(HTTPStatus.OK, b"live\n")
        elif path == "/ready":
            is_ready = self.ready()
            status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
            self._answer(status, b"ready\n" if is_ready else b"not ready\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"/metrics /live /ready\n")

    def log_message(self, *_: Any) -> None:
        """Scrapes are not news."""

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = PLAIN) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _bind(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
    for candidate in (port, 0):
        try:
            return (_Server6 if ":" in host else _Server)((host, candidate), handler)
        except OSError as error:
            reason = error
    raise SettingsError(f"STREAMDETECT_METRICS_HOST: cannot listen on {host}: {reason.strerror or reason}")
