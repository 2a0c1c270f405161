"""Compiled code on disk: used if it is whole, and if nobody else can have written it.

numba's files are pickles and machine code: one that a full disk or a crash has cut ends the
process, again at every start, and whoever can write one runs code as the user who reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from numba.core.caching import IndexDataCacheFile

_DIGEST = hashlib.sha256().digest_size
_OTHERS_WRITE = 0o022

_log = logging.getLogger("latticesums")


def checked(compiled: Any) -> None:
    """Let a compiled function with a cache use :class:`CheckedFiles` for it."""
    cache = compiled._cache
    name, stamp = cache._impl.filename_base, cache._impl.locator.get_source_stamp()
    cache._cache_file = CheckedFiles(cache.cache_path, name, stamp)


class CheckedFiles(IndexDataCacheFile):
    """numba's index and data files, each with the SHA-256 of its content behind it.

    What is damaged, or could be of somebody else, counts as missing: the function is compiled
    again. Where the disk takes no file, compiled code serves this process alone.
    """

    def save(self, key: Any, data: Any) -> None:
        try:
            super().save(key, data)
        except OSError as error:
            _log.info("Compiled code is not kept: %s.", error)

    def _load_index(self) -> Any:
        # What follows the pickles, numba does not read.
        return super()._load_index() if _is_sound(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        if not _is_sound(path):
            raise FileNotFoundError(path)  # for numba the same as a file that was removed
        return super()._load_data(name)

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[BinaryIO]:
        with super()._open_for_write(filepath) as file:
            buffer = io.BytesIO()
            yield buffer
            content = buffer.getvalue()
            file.write(content + hashlib.sha256(content).digest())
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), 0o644)  # whatever the umask says


def _is_sound(path: str) -> bool:
    """Return whether a file is whole and written by this user or by who owns the package."""
    try:
        with open(path, "rb") as file:
            about, content = os.fstat(file.fileno()), file.read()
    except OSError:
        return False
    if hasattr(os, "geteuid"):
        trusted = {0, os.geteuid(), os.stat(__file__).st_uid}
        if about.st_uid not in trusted or about.st_mode & _OTHERS_WRITE:
            _log.warning(
                "%s: compiled code must be writable by its owner alone, and its owner be this "
                "user, got owner %d and mode %o. It is compiled anew; remove the file.",
                path, about.st_uid, about.st_mode & 0o777,
            )  # fmt: skip
            return False
    return hashlib.sha256(content[:-_DIGEST]).digest() == content[-_DIGEST:]
