"""The server: REST for programs, and the page that uses it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from potnet.errors import PotNetError
from potnet.serve.answers import Answers, examples, too_long
from potnet.serve.safety import Guard, Limits, Problem
from potnet.text import printable

STATIC = Path(__file__).parent / "static"
NDJSON = "application/x-ndjson"
POSCAR = "NaCl\n1.0\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"

T = TypeVar("T")


class Text(BaseModel, extra="forbid"):
    """A file with structures, as text."""

    name: str = Field("", max_length=500, description="Its name; the suffix says the format.")
    content: str = Field(description="CIF, POSCAR, extxyz, XSF or JSON.")


class Structures(BaseModel, extra="forbid"):
    """Structures to look at."""

    structures: list[Text] = Field(
        min_length=1, examples=[[{"name": "salt.vasp", "content": POSCAR}]]
    )


class Sums(Text):
    """A structure and the potentials to be summed."""

    potentials: list[str] = Field(["coulomb", "london", "pauli"], min_length=1, max_length=20)
    tolerance: Annotated[float, Field(gt=0)] = 1e-8


def make_app(
    *, hosts: frozenset[str] = frozenset(), token: str = "", limits: Limits | None = None
) -> Guard:
    """Return the server as an ASGI application.

    Args:
        hosts: Names, beside the loopback ones, by which it may be called.
        token: Secret that requests must carry; none if it is empty.
        limits: How much one request may ask for.
    """
    limits = limits or Limits()
    answers = Answers(limits)
    counts: Counter[str] = Counter()
    app = FastAPI(
        title="potnet",
        version=version("potnet"),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        lifespan=_warmed(answers),
    )
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _answer_problems(app)

    async def computed(call: Callable[[], T]) -> T:
        """Run ``call`` in a thread, within the limits of time and of the queue."""
        if counts["waiting"] >= limits.waiting:
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "The server is busy. Try again later.")
        counts["waiting"] += 1
        try:
            return await asyncio.wait_for(asyncio.to_thread(call), limits.seconds)
        except TimeoutError:
            raise too_long(limits) from None
        finally:
            counts["waiting"] -= 1

    async def answered(request: Request, call: Callable[[], Iterator[dict[str, Any]]]) -> Response:
        """Return the records of ``call``, one a line where the client asks for that."""
        if request.headers.get("accept") == NDJSON:
            return StreamingResponse(_lines(await computed(call), computed), media_type=NDJSON)
        found = await computed(lambda: list(call()))
        counts["structures"] += len(found)
        crystals = [record for record in found if "reason" not in record]
        return _json({"crystals": crystals, "failures": [r for r in found if "reason" in r]})

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Say that the server is there."""
        return {"status": "ok", "version": version("potnet")}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Return counts in the format of Prometheus."""
        names = ("requests", "structures", "waiting")
        return "".join(f"potnet_{name} {counts[name]}\n" for name in names)

    @app.get("/models")
    async def models() -> list[dict[str, Any]]:
        """List the bundled models."""
        from potnet.models import archive, available

        def described(name: str) -> dict[str, Any]:
            card = archive.read_card(name)
            targets = [{"name": t.name, "unit": t.unit} for t in card.targets]
            return {"name": name, "predicts": targets, "trained_on": card.data.name}

        return await computed(lambda: [described(name) for name in available()])

    @app.get("/examples")
    async def example_crystals() -> list[dict[str, str]]:
        """Return the example crystals, as ``/predict`` takes them."""
        return [{"name": name, "content": content} for name, content in examples().items()]

    @app.post("/check")
    async def check(asked: Structures, request: Request) -> Response:
        """Say what was read: formula, space group, density, and what cannot be used and why."""
        counts["requests"] += 1
        texts = [(text.name, text.content) for text in asked.structures]
        return await answered(request, lambda: answers.checked(answers.read(texts)))

    @app.post("/predict")
    async def predict(asked: Structures, request: Request) -> Response:
        """Return the sheet of each structure: a row for each property, with its interval."""
        counts["requests"] += 1
        texts = [(text.name, text.content) for text in asked.structures]
        return await answered(request, lambda: answers.sheets(answers.read(texts)))

    @app.post("/sums")
    async def sums(asked: Sums) -> Response:
        """Sum potentials over all images of each pair of atoms, to a proven tolerance."""
        counts["requests"] += 1

        def call() -> dict[str, Any]:
            item = answers.read([(asked.name, asked.content)])[0]
            return answers.sums(item, asked.potentials, asked.tolerance)

        return _json(await computed(call))

    return Guard(app, hosts=hosts, token=token, limits=limits)


def _warmed(answers: Answers) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The models are read while the page is on its way, not before it is shown.
        task = asyncio.create_task(asyncio.to_thread(list, answers.sheets([])))
        yield
        await task

    return lifespan


async def _lines(
    records: Iterator[dict[str, Any]], computed: Callable[[Callable[[], Any]], Any]
) -> AsyncIterator[bytes]:
    """Yield a line for each record as it is made; a problem on the way is the last line."""
    try:
        while (record := await computed(lambda: next(records, None))) is not None:
            yield json.dumps(record).encode() + b"\n"
    except Problem as problem:
        yield problem.body + b"\n"


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")


def _answer_problems(app: FastAPI) -> None:
    """Let every mistake be a problem with one sentence."""

    def answer(problem: Problem) -> Response:
        return Response(problem.body, problem.status, media_type="application/problem+json")

    @app.exception_handler(Problem)
    async def refused(_: Request, problem: Problem) -> Response:
        return answer(problem)

    @app.exception_handler(PotNetError)
    async def mistaken(_: Request, error: PotNetError) -> Response:
        return answer(Problem(HTTPStatus.UNPROCESSABLE_ENTITY, printable(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        return answer(
            Problem(HTTPStatus.UNPROCESSABLE_ENTITY, printable(f"{where}: {first['msg']}.", 500))
        )

    @app.exception_handler(HTTPException)
    async def absent(_: Request, error: HTTPException) -> Response:
        return answer(Problem(HTTPStatus(error.status_code), f"{error.detail}."))
