"""Files of compiled code: whole, and written by nobody else, or they count as missing.

Machine code that a full disk or a crash has cut ends the process, again at every start, and whoever
can write it runs code as the user who reads it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from typing import IO

_DIGEST = hashlib.sha256().digest_size
_OTHERS_WRITE = 0o022

_log = logging.getLogger("latticesums")


def write_sealed(file: IO[bytes], content: bytes) -> None:
    """Write content with its SHA-256 behind it, for its owner alone to change."""
    file.write(content + hashlib.sha256(content).digest())
    if hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), 0o644)  # whatever the umask says


def is_sound(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is whole and written by this user or by who owns the package."""
    return sealed_content(path) is not None


def sealed_content(path: str | os.PathLike[str]) -> bytes | None:
    """Return the content of a file that is sound, or None."""
    try:
        with open(path, "rb") as file:
            about, content = os.fstat(file.fileno()), file.read()
    except OSError:
        return None
    if hasattr(os, "geteuid"):
        trusted = {0, os.geteuid(), os.stat(__file__).st_uid}
        if about.st_uid not in trusted or about.st_mode & _OTHERS_WRITE:
            _log.warning(
                "%s: compiled code must be writable by its owner alone, and its owner be this "
                "user, got owner %d and mode %o. It is compiled anew; remove the file.",
                path, about.st_uid, about.st_mode & 0o777,
            )  # fmt: skip
            return None
    sound = hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]
    return content[:-_DIGEST] if sound else None
