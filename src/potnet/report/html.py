"""One HTML file that holds a whole report: text, tables, plots; nothing is loaded."""

from __future__ import annotations

import os
import platform
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING

from potnet.files import atomic_write
from potnet.report.plots import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --band: #f8fafc; --accent: #2563a8; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: 1.1rem;
     border-top: 1px solid var(--line); }
p { max-width: 46rem; } p.lead { font-size: 1.1rem; color: var(--soft); margin-top: 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .8rem 0; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { padding: .38rem .9rem .38rem 0; text-align: left; border-bottom: 1px solid var(--line);
         vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { text-align: right; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
figure { margin: 0; flex: 1 1 20rem; } figure img { width: 100%; height: auto; display: block; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; }
.tile { flex: 1 1 11rem; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: .6rem;
        background: var(--band); }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; color: var(--accent); }
.tile span { color: var(--soft); font-size: .9rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: .9rem; }
@media print { main { padding: 0; max-width: none; } h2 { break-after: avoid; } }
"""


class Report:
    """A report that grows block by block and is written as one file.

    Args:
        title: Heading of the page.
        lead: One or two sentences below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._blocks = [f"<h1>{escape(title)}</h1>"]
        if lead:
            self._blocks.append(f'<p class="lead">{escape(lead)}</p>')

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._blocks.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._blocks.append(f"<p>{escape(text)}</p>")

    def tiles(self, values: Mapping[str, str]) -> None:
        """Add the few numbers that matter most, large: text by what it is."""
        tiles = (
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for name, value in values.items()
        )
        self._blocks.append(f'<div class="tiles">{"".join(tiles)}</div>')

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = ""
    ) -> None:
        """Add a table; numbers are set to the right with four significant digits."""
        rows = [list(row) for row in rows]
        is_number = [
            bool(rows) and all(isinstance(row[k], int | float) for row in rows)
            for k in range(len(header))
        ]
        parts = ['<div class="scroll"><table>']
        if caption:
            parts.append(f"<caption>{escape(caption)}</caption>")
        parts.append(_row("th", header, is_number))
        parts += [_row("td", row, is_number) for row in rows]
        self._blocks.append("".join([*parts, "</table></div>"]))

    def pairs(self, values: Mapping[str, object]) -> None:
        """Add a table of names and values."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(_text(value))}</td></tr>"
            for name, value in values.items()
        )
        self._blocks.append(f'<div class="scroll"><table>{rows}</table></div>')

    def figures(self, figures: Mapping[str, Figure]) -> None:
        """Add plots side by side, by their alternative text."""
        parts = []
        for name, figure in figures.items():
            data = b64encode(png(figure)).decode("ascii")
            image = f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
            parts.append(f"<figure>{image}</figure>")
        self._blocks.append(f'<div class="figures">{"".join(parts)}</div>')

    def to_html(self) -> str:
        """Return the page."""
        footer = f"<footer>Made by potnet {escape(version('potnet'))}.</footer>"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
            + "\n".join([*self._blocks, footer])
            + "\n</main></body></html>\n"
        )

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


def _row(tag: str, cells: Sequence[object], is_number: Sequence[bool]) -> str:
    parts = []
    for cell, number in zip(cells, is_number, strict=True):
        attribute = ' class="number"' if number else ""
        parts.append(f"<{tag}{attribute}>{escape(_text(cell))}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
