"""One HTML file that holds a whole report: text, tables, plots; nothing is loaded."""

from __future__ import annotations

import os
import platform
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader

from potnet.files import atomic_write
from potnet.report.plots import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report:
    """A report that grows block by block and is written as one file.

    Args:
        title: Heading of the page.
        lead: One or two sentences below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.lead = lead
        self._blocks: list[tuple[str, Any]] = []

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._blocks.append(("heading", text))

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._blocks.append(("text", text))

    def tiles(self, values: Mapping[str, str]) -> None:
        """Add the few numbers that matter most, large: text by what it is."""
        self._blocks.append(("tiles", dict(values)))

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = ""
    ) -> None:
        """Add a table; numbers are set to the right with four significant digits."""
        lines = [("td", list(row)) for row in rows]
        is_number = [
            bool(lines) and all(isinstance(cells[k], int | float) for _, cells in lines)
            for k in range(len(header))
        ]
        table = {"header": header, "rows": lines, "is_number": is_number, "caption": caption}
        self._blocks.append(("table", table))

    def pairs(self, values: Mapping[str, object]) -> None:
        """Add a table of names and values."""
        self._blocks.append(("pairs", dict(values)))

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """Add plots side by side, by their alternative text."""
        pictures = {k: b64encode(png(figure)).decode("ascii") for k, figure in figures.items()}
        self._blocks.append(("figures", pictures))

    def to_html(self) -> str:
        """Return the page."""
        page = {"title": self.title, "lead": self.lead, "blocks": self._blocks}
        return _template().render(page, version=version("potnet"))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page to ``path``, whole or not at all."""
        with atomic_write(path) as file:
            file.write(self.to_html())


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on, by name."""
    packages = ("potnet", "torch", "numpy", "ase", "gemmi", "moyopy")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores"
    return {
        **{name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": machine,
    }


def _template() -> Any:
    """Return the page's template; whatever is put into it is escaped."""
    environment = Environment(
        loader=PackageLoader("potnet", "report"),
        autoescape=True,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = _shown
    return environment.get_template("page.html")


def _shown(value: object) -> str:
    """Return a value as a page shows it: four digits, thousands apart."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
