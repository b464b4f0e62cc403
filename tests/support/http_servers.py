"""A real HTTP server on loopback, whose answers a test chooses."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs


@attrs.frozen
class Answer:
    """An answer to a request: a status, a body (bytes as they are, else JSON), and headers."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = attrs.field(factory=dict)


@attrs.define
class HttpServer:
    """Answers each GET with `answer(path)`, and notes the requests; to be used with ``with``."""

    answer: Callable[[str], Answer] = lambda path: Answer()
    requests: list[BaseHTTPRequestHandler] = attrs.field(factory=list)
    # Set at the end of the test, so that an answer that never comes ends its thread.
    closing: threading.Event = attrs.field(factory=threading.Event)
    _server: ThreadingHTTPServer = attrs.field(init=False)
    _thread: threading.Thread = attrs.field(init=False)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def hang(self, path):
        """Answer only when the test is over."""
        self.closing.wait()
        return Answer()

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.requests.append(self)
                answer = server.answer(self.path)
                body = answer.body
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def handle(self):
                with contextlib.suppress(ConnectionError):  # the client may be gone
                    super().handle()

            def log_message(self, *_):
                pass

        return Handler
