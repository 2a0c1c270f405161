"""What stands between the network and the answers: hosts, tokens, sizes, headers, problems.

Everything refused is a problem as RFC 9457 describes them, with one sentence in ``detail``.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

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


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        body: Bytes of a request.
        structures: Crystals of a request.
        atoms: Atoms of a crystal.
        seconds: Until a request is given up.
        waiting: Requests that compute or wait for it; more are sent away.
    """

    body: int = 32 * 1024**2
    structures: int = 1000
    atoms: int = 1000
    seconds: float = 120.0
    waiting: int = 64


class Problem(Exception):
    """A request that is refused, with the status and the sentence that say why."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    @property
    def body(self) -> bytes:
        """The problem as JSON."""
        fields = {"type": "about:blank", "title": self.status.phrase, "status": self.status.value}
        return json.dumps(fields | {"detail": self.detail}).encode()


class Guard:
    """Lets in what comes from the user's own machine or carries the token, and no more of it.

    Args:
        app: What answers.
        hosts: Names by which this server may be called, without ports; loopback ones always are.
        token: Secret that requests carry in ``Authorization: Bearer``; none is needed if empty.
        limits: How much one request may ask for.
    """

    def __init__(self, app: App, *, hosts: frozenset[str], token: str, limits: Limits) -> None:
        self._app = app
        self._hosts = hosts | LOOPBACK
        self._token = token
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks over WebSocket
            return
        try:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            self._check(scope, headers)
            receive = await self._read(headers, receive)
        except Problem as problem:
            await refuse(problem, send)
            return
        await self._app(scope, receive, _with_headers(send))

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
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
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            raise Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Content-Type: must be application/json."
            )

    async def _read(self, headers: dict[str, str], receive: Receive) -> Receive:
        """Read the body up to the limit, and return what hands it on."""
        too_large = Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The request must be at most {self._limits.body:,} bytes. Send fewer structures.",
        )
        declared = headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > self._limits.body:
            raise too_large
        body = bytearray()
        is_open = True
        while is_open:
            message = await receive()
            body += message.get("body", b"")
            is_open = message["type"] == "http.request" and message.get("more_body", False)
            if len(body) > self._limits.body:
                raise too_large
        whole: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": bytes(body), "more_body": False}
        ]

        async def again() -> MutableMapping[str, Any]:
            return whole.pop() if whole else await receive()

        return again


async def refuse(problem: Problem, send: Send) -> None:
    """Answer with a problem."""
    headers = HEADERS | {"content-type": "application/problem+json"}
    await send(
        {
            "type": "http.response.start",
            "status": problem.status.value,
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": problem.body})


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            added = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sent


def _name(host: str) -> str:
    """Return a ``Host`` header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()
