"""How the settings of two contestants differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def different(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of nested settings that is absent from others or has another value there."""
    found = {}
    for name, value in settings.items():
        if name in others and isinstance(value, Mapping) and isinstance(others[name], Mapping):
            if inner := different(value, others[name]):
                found[name] = inner
        elif name not in others or others[name] != value:
            found[name] = value
    return found
