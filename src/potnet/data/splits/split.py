"""What a split is, and the file that it is kept in."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.errors import DataError
from potnet.files import atomic_write

Indices = NDArray[np.int64]
PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the crystals in each part; no crystal is in two of them."""

    train: Indices
    val: Indices
    test: Indices

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, np.asarray(getattr(self, part), dtype=np.int64))
        everything = np.concatenate([self.train, self.val, self.test])
        if len(np.unique(everything)) != len(everything):
            raise DataError("split: a crystal must be in one part only, got one in two.")
        for part in ("train", "val"):
            if not len(getattr(self, part)):
                raise DataError(
                    f"split: `{part}` must hold at least one crystal, got none of the "
                    f"{len(everything)} that can be divided. Give more crystals with known "
                    "targets, or larger shares."
                )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of crystals in each part."""
        return {part: len(getattr(self, part)) for part in PARTS}

    def of_rows(self, rows: Indices) -> Split:
        """Return the split of a larger dataset whose crystals ``rows`` this one divides."""
        return Split(rows[self.train], rows[self.val], rows[self.test])

    def named(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids of each part, as ``split.json`` lists them."""
        return {part: [ids[int(k)] for k in getattr(self, part)] for part in PARTS}

    def write(
        self,
        path: str | os.PathLike[str],
        ids: Sequence[str],
        *,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the ids of each part to a JSON file.

        Args:
            path: The file.
            ids: Ids of all crystals of the dataset; those in no part are listed as "unused", so
                that the file says of each crystal where it is.
            about: What to keep beside them: the dataset, the rule, its seed.
        """
        parts = self.named(ids)
        used = {id for part in parts.values() for id in part}
        unused = [id for id in ids if id not in used]
        content = (
            parts | ({"unused": unused} if unused else {}) | ({"about": about} if about else {})
        )
        with atomic_write(path) as file:
            json.dump(content, file, indent=1)
            file.write("\n")

    @staticmethod
    def read(path: str | os.PathLike[str], ids: Sequence[str], *, partial: bool = False) -> Split:
        """Return the split in a file that :meth:`write` wrote, for a dataset with ``ids``.

        Args:
            path: The file.
            ids: Ids of all crystals of the dataset.
            partial: Whether the dataset may have crystals that the file does not name; they are
                in no part.

        Raises:
            DataError: If the file cannot be read, names an id twice or one that is not in the
                dataset, or, unless ``partial``, none for a crystal of the dataset.
        """
        parts = read_parts(path)
        place = {id: k for k, id in enumerate(ids)}
        counts = Counter(id for part in parts.values() for id in part)
        twice = next((id for id, count in counts.items() if count > 1), None)
        if twice is not None:
            raise DataError(
                f"{path}: ids must not repeat, got {twice!r} twice. Keep one of the two."
            )
        absent = next((id for id in counts if id not in place), None)
        missing = None if partial else next((id for id in ids if id not in counts), None)
        if absent is not None or missing is not None:
            got = f"none for {missing!r}" if absent is None else f"{absent!r} that it lacks"
            raise DataError(
                f"{path}: ids must be those of the dataset, got {got}. "
                "Give the dataset that the split was made for."
            )
        return Split(
            *(np.array([place[id] for id in parts[part]], dtype=np.int64) for part in PARTS)
        )


def read_parts(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return the ids in a split file by part, with "unused"."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}. Check the path.") from None
    except ValueError as error:
        raise DataError(f"{path}: must be JSON, {error}. Write the split again.") from None
    parts = content if isinstance(content, dict) else {}
    named = {part: parts.get(part, [] if part == "unused" else None) for part in (*PARTS, "unused")}
    for part, ids in named.items():
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise DataError(
                f"{path}: `{part}` must be a list of ids, got {str(ids)[:60]}. "
                "Write the split with `potnet datasets split`."
            )
    return named
