"""A web server on this machine that can fail in every way a server can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer:
    """One answer of a server.

    Attributes:
        status: The status.
        body: The bytes that are announced.
        headers: More headers; one that is None is left out.
        cut: Bytes of the body after which the connection breaks.
        pause: Seconds before each 100 bytes.
        ranges: Whether a Range is kept to.
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: dict[str, str | None] | None = None,
        cut: int | None = None,
        pause: float = 0.0,
        ranges: bool = True,
    ) -> None:
        self.status, self.body, self.headers = status, body, headers or {}
        self.cut, self.pause, self.ranges = cut, pause, ranges


class Server(ThreadingHTTPServer):
    """Gives the answers of a script one after the other; the last one for ever."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: list[Answer | Callable[[Server], Answer]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.requests: list[dict[str, str]] = []
        self.open_at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""

    def next(self, headers: dict[str, str]) -> Answer:
        with self.lock:
            self.requests.append(headers)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(self) if callable(answer) else answer


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of tests clean."""

    def do_GET(self) -> None:
        answer = self.server.next({"path": self.path, **dict(self.headers)})
        body, status, headers = answer.body, answer.status, dict(answer.headers)
        span = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, headers.get("ETag"))
        if span and answer.ranges and status == 200 and same:
            first = int(span.removeprefix("bytes=").partition("-")[0])
            if first >= len(body):
                status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
            else:
                status = 206
                headers.setdefault("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
                body = body[first:]
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "Connection": "close", **headers}
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        sent = body if answer.cut is None else body[: answer.cut]
        step = 100 if answer.pause else max(1, len(sent))
        for start in range(0, len(sent), step):
            time.sleep(answer.pause)
            self.wfile.write(sent[start : start + step])
            self.wfile.flush()


@contextmanager
def serving(*answers: Answer | Callable[[Server], Answer]) -> Iterator[Server]:
    """Run a server with a script of answers."""
    server = Server(list(answers))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
