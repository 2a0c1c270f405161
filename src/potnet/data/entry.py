"""One row of a source: a crystal with an id, targets, split and whatever else is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from potnet.crystal import Crystal

Labels = str | Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """A crystal as a source lists it.

    Attributes:
        id: Name of the crystal, which it bears too. Whoever collects entries checks that no two
            are equal.
        crystal: The crystal.
        targets: Numbers by name; nan, or no item, where a value is missing.
        split: Official label "train", "val", "test" or another of the source: one, or one for each
            target that has its own; None if there is none.
        info: What else the source says, by column: words, provenance, functionals.
        units: Unit of each target, as far as it is known.
    """

    id: str
    crystal: Crystal
    targets: Mapping[str, float] = field(default_factory=dict)
    split: Labels | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
