"""What is refused, as RFC 9457 describes it: a status, and one sentence in ``detail``."""

from __future__ import annotations

import json
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from potnet.errors import PotNetError
from potnet.text import printable

MEDIA_TYPE = "application/problem+json"


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


def unusable(detail: object) -> Problem:
    """Return the problem of a request that is well-formed and cannot be answered."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, printable(detail))


def too_long(seconds: float) -> Problem:
    """Return why a request was given up."""
    return Problem(
        HTTPStatus.GATEWAY_TIMEOUT,
        f"The answer took more than {seconds:g} s. Send less at a time.",
    )


def busy() -> Problem:
    """Return why a request is not even begun."""
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, "The server is busy. Try again later.")


def answer_problems(app: FastAPI) -> None:
    """Let every mistake be a problem with one sentence."""

    @app.exception_handler(Problem)
    async def refused(_: Request, problem: Problem) -> Response:
        return Response(problem.body, problem.status, media_type=MEDIA_TYPE)

    @app.exception_handler(PotNetError)
    async def mistaken(request: Request, error: PotNetError) -> Response:
        return await refused(request, unusable(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        detail = printable(f"{where}: {first['msg']}.", 500)
        return await refused(request, unusable(detail))

    @app.exception_handler(500)
    async def broken(request: Request, _: Exception) -> Response:
        detail = "The server broke over this request; its output says why. Report it."
        return await refused(request, Problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail))

    @app.exception_handler(HTTPException)
    async def absent(request: Request, error: HTTPException) -> Response:
        return await refused(request, Problem(HTTPStatus(error.status_code), f"{error.detail}."))
