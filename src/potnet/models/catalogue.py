"""The models that come with potnet, by name."""

from __future__ import annotations

import json
from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"


def available() -> list[str]:
    """Return the names of the models that come with potnet, for :func:`potnet.load`."""
    return list(bundled())


def bundled() -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Return where each bundled model is: the folder of an archive and targets of it.

    An archive whose card names models in ``bundled`` holds them all, so that they share weights;
    any other is one model with all its targets, and no targets are listed.
    """
    found: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for path in BUNDLED.glob("*/model.json"):
        shared = json.loads(path.read_bytes()).get("bundled")
        for name, targets in (shared or {path.parent.name: ()}).items():
            found[name] = (path.parent, tuple(targets))
    return dict(sorted(found.items()))
