"""The values of a CIF data block, by tag."""

from __future__ import annotations

import re
from typing import Any

from gemmi import cif

from potnet.crystal import MAX_ATOMS
from potnet.errors import StructureError

_SYMMETRY = ("_space_group", "_symmetry", "_crystal_system", "_cell_setting")
UNKNOWN = ("", ".", "?")  # what stands for a value that is not there


class Block:
    """The values of a data block by tag, in lower case and with ``_`` for the newer ``.``."""

    def __init__(self, block: cif.Block, where: str) -> None:
        self._where = where
        self._places: dict[str, tuple[Any, int]] = {}  # a pair or a loop, and the column in it
        self._loops: dict[int, list[str]] = {}  # the values of the loops that were asked for
        for item in block:
            pair: Any = item.pair
            tags = [pair[0]] if pair is not None else item.loop.tags if item.loop else []
            for column, tag in enumerate(tags):
                place = (pair[1], -1) if pair is not None else (item.loop, column)
                self._add(_plain(tag), place)
        self._symmetry = [t for t in self._places if t.startswith(_SYMMETRY)]

    def _add(self, tag: str, place: tuple[Any, int]) -> None:
        """Note where the values of a tag are; twice is an error unless they are the same."""
        before = self._places.setdefault(tag, place)
        if before is place:
            return
        old, new = self._values(before), self._values(place)
        if [cif.as_string(v).split() for v in old] != [cif.as_string(v).split() for v in new]:
            raise StructureError(
                f"{self._where}: a tag must have one value, got duplicate tag {tag} with "
                f"{' '.join(old)[:60]} and {' '.join(new)[:60]}. Remove one of them."
            )

    def _values(self, place: tuple[Any, int]) -> list[str]:
        """Return values as written, with their quotes."""
        holder, column = place
        if column < 0:
            return [holder]
        if holder.length() > MAX_ATOMS:
            raise StructureError(
                f"{self._where}: a loop of `{holder.tags[column]}` must have at most {MAX_ATOMS} "
                f"rows, got {holder.length()}. Use a smaller cell."
            )
        if id(holder) not in self._loops:
            self._loops[id(holder)] = holder.values
        return self._loops[id(holder)][column :: len(holder.tags)]

    def has(self, prefixes: tuple[str, ...]) -> str:
        """Return the first tag that starts with one of ``prefixes``, or an empty string."""
        return next((tag for tag in self._places if tag.startswith(prefixes)), "")

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        """Return the known values of tags of the symmetry that match ``pattern`` wholly."""
        values = (self.first(tag) for tag in self._symmetry if pattern.fullmatch(tag))
        return [value for value in values if value]

    def column(self, *tags: str) -> list[str]:
        """Return the values of the first of ``tags`` that the block has, in loop or pair."""
        for tag in tags:
            if tag in self._places:
                values = self._values(self._places[tag])
                return [v if v in UNKNOWN else _text(v) for v in values]
        return []

    def first(self, *tags: str) -> str:
        """Return the first known value among ``tags``, or an empty string."""
        for tag in tags:
            place = self._places.get(tag)
            values = [] if place is None else self._values(place)
            if values and (value := _text(values[0])) not in UNKNOWN:
                return value
        return ""


def _text(value: str) -> str:
    """Return a value without its quotes."""
    if value and value[0] not in "'\";.?":  # most values, faster than by the parser
        return value.strip()
    return cif.as_string(value).strip()


def _plain(tag: str) -> str:
    return tag.lower().replace(".", "_")
