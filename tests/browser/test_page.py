"""The page in a real Chromium, from a dropped text to a downloaded table."""

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "crystals"
# Screenshots are kept where POTNET_SCREENSHOTS names a folder.
PICTURES = os.environ.get("POTNET_SCREENSHOTS")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server on a free port of this machine."""
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
def browser() -> Iterator:
    options = [
        "--no-sandbox",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--ignore-gpu-blocklist",
    ]
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(request, browser, address) -> Iterator:
    """A page of which nothing is loaded from elsewhere and no error is said."""
    size = (
        {"width": 1280, "height": 900}
        if request.param == "light"
        else {"width": 390, "height": 800}
    )
    context = browser.new_context(viewport=size, color_scheme=request.param)
    page = context.new_page()
    page.set_default_timeout(280_000)
    wrong: list[str] = []
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda r: r.url.startswith((address, "data:", "blob:")) or wrong.append(r.url)
    )
    page.goto(address)
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    if PICTURES:
        name = f"{request.node.name}".replace("[", "-").replace("]", "")
        page.screenshot(path=Path(PICTURES, f"{name}.png"), full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    context.close()
    assert not wrong
    assert not wide, "the page fits the width of the window"


def test_an_example_is_drawn_with_its_sheet(page) -> None:
    page.select_option("#examples", label="SrTiO3.cif")
    page.wait_for_selector("#sheet tbody tr")
    assert "Pm-3m (221)" in page.text_content("#facts")
    assert "formation energy" in page.text_content("#sheet")
    assert page.locator("#sheet svg.interval").count() >= 3
    assert page.locator("#viewer canvas").count() == 1
    painted = page.evaluate("document.querySelector('#viewer canvas').toDataURL().length")
    assert painted > 1000


def test_files_become_a_table_that_sorts_filters_and_downloads(page, tmp_path) -> None:
    (tmp_path / "bad.cif").write_text("data_<img src=x onerror=alert(1)>\n")
    names = ("NaCl.cif", "Si.vasp", "MgO.vasp")
    page.set_input_files("#files", [*(EXAMPLES / name for name in names), tmp_path / "bad.cif"])
    page.get_by_text("3 predicted, 1 refused").wait_for()
    assert page.locator("#list tbody tr").count() == 3
    assert "bad" in page.text_content("#failures")
    assert page.locator("#failures img").count() == 0, "what a file says stays text"
    page.get_by_role("button", name="formula").click()
    first = page.text_content("#list tbody tr:first-child td:nth-child(2)")
    page.get_by_role("button", name="formula").click()
    assert page.text_content("#list tbody tr:first-child td:nth-child(2)") != first
    page.fill("#filter", "mgo")
    assert page.locator("#list tbody tr").count() == 1
    with page.expect_download() as told:
        page.click("#csv")
    lines = Path(told.value.path()).read_text().splitlines()
    assert lines[0].startswith("id,formula,n_atoms,space_group,property,value")
    assert {line.split(",")[0] for line in lines[1:]} == {"NaCl", "Si", "MgO"}
    with page.expect_download() as told:
        page.click("#json")
    assert len(json.loads(Path(told.value.path()).read_text())) == 3


def test_the_keyboard_alone_gets_to_a_judged_structure(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.insert_text((EXAMPLES / "Si.vasp").read_text())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "go"
    page.keyboard.press("Enter")
    page.wait_for_selector("#sheet tbody tr")
    assert "Fd-3m (227)" in page.text_content("#facts")


def test_every_control_has_a_name(page) -> None:
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, textarea")].filter(
            (e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map((e) => e.id)"""
    )
    assert unnamed == []


def test_a_text_that_is_no_structure_gets_a_sentence(page) -> None:
    page.fill("#text", "nothing of the kind")
    started = time.monotonic()
    page.click("#go")
    page.wait_for_selector("#failures li")
    assert "1 refused" in page.text_content("#said")
    assert time.monotonic() - started < 110
