"""Fails a build whose pages ask the network for anything, or show a formula as TeX."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

# What a browser loads by itself; a link that a reader may click asks for nothing.
LOADED = {"src", "srcset", "poster", "data"}
REMOTE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"]|^)\s*((?:https?:)?//[^'")\s]+)""", re.I)
TEX = re.compile(r"\\[a-zA-Z]{2,}|\\[({\[]|\$\$")
VERBATIM = {"script", "style", "pre", "code", "title"}


class _Page(HTMLParser):
    """Collects what a page loads from elsewhere, and its text outside of code."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loaded = {*LOADED, "href"} if tag == "link" else LOADED
        for name, value in attrs:
            if name in loaded or name == "style":
                self.remote += REMOTE.findall(value or "")
        if tag in VERBATIM:
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            self._inside.remove(tag)

    def handle_data(self, data: str) -> None:
        if self._inside == ["style"]:
            self.remote += REMOTE.findall(data)
        if not self._inside:
            self.text.append(data)


def faults(path: Path) -> Iterator[str]:
    """Yield what is wrong with one built .html or .css file, a sentence each."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        yield from (f"{path.name} loads {url}" for url in REMOTE.findall(text))
        return
    page = _Page()
    page.feed(text)
    yield from (f"{path.name} loads {url}" for url in page.remote)
    yield from (f"{path.name} shows TeX: {tex}" for tex in TEX.findall("\n".join(page.text)))


def check(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    pages = [path for path in Path(app.outdir).rglob("*") if path.suffix in {".html", ".css"}]
    found = [fault for path in sorted(pages) for fault in faults(path)]
    if found:
        raise ExtensionError("Pages must stand alone:\n" + "\n".join(found))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
