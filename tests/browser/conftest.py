"""A server, a Chromium, and pages of which nothing may be loaded from elsewhere."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
# Draws in three dimensions without a graphics card.
OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--ignore-gpu-blocklist"]
PATIENCE = 280_000  # ms: a machine that does much else, and compiles the sums first
# Screenshots are kept where POTNET_SCREENSHOTS names a folder.
PICTURES = os.environ.get("POTNET_SCREENSHOTS")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A server on a free port of this machine."""
    pytest.importorskip("fastapi")
    import uvicorn

    from potnet.serve import Limits, make_app

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(limits=Limits(seconds=280)), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that is gone before other tests: a thread has no second loop while it is there."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(request: Any, browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Return what opens the page in a size and a scheme of colours, and looks at it in the end."""
    opened: list[tuple[Any, list[str]]] = []

    def open_page(
        scheme: str = "light", size: dict[str, int] = WIDE, *, is_broken: bool = False
    ) -> Any:
        page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
        page.set_default_timeout(PATIENCE)
        wrong: list[str] = []
        if not is_broken:  # Chromium says so of each request without an answer
            page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        own = (address, "data:", "blob:")
        page.on("request", lambda asked: asked.url.startswith(own) or wrong.append(asked.url))
        page.goto(address)
        page.wait_for_selector("body[data-ready=yes]")
        opened.append((page, wrong))
        return page

    yield open_page
    for page, wrong in opened:
        if PICTURES:
            name = request.node.name.replace("[", "-").replace("]", "")
            page.screenshot(path=Path(PICTURES, f"{name}.png"), full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        page.context.close()
        assert not wrong
        assert not wide, "the page fits the width of the window"
