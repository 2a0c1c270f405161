"""Tables as notebooks show them; whatever is in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

from potnet.errors import Failure

SHOWN = 60  # rows


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]], n_rows: int) -> str:
    """Return a table of the first rows as HTML, numbers with four digits to the right.

    Args:
        header: Names of the columns.
        rows: The rows; no more than ``SHOWN`` of them are looked at.
        n_rows: How many there are in all.
    """
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in islice(rows, SHOWN))
    more = f"<p>The first {SHOWN} of {n_rows:,} rows.</p>" if n_rows > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def failures_html(failures: Sequence[Failure]) -> str:
    """Return why some items could not be used, as HTML; nothing if there are none."""
    if not failures:
        return ""
    reasons = "".join(f"<li>{escape(failure.reason)}</li>" for failure in failures[:SHOWN])
    return f"<p>{len(failures):,} could not be used:</p><ul>{reasons}</ul>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        text = "" if value != value else f"{value:.4g}"
        return f'<td style="text-align:right">{text}</td>'
    return f'<td style="text-align:left">{escape(str(value))}</td>'
