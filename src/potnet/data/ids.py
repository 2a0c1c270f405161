"""Which ids there are and where, of any number, in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

RECENT = 2**16  # ids in a dictionary before they join the sorted ones


class Ids:
    """Which ids there are and where, in 24 bytes each, whatever their length.

    Args:
        found: Ids of the first places, in any portions.
    """

    def __init__(self, found: Iterable[Sequence[str]] = ()) -> None:
        self.size = 0
        self._recent: dict[bytes, int] = {}
        self._keys, self._places = np.empty(0, "S16"), np.empty(0, np.int64)
        for ids in found:
            self.add(ids)

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the place of each of ``ids``, -1 for those that are not there."""
        return self._find([_key(id) for id in ids])

    def add(self, ids: Sequence[str]) -> list[int]:
        """Add ``ids`` in the next places; return which of them were there and are left out."""
        keys = [_key(id) for id in ids]
        there = self._find(keys) >= 0
        repeated = []
        for row, key in enumerate(keys):
            if there[row] or key in self._recent:
                repeated.append(row)
            else:
                self._recent[key] = self.size
                self.size += 1
        if len(self._recent) >= RECENT:
            self._merge()
        return repeated

    def _find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        found = np.array([self._recent.get(key, -1) for key in keys], np.int64)
        if len(self._keys) and len(keys):
            wanted = np.array(keys, "S16")
            place = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
            hit = self._keys[place] == wanted
            found[hit] = self._places[place[hit]]
        return found

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, np.array(list(self._recent), "S16")])
        places = np.concatenate([self._places, np.array(list(self._recent.values()), np.int64)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._places, self._recent = keys[order], places[order], {}


def _key(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=16).digest()
