"""Compiled code on disk: used if it is whole, and if nobody else can have written it.

numba's files are pickles and machine code: one that a full disk or a crash has cut ends the
process, again at every start, and whoever can write one runs code as the user who reads it.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from numba.core.caching import IndexDataCacheFile

from latticesums.compiled.seals import is_sound, write_sealed

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
        return super()._load_index() if is_sound(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        if not is_sound(path):
            raise FileNotFoundError(path)  # for numba the same as a file that was removed
        return super()._load_data(name)

    @contextlib.contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        with super()._open_for_write(filepath) as file:
            buffer = io.BytesIO()
            yield buffer
            content = buffer.getvalue()
            write_sealed(file, content)
