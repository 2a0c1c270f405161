"""Writes the picture of the page in README and docs, from the real page in a real Chromium.

    python scripts/page_picture.py                       # docs/images/page.webp
    python scripts/page_picture.py --scheme dark --width 390 --whole --output phone-dark.webp

Needs playwright and a Chromium; Pillow comes with matplotlib.
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "page.webp"
# Draws in three dimensions without a graphics card.
OPTIONS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--ignore-gpu-blocklist")
PATIENCE = 300_000  # ms, on a machine that compiles the sums first


@contextmanager
def server() -> Iterator[str]:
    """Run the server and yield its address."""
    import uvicorn

    from potnet.serve import make_app

    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(make_app(), log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        running.should_exit = True
        thread.join()


def fill(page: Page, example: str) -> None:
    """Let the page show an example with all that belongs to it."""
    page.wait_for_selector("body[data-ready=yes]")
    page.select_option("#examples", label=example)
    page.wait_for_selector("#near tbody tr")
    page.wait_for_selector("#sheet .shape")
    page.wait_for_selector("#cancel", state="hidden")
    page.click("#draw")
    page.wait_for_selector("#map canvas")
    page.evaluate("scrollTo(0, 0)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--example", default="SrTiO3.cif")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1240)
    parser.add_argument("--height", type=int, default=1100)
    parser.add_argument("--whole", action="store_true", help="the page to its end")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with server() as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=list(OPTIONS))
        size = {"width": asked.width, "height": asked.height}
        page = browser.new_page(viewport=size, color_scheme=asked.scheme)
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: parser.error(str(error)))
        page.goto(address)
        fill(page, asked.example)
        picture = Image.open(io.BytesIO(page.screenshot(full_page=asked.whole)))
        browser.close()
    picture.convert("RGB").save(asked.output, quality=82, method=6)
    print(f"{asked.output}: {asked.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
