"""What stands between the network and the answers: hosts, tokens, sizes, headers."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from potnet.serve.metrics import Metrics
from potnet.serve.problems import MEDIA_TYPE, Problem, busy
from potnet.serve.reading import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
#: Paths that a browser loads before it can send a token; they hold nothing of the user's.
PUBLIC = ("/", "/health", "/static/")
# 3Dmol.js draws with WebGL and writes styles on its own elements; no script stands in the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; worker-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets in what comes from the user's own machine or carries the token, and no more of it.

    Args:
        app: What answers.
        hosts: Names by which this server may be called, without ports; loopback ones always are.
        token: Secret that requests carry in ``Authorization: Bearer``; none is needed if empty.
        limits: How much one request may ask for.
        metrics: Where requests are counted, by path.
        paths: Those that are counted by name; others are one.
    """

    def __init__(
        self,
        app: App,
        *,
        hosts: frozenset[str],
        token: str,
        limits: Limits,
        metrics: Metrics,
        paths: frozenset[str],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths
        self._held = 0
        self._hosts = hosts | LOOPBACK
        self._token = token
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over WebSocket
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        start = time.monotonic()
        status = 499  # what is noted of a client that left before it was answered

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                added = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            headers = _headers(scope)
            self._check(scope, headers)
            async with self._body(headers, receive) as again:
                await self._app(scope, again, sent)
        except Problem as problem:
            await refuse(problem, sent)
        finally:
            self._metrics.request(path, status, time.monotonic() - start)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        if scope["http_version"] not in ("1.0", "1.1"):
            raise Problem(
                HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The request must be HTTP/1.1. Mend it."
            )
        host = headers.get("host", "")
        if _name(host) not in self._hosts:
            # A page elsewhere whose name was made to point here (DNS rebinding) says its own name.
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST, "Host: must be a name of this server, got another."
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Problem(HTTPStatus.FORBIDDEN, "Origin: must be this server, got another page.")
        path = scope["path"]
        is_public = path in PUBLIC or path.startswith(PUBLIC[-1])
        if self._token and not is_public:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                raise Problem(
                    HTTPStatus.UNAUTHORIZED, "Authorization: must be Bearer and the token."
                )
        if "content-length" in headers and "transfer-encoding" in headers:
            # Two ends of one body: a proxy before this server could see another one.
            raise Problem(HTTPStatus.BAD_REQUEST, "Content-Length: must be absent with chunks.")
        if "content-encoding" in headers:
            # What is small here and large when it is unpacked is not unpacked.
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "Content-Encoding: must be absent. Send the text as it is.",
            )
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: must be application/json."
            )

    @asynccontextmanager
    async def _body(self, headers: dict[str, str], receive: Receive) -> AsyncIterator[Receive]:
        """Read the body up to the limits, and hold it until it is answered.

        Yields:
            What hands it on.
        """
        body = bytearray()
        whole: list[MutableMapping[str, Any]] = []

        async def again() -> MutableMapping[str, Any]:
            return whole.pop() if whole else await receive()

        try:
            try:
                async with asyncio.timeout(max(self._limits.seconds, 1.0)):
                    await self._read(headers, receive, body)
            except TimeoutError:
                raise Problem(
                    HTTPStatus.REQUEST_TIMEOUT, "The request must arrive in time. Send it again."
                ) from None
            whole.append({"type": "http.request", "body": bytes(body), "more_body": False})
            yield again
        finally:
            self._held -= len(body)

    async def _read(self, headers: dict[str, str], receive: Receive, body: bytearray) -> None:
        too_large = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The request must be at most {self._limits.body:,} bytes. Send fewer structures.",
        )
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > self._limits.body:
            raise too_large
        is_open = True
        while is_open:
            message = await receive()
            part = message.get("body", b"")
            body += part
            self._held += len(part)
            is_open = message["type"] == "http.request" and message.get("more_body", False)
            if len(body) > self._limits.body:
                raise too_large
            if self._held > self._limits.held:
                raise busy()


async def refuse(problem: Problem, send: Send) -> None:
    """Answer with a problem."""
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    status = problem.status.value
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body})


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name; those that come twice as one list, as HTTP reads them."""
    found: dict[str, str] = {}
    for key, value in scope["headers"]:
        name, text = key.decode("latin-1"), value.decode("latin-1")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found


def _name(host: str) -> str:
    """Return a ``Host`` header without its port; nothing if that is none."""
    found = re.fullmatch(r"(\[[^]]*\]|[^:]*)(:[0-9]{0,5})?", host, re.A)
    return found[1].lower() if found else ""
