"""The values of a CIF data block, by tag."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from gemmi import cif

from potnet.crystal import MAX_ATOMS
from potnet.errors import StructureError

_SYMMETRY = ("_space_group", "_symmetry", "_crystal_system", "_cell_setting")
UNKNOWN = ("", ".", "?")  # what stands for a value that is not there
_MARKS = "'\";.?"  # at the beginning of a value: quotes, or perhaps that there is none
_USUAL = 10_000  # characters of all tags; of files with more, nothing is kept


class Form:
    """What the tags of a block tell without their values: the same for all files of a program.

    Args:
        tags: As they are written.
    """

    def __init__(self, tags: tuple[str, ...]) -> None:
        self.tags = [tag.lower().replace(".", "_") for tag in tags]
        self._symmetry = [tag for tag in dict.fromkeys(self.tags) if tag.startswith(_SYMMETRY)]
        self._first: dict[tuple[str, ...], str] = {}
        self._meant: dict[re.Pattern[str], list[str]] = {}

    def first(self, prefixes: tuple[str, ...]) -> str:
        """Return the first tag that starts with one of ``prefixes``, or an empty string."""
        if prefixes not in self._first:
            found = (tag for tag in self.tags if tag.startswith(prefixes))
            self._first[prefixes] = next(found, "")
        return self._first[prefixes]

    def meant(self, pattern: re.Pattern[str]) -> list[str]:
        """Return the tags of the symmetry that match ``pattern`` wholly."""
        if pattern not in self._meant:
            self._meant[pattern] = [tag for tag in self._symmetry if pattern.fullmatch(tag)]
        return self._meant[pattern]


_form_of = lru_cache(maxsize=256)(Form)


class Block:
    """The values of a data block by tag, in lower case and with ``_`` for the newer ``.``."""

    def __init__(self, block: cif.Block, where: str) -> None:
        self._where = where
        self._loops: dict[int, list[str]] = {}  # the values of the loops that were asked for
        tags: list[str] = []
        places: list[tuple[Any, int]] = []  # a pair or a loop, and the column in it
        for item in block:
            pair: Any = item.pair
            loop = item.loop if pair is None else None
            if pair is not None:
                tags.append(pair[0])
                places.append((pair[1], -1))
            elif loop:
                tags += loop.tags
                places += [(loop, column) for column in range(loop.width())]
        is_usual = sum(map(len, tags)) <= _USUAL
        self._form = (_form_of if is_usual else Form)(tuple(tags))
        self._places = dict(zip(self._form.tags, places, strict=True))
        if len(self._places) < len(places):
            self._places = {}
            for tag, place in zip(self._form.tags, places, strict=True):
                self._add(tag, place)

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
        if id(holder) not in self._loops:
            if holder.length() > MAX_ATOMS:
                raise StructureError(
                    f"{self._where}: a loop of `{holder.tags[column]}` must have at most "
                    f"{MAX_ATOMS} rows, got {holder.length()}. Use a smaller cell."
                )
            self._loops[id(holder)] = holder.values
        return self._loops[id(holder)][column :: holder.width()]

    def has(self, prefixes: tuple[str, ...]) -> str:
        """Return the first tag that starts with one of ``prefixes``, or an empty string."""
        return self._form.first(prefixes)

    def has_any(self, tags: frozenset[str]) -> bool:
        """Return whether one of ``tags`` is there."""
        return not tags.isdisjoint(self._places)

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        """Return the known values of tags of the symmetry that match ``pattern`` wholly."""
        return [value for tag in self._form.meant(pattern) if (value := self.first(tag))]

    def column(self, *tags: str) -> list[str]:
        """Return the values of the first of ``tags`` that the block has, in loop or pair."""
        for tag in tags:
            if (place := self._places.get(tag)) is not None:
                values = self._values(place)
                # Most values have no quotes: what is done here is faster than a call.
                return [v.strip() if v and v[0] not in _MARKS else _known(v) for v in values]
        return []

    def first(self, *tags: str) -> str:
        """Return the first known value among ``tags``, or an empty string."""
        for tag in tags:
            place = self._places.get(tag)
            values = [] if place is None else self._values(place)
            if values and (value := _text(values[0])) not in UNKNOWN:
                return value
        return ""


def _known(value: str) -> str:
    """Return a value without its quotes, and what stands for none as it is."""
    return value if value in UNKNOWN else _text(value)


def _text(value: str) -> str:
    """Return a value without its quotes."""
    if value and value[0] not in _MARKS:  # most values, faster than by the parser
        return value.strip()
    return cif.as_string(value).strip()
