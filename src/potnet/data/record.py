"""One row of a source: a crystal with an id, targets, split and whatever else is known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.text import printable

Labels = str | Mapping[str, str]

FOLD = re.compile(r"fold(\d{1,3})")
MISSING = {"", "na", "n/a", "nan", "none", "null", "-", "?"}
LONGEST = 400  # characters of a number, or of a word that may be a class

_YES_OR_NO = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


@dataclass(frozen=True)
class Record:
    """A crystal as a source lists it.

    Attributes:
        id: Name of the crystal, which it bears too. Whoever collects records checks that no two
            are equal.
        crystal: The crystal.
        targets: Numbers by name; nan, or no item, where a value is missing.
        split: Official label "train", "val" or "test": one, or one for each target that has its
            own; or "fold0", "fold1"... where folds are official; None if there is none.
        info: What else the source says, by column: words, provenance, functionals.
        units: Unit of each target, as far as it is known.
    """

    id: str
    crystal: Crystal
    targets: Mapping[str, float] = field(default_factory=dict)
    split: Labels | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def described(self) -> Crystal:
        """The crystal with the words of its row: dates, functionals, where it is from."""
        words = words_of(self.info)
        return self.crystal.replace(info={**self.crystal.info, **words}) if words else self.crystal


def words_of(info: Mapping[str, Any]) -> dict[str, str]:
    """Return what ``info`` says in words."""
    return {name: value for name, value in info.items() if isinstance(value, str) and value}


def yes_or_no(value: Any) -> float | None:
    """Return 1 for true and yes, 0 for false and no, None for all else."""
    return _YES_OR_NO.get(str(value).strip().lower())


def word(value: Any) -> str | None:
    """Return the class that a cell names, "" where it is missing, None for what is no word.

    >>> word(" metal "), word(True), word("na"), word([1])
    ('metal', 'true', '', None)
    """
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if not isinstance(value, str):
        return None
    text = value.strip()
    return "" if text.lower() in MISSING else printable(text, LONGEST)


def official_folds(labels: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the numbers of official folds, where the labels are fold0, fold1...; else None."""
    found = [FOLD.fullmatch(label) for label in labels]
    n_labels = sum(map(bool, labels))
    if not n_labels or sum(map(bool, found)) != n_labels:
        return None
    return np.array([int(match.group(1)) if match else -1 for match in found])
