"""The server: REST for programs, and the page that uses it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from potnet.serve import schemas
from potnet.serve.answers import Answers, examples
from potnet.serve.metrics import Metrics
from potnet.serve.problems import answer_problems
from potnet.serve.reading import Limits, Read, one_crystal, read_texts
from potnet.serve.safety import Guard
from potnet.serve.work import Record, Work

STATIC = Path(__file__).parent / "static"
NDJSON = "application/x-ndjson"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": meaning,
        "content": {
            "application/problem+json": {"schema": schemas.ProblemDetails.model_json_schema()}
        },
    }
    for status, meaning in {
        400: "The body is not JSON in UTF-8",
        401: "The token is missing or wrong",
        403: "A page of another server asks",
        408: "The body did not arrive in time",
        413: "The body is too large",
        415: "The body is of another type",
        421: "The name is not that of this server",
        422: "The body, or what it holds, cannot be used",
        429: "The server is busy",
        504: "The answer took too long",
    }.items()
}


def make_app(
    *, hosts: frozenset[str] = frozenset(), token: str = "", limits: Limits | None = None
) -> Guard:
    """Return the server as an ASGI application.

    Args:
        hosts: Names, beside the loopback ones, by which it may be called.
        token: Secret that requests must carry; none if it is empty.
        limits: How much one request may ask for.
    """
    limits, metrics, answers = limits or Limits(), Metrics(), Answers()
    work = Work(answers.sheets, limits, metrics)
    endpoints = Endpoints(answers, work, limits, metrics)
    app = FastAPI(
        title="potnet",
        summary="Properties of crystals, with intervals, on this machine.",
        version=version("potnet"),
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(answers, endpoints, work),
    )
    app.include_router(endpoints.router())
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    answer_problems(app)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    paths = frozenset(("/", *app.openapi()["paths"]))
    return Guard(app, hosts=hosts, token=token, limits=limits, metrics=metrics, paths=paths)


def _lifespan(
    answers: Answers, endpoints: Endpoints, work: Work
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    def warm() -> None:
        # One crystal, so that models are read and code is compiled before the first one comes.
        texts = list(examples().items())[:1]
        answers.sheets([read.item for read in read_texts(texts, Limits())])
        endpoints.is_warm = True

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # While the page is on its way, not before it is shown.
        task = asyncio.create_task(asyncio.to_thread(warm))
        yield
        await task
        await asyncio.to_thread(work.close)

    return lifespan


class Endpoints:
    """The paths, over what computes for them."""

    def __init__(self, answers: Answers, work: Work, limits: Limits, metrics: Metrics) -> None:
        self._answers = answers
        self._work = work
        self._limits = limits
        self._metrics = metrics
        self.is_warm = False

    def router(self) -> APIRouter:
        """Return all paths with what they answer."""
        router = APIRouter(responses=PROBLEMS)
        for path, endpoint, model in (
            ("/health", self.health, schemas.Health),
            ("/models", self.models, list[schemas.Model]),
            ("/examples", self.examples, list[schemas.Text]),
            ("/distributions", self.distributions, dict[str, Any]),
        ):
            router.add_api_route(path, endpoint, methods=["GET"], response_model=model)
        router.add_api_route(
            "/metrics", self.metrics, methods=["GET"], response_class=PlainTextResponse
        )
        for path, endpoint, model in (
            ("/check", self.check, schemas.Checked),
            ("/predict", self.predict, schemas.Predicted),
            ("/explain", self.explain, schemas.Explanation),
            ("/sums", self.sums, schemas.Summed),
            ("/nearest", self.nearest, schemas.Nearest),
            ("/stability", self.stability, schemas.Stability),
            ("/landscape", self.landscape, schemas.Landscape),
        ):
            # The model describes the answer; it does not check it anew for every request.
            described: dict[int | str, dict[str, Any]] = {200: {"model": model}}
            router.add_api_route(
                path, endpoint, methods=["POST"], responses=described, response_class=Response
            )
        return router

    async def health(self) -> dict[str, Any]:
        """Say that the server is there, and whether its models are read."""
        return {"status": "ok", "version": version("potnet"), "is_warm": self.is_warm}

    async def metrics(self) -> str:
        """Return counts in the text format of Prometheus."""
        return self._metrics.text()

    async def models(self) -> list[dict[str, Any]]:
        """List the bundled models."""
        return await self._work.call(lambda: self._answers.models)

    async def examples(self) -> list[dict[str, str]]:
        """Return the example crystals, as ``/predict`` takes them."""
        return [{"name": name, "content": content} for name, content in examples().items()]

    async def distributions(self) -> dict[str, Any]:
        """Return how the values of known crystals are distributed, by property."""
        return await self._work.call(lambda: self._answers.distributions)

    async def check(self, asked: schemas.Structures, request: Request) -> Response:
        """Say what was read: formula, space group, density, and what cannot be used and why."""
        reads = await self._read(asked)
        records = await self._work.call(self._answers.checked, [read.item for read in reads])
        pairs = zip(reads, records, strict=True)
        found = [r if "reason" in r else {**r, **q.told()} for q, r in pairs]
        self._work.count(found)
        if _is_streamed(request):
            lines = (json.dumps(record, allow_nan=False) + "\n" for record in found)
            return StreamingResponse(lines, media_type=NDJSON)
        return _sorted(found)

    async def predict(self, asked: schemas.Structures, request: Request) -> Response:
        """Return the sheet of each structure: a row for each property, with its interval.

        With ``Accept: application/x-ndjson`` there is a line for each structure as soon as it is
        computed, a sheet or why there is none, in the order of the structures. The header
        ``Structures`` says how many there are.
        """
        reads = await self._read(asked)
        if _is_streamed(request):
            return StreamingResponse(
                self._work.lines(reads),
                media_type=NDJSON,
                headers={"structures": str(len(reads))},
            )
        found = await self._work.records(reads, request)
        self._work.count(found)
        return _sorted(found)

    async def sums(self, asked: schemas.Sums) -> Response:
        """Sum potentials over all images of each pair of atoms, to a proven tolerance."""

        def call() -> Record:
            crystal = one_crystal(asked.name, asked.content, self._limits)
            return self._answers.sums(crystal, asked.potentials, asked.tolerance, asked.per)

        return _json(await self._work.call(call))

    async def explain(self, asked: schemas.Why) -> Response:
        """Say why a property is predicted as it is: shares by channel, distance and atom."""

        def call() -> Record:
            crystal = one_crystal(asked.name, asked.content, self._limits)
            return self._answers.explain(crystal, asked.property)

        return _json(await self._work.call(call))

    async def nearest(self, asked: schemas.Text) -> Response:
        """Return the known crystals that are nearest by structure and chemistry."""

        def call() -> Record:
            return self._answers.nearest(one_crystal(asked.name, asked.content, self._limits))

        return _json(await self._work.call(call))

    async def stability(self, asked: schemas.Energy) -> Response:
        """Return how far a formation energy lies above the hull of the known phases."""
        return _json(
            await self._work.call(
                self._answers.stability,
                asked.formula,
                asked.formation_energy,
                asked.lower,
                asked.upper,
            )
        )

    async def landscape(self, asked: schemas.Plane) -> Response:
        """Return a potential of all atoms and their images on a plane through the crystal."""

        def call() -> Record:
            crystal = one_crystal(asked.name, asked.content, self._limits)
            return self._answers.landscape(crystal, asked.potential, asked.plane)

        return _json(await self._work.call(call))

    async def _read(self, asked: schemas.Structures) -> list[Read]:
        texts = [(text.name, text.content) for text in asked.structures]
        return await self._work.call(read_texts, texts, self._limits)


def _is_streamed(request: Request) -> bool:
    return NDJSON in request.headers.get("accept", "")


def _sorted(found: Sequence[Record]) -> Response:
    """Return what could be used, and what not."""
    crystals = [record for record in found if "reason" not in record]
    return _json({"crystals": crystals, "failures": [r for r in found if "reason" in r]})


def _json(content: Any) -> Response:
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")
