"""Bringing one file from a server to a folder, over connections that break.

The standard library serves: one GET at a time needs no pool, and ``urllib`` keeps to the proxies
and certificates of the system without a dependency.
"""

from __future__ import annotations

import errno
import http.client
import json
import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from potnet.errors import DataError
from potnet.files import atomic_write

CHUNK = 1 << 18
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quotas
TEMPORARY = frozenset({202, 204, 408, 425, 429, 500, 502, 503, 504})  # 202: a guard before the file

Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Remote:
    """A file that is kept on servers.

    Attributes:
        name: Its name.
        urls: Addresses that it can be had from; the first that works is taken.
        sha256: Its fingerprint, if it is known.
        size: Its size in bytes, if it is known.
        starts: First bytes of its format.
        format: Name of that format, for messages.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None
    starts: bytes = b""
    format: str = "file"


@dataclass(frozen=True)
class Patience:
    """How long a server is given.

    Attributes:
        timeout: Seconds without a byte, or with fewer than ``min_rate`` a second, before the
            connection is given up.
        min_rate: Bytes per second below which a server counts as dead.
        attempts: Connections in a row that may bring nothing.
        pause: Seconds before the second attempt; each further pause is twice as long, and each
            is varied by half of itself, so that many clients do not come back together.
        max_pause: Longest pause in seconds, also if the server asks for more: then it is final.
    """

    timeout: float = 60.0
    min_rate: float = 512.0
    attempts: int = 6
    pause: float = 1.0
    max_pause: float = 120.0


PATIENCE = Patience()


class _Temporary(Exception):
    """What may work the next time."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Changed(_Temporary):
    """What may work the next time, from the beginning."""


class _Useless(Exception):
    """What will not work from this address."""


def download(
    remote: Remote, part: Path, *, patience: Patience = PATIENCE, report: Report = lambda *_: None
) -> str:
    """Bring a file to ``part``, going on with what lies there already.

    The content is as long as the server says, and starts as its format does; the caller checks
    the rest. A download that fails leaves ``part`` for the next attempt.

    Args:
        remote: The file.
        part: Where to put it; a note on its version is kept beside it.
        patience: How long the servers are given.
        report: Called with the bytes that are there and their final number, if it is known.

    Returns:
        The address that gave it.

    Raises:
        DataError: If no address gives the file, or there is no room for it.
    """
    reasons = []
    for url in remote.urls:
        try:
            _from_address(url, remote, part, patience, report)
            return url
        except _Useless as error:
            reasons.append(f"{url} {error}")
    raise DataError(
        f"{remote.name}: a server must give the file, got {'; '.join(reasons)}. Try again later, "
        "or fetch it by other means and name it with --from."
    )


def forget(part: Path) -> None:
    """Remove what a download left behind."""
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _from_address(url: str, remote: Remote, part: Path, patience: Patience, report: Report) -> None:
    """Try one address until it gives the file, or ``attempts`` times in a row nothing."""
    failed, most = 0, _size(part)
    jitter = random.SystemRandom()  # leaves the generators of the caller alone
    while True:
        try:
            return _attempt(url, remote, part, patience, report)
        except _Temporary as error:
            if isinstance(error, _Changed):
                forget(part)
            failed = 1 if _size(part) > most else failed + 1
            most = max(most, _size(part))
            wait = patience.pause * 2 ** (failed - 1) * jitter.uniform(0.5, 1.5)
            if error.wait is not None:
                wait = error.wait
            if failed >= patience.attempts or wait > patience.max_pause:
                asked = f", and asks to wait {wait:.0f} s" if error.wait is not None else ""
                raise _Useless(f"{error} ({failed} times{asked})") from None
            time.sleep(wait)


def _attempt(url: str, remote: Remote, part: Path, patience: Patience, report: Report) -> None:
    """Open one connection and take from it what it gives."""
    have, note = _resumable(url, remote, part)
    headers = {"User-Agent": "potnet", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if note.get("version"):
            headers["If-Range"] = note["version"]
    try:
        with _opener().open(Request(url, headers=headers), timeout=patience.timeout) as response:
            start, total = _place(response, have, note, remote)
            _require_room(part, start, total)
            if not start:
                _write_note(part, url, response, total)
            _take(response, part, start, total, remote, patience, report)
    except HTTPError as error:
        with error:
            _explain_status(error, have)
    except OSError as error:
        if isinstance(error, URLError) and isinstance(error.reason, OSError):
            error = error.reason
        if error.errno in FULL:
            raise _no_room(part, None) from None
        if isinstance(error, (URLError, ConnectionError, TimeoutError)) or error.filename is None:
            raise _Temporary(f"failed: {_words(error)}") from None
        raise  # a file of ours
    except http.client.HTTPException as error:
        raise _Temporary(f"broke off: {_words(error)}") from None


def _take(
    response: Any,
    part: Path,
    start: int,
    total: int | None,
    remote: Remote,
    patience: Patience,
    report: Report,
) -> None:
    """Write what comes to ``part`` from byte ``start`` on."""
    done = start
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        window, received = time.monotonic(), 0
        report(done, total)
        while chunk := response.read1(CHUNK):
            if done == 0:
                _check_start(chunk, response, remote)
            file.write(chunk)
            done += len(chunk)
            received += len(chunk)
            report(done, total)
            if total is not None and done > total:
                raise _Useless(f"sent more than the {total} bytes that it announced")
            elapsed = time.monotonic() - window
            if elapsed > patience.timeout:
                if received < patience.min_rate * elapsed:
                    raise _Temporary(f"sent {received} bytes in {elapsed:.0f} s only")
                window, received = time.monotonic(), 0
    if done == 0:
        raise _Temporary("sent nothing")
    if total is not None and done < total:
        raise _Temporary(f"broke off after {done} of {total} bytes")


def _place(
    response: Any, have: int, note: dict[str, Any], remote: Remote
) -> tuple[int, int | None]:
    """Return where in the file a response starts, and how long the file is, if that is known."""
    if response.status == 206:
        span = response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", span.strip())
        length = int(found.group(2)) if found else None
        if found is None or int(found.group(1)) != have or note.get("length") not in (None, length):
            raise _Changed(f"answered with another part of the file ({span or 'unnamed'})")
        return have, length
    if response.status != 200:
        raise _Temporary(f"answered {response.status} {response.reason}")
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdigit() else remote.size
    if remote.size is not None and total != remote.size:
        raise _Useless(f"announced {total} bytes instead of {remote.size}")
    return 0, total


def _check_start(chunk: bytes, response: Any, remote: Remote) -> None:
    """Raise where the first bytes are not those of the format: a web page, a message."""
    if len(chunk) >= len(remote.starts) and not chunk.startswith(remote.starts):
        kind = response.headers.get("Content-Type", "something")
        raise _Useless(f"sent {kind} that starts with {chunk[:20]!r}, which is no {remote.format}")


def _explain_status(error: HTTPError, have: int) -> None:
    """Raise what a status other than success means; 416 may say that all is there."""
    if error.code == 416 and have:
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return
        raise _Changed("has a shorter file than was there")
    status = f"answered {error.code} {error.reason}".strip()
    if error.code in TEMPORARY:
        raise _Temporary(status, wait=_retry_after(error.headers.get("Retry-After")))
    raise _Useless(" ".join(status.split()))


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a server asks to wait, given as such or as a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


# ---------------------------------------------------------------------- what is there already


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _resumable(url: str, remote: Remote, part: Path) -> tuple[int, dict[str, Any]]:
    """Return how many bytes can stay, and what is known about the file they are from.

    Bytes stay only if a changed file would be noticed: by its version, or by a known fingerprint.
    """
    have = _size(part)
    try:
        note = json.loads(_note_of(part).read_text("utf-8")) if have else {}
    except (OSError, ValueError):
        note = {}
    can_tell = note.get("version") or remote.sha256
    if have and note.get("url") == url and can_tell:
        return have, note
    return 0, {}


def _write_note(part: Path, url: str, response: Any, total: int | None) -> None:
    """Keep what tells whether a later answer is about the same file."""
    tag = response.headers.get("ETag", "")
    version = response.headers.get("Last-Modified") if tag.startswith("W/") or not tag else tag
    with atomic_write(_note_of(part)) as file:
        json.dump({"url": url, "version": version, "length": total}, file)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _require_room(part: Path, start: int, total: int | None) -> None:
    missing = (total or 0) - start
    if missing > shutil.disk_usage(part.parent).free:
        raise _no_room(part, missing)


def _no_room(part: Path, missing: int | None) -> DataError:
    needed = f"{missing / 1e6:.0f} MB more" if missing else "more"
    free = shutil.disk_usage(part.parent).free / 1e6
    return DataError(
        f"{part.parent}: the disk must have room for {needed}, got {free:.0f} MB free. Free some, "
        "or choose another folder with the variable POTNET_CACHE; what is there is kept."
    )


# -------------------------------------------------------------------------------- connections


class _Redirects(HTTPRedirectHandler):
    """Follow a server elsewhere, but never from a safe connection to an open one."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise _Useless(f"redirects from {schemes[0]} to {schemes[1]}, which is not safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    return build_opener(_Redirects)


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
