"""The server: REST for programs, and the page that uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from potnet.serve.answers import Answers, examples
from potnet.serve.endpoints import Endpoints
from potnet.serve.limits import Limits
from potnet.serve.metrics import Metrics
from potnet.serve.problems import answer_problems
from potnet.serve.reading import read_texts
from potnet.serve.safety import Guard
from potnet.serve.work import Work

STATIC = Path(__file__).parent / "static"


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
