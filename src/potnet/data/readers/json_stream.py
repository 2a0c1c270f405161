"""JSON piece by piece: lists of any length in the memory of one of their items."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from potnet.data.readers.text import MAX_RECORD
from potnet.errors import DataError

MAX_ITEMS = 4_000_000  # lists, objects and values of one value of a document: half a gigabyte
_SPACE = " \t\n\r"
_NEAR_THE_END = 16  # characters of the longest token that may be cut: a literal, an escape


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice[:60]!r} twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_without_doubles)


def parse(text: str, place: str) -> Any:
    """Return what a JSON text says.

    Raises:
        DataError: If it is not JSON, too deep, or names a key twice in one object.
    """
    if _items(text) > MAX_ITEMS:
        raise _refusal(place, f"more than {MAX_ITEMS} items in one value")
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(place, error) from None


def _items(text: str) -> int:
    """Return no fewer than the lists, objects and values that a JSON text holds."""
    return text.count(",") + text.count("[") + text.count("{")


def _refusal(place: str, error: object) -> DataError:
    return DataError(f"{place}: must be JSON, got text that is not ({error}). Write it again.")


class JsonStream:
    """A JSON document that is read value by value.

    Args:
        file: The text.
        place: Name of the file, for messages.
        chunk: Characters read at once.
    """

    def __init__(self, file: TextIO, place: str, chunk: int = 1 << 20) -> None:
        self._file = file
        self._place = place
        self._chunk = chunk
        self._text = ""
        self._at = 0  # of the next character in _text
        self._before = 0  # characters read before _text

    def peek(self) -> str:
        """Return the next character that is no space; an empty string at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more(self._chunk):
                return ""

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        size = self._chunk
        while True:
            if len(self._text) > MAX_ITEMS and _items(self._text[self._at :]) > MAX_ITEMS:
                raise self._refuse(f"more than {MAX_ITEMS} items in one value")
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._may_be_cut(error) or not self._more(size):
                    raise self._refuse(error) from None
            else:
                # A number at the very end may go on.
                if end < len(self._text) or not self._more(size):
                    self._at = end
                    return value
            if len(self._text) - self._at > MAX_RECORD:
                raise self._refuse(f"a value of more than {MAX_RECORD} characters")
            size *= 2  # so that a large value is not parsed too often

    def items(self) -> Iterator[Any]:
        """Yield the items of the array that comes next."""
        self._take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def names(self) -> Iterator[str]:
        """Yield the keys of the object that comes next; the caller takes each value in turn."""
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        seen: set[str] = set()
        while True:
            key = self.value() if self.peek() == '"' else self._take('"')
            if key in seen:
                raise self._refuse(f"the key {key[:60]!r} twice in one object")
            seen.add(key)
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def end(self) -> None:
        """Raise unless the document is over."""
        if found := self.peek():
            raise self._refuse(f"{found!r} after its end")

    def _take(self, allowed: str) -> str:
        found = self.peek()
        if not found or found not in allowed:
            raise self._refuse(f"{found!r} instead of {' or '.join(allowed)}")
        self._at += 1
        return found

    def _more(self, size: int) -> bool:
        """Read on; what was taken already is forgotten."""
        new = self._file.read(size)
        if new:
            self._before += self._at
            self._text, self._at = self._text[self._at :] + new, 0
        return bool(new)

    def _may_be_cut(self, error: Exception) -> bool:
        if not isinstance(error, json.JSONDecodeError):
            return False
        unfinished = error.msg.startswith("Unterminated string")
        return unfinished or error.pos >= len(self._text) - _NEAR_THE_END

    def _refuse(self, error: object) -> DataError:
        if isinstance(error, json.JSONDecodeError):
            self._at, error = error.pos, error.msg
        return _refusal(f"{self._place}, character {self._before + self._at + 1}", error)
