"""The one door for text from outside: ids, names of files and columns, units.

Whoever shows or writes what a file, a table or a server said takes it through here first, so that
no id moves the cursor of a terminal, starts a formula in a spreadsheet, or names a file elsewhere.

==============================  =======================================================
where the text goes             what to call
==============================  =======================================================
terminal, log, message, id      :func:`printable`
cell of a CSV file              :func:`csv_cell`; back from it, :func:`csv_text`
HTML                            ``html.escape(printable(text))``, or a template that escapes
title, axis, legend of a plot   :func:`plot_text`
name of a file or folder        :func:`file_name`
==============================  =======================================================

All of them return text that has passed before as it is, so twice does no harm.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

MAX_FILE_NAME = 100  # bytes of UTF-8, of the 255 that file systems take, for suffixes to be added

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.A | re.I)
_UNSAFE = re.compile(r'[\\/:*?"<>|]+')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.I)


def printable(text: object, limit: int | None = None) -> str:
    r"""Return ``text`` on one line, in characters that can be seen and encoded.

    Control characters, escape sequences, direction marks, and halves of characters become escapes.

    Args:
        text: Anything; its ``str``.
        limit: Most characters; the middle of a longer text is left out.

    >>> printable("a\x1b[2Jb\ud800"), printable("abcdefghij", limit=7)
    ('a\\x1b[2Jb\\ud800', 'ab...ij')
    """
    found = str(text)
    if not found.isprintable():
        found = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in found)
    if limit is not None and len(found) > limit:
        half = (limit - 3) // 2
        found = f"{found[:half]}...{found[len(found) - half :]}"
    return found


@lru_cache(2**12)  # columns of large tables say the same over and over
def csv_cell(text: str) -> str:
    """Return ``text`` as a cell that no spreadsheet takes for a formula; numbers stay as they are.

    >>> csv_cell("=1+1"), csv_cell("-1.5"), csv_cell("mp-149")
    ("'=1+1", '-1.5', 'mp-149')
    """
    found = printable(text)
    if found.startswith(_FORMULA) and not _PLAIN_NUMBER.fullmatch(found):
        return f"'{found}"
    return found


def csv_text(cell: str) -> str:
    """Return the text that :func:`csv_cell` made a cell of.

    >>> csv_text("'=1+1"), csv_text("mp-149")
    ('=1+1', 'mp-149')
    """
    return cell[1:] if cell.startswith(tuple(f"'{sign}" for sign in _FORMULA)) else cell


def plot_text(text: object, limit: int = 80) -> str:
    r"""Return ``text`` for matplotlib, which would read what stands between dollars as formulas.

    >>> plot_text("price_$_per_$")
    'price_\\$_per_\\$'
    """
    return re.sub(r"(?<!\\)\$", r"\\$", printable(text, limit))


def file_name(text: object) -> str:
    """Return a name for a file or folder that ``text`` calls for, the same for the same text.

    It is one name in one folder on every system: no separator, no hidden or reserved name, at most
    ``MAX_FILE_NAME`` bytes. Plain names stay as they are, others end in digits of their own, so
    that two of them never meet. ``NAME > LIMIT`` becomes ``NAME-above-LIMIT``.

    >>> file_name("band_gap"), file_name("band_gap > 0"), file_name("../a/b")
    ('band_gap', 'band_gap-above-0', 'a-b-8e7e11e4')
    """
    wanted = str(text).replace(" > ", "-above-")
    safe = _UNSAFE.sub("-", printable(wanted)).strip("-. ")
    safe = safe.encode()[:MAX_FILE_NAME].decode(errors="ignore")
    if safe and safe == wanted and not _RESERVED.fullmatch(safe):
        return safe
    digest = hashlib.sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe or 'unnamed'}-{digest}"
