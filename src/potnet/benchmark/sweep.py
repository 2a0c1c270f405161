"""Several rows from one file: ablations, and the models that potnet ships.

A sweep is a YAML file::

    what: one line about it
    suite: name of a suite; "own" or none: the data's own split, or that of the settings
    data: file or name of the data, unless given elsewhere
    base: settings of every run, as ``potnet train --config`` takes them
    runs: name of a run -> the settings in which it differs
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from potnet.errors import ConfigError
from potnet.training import TrainingConfig


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        suite: Name of the suite.
        data: File or name of the data; "" if the file does not say.
        configs: Settings of each run.
        what: One line about it.
    """

    suite: str
    data: str
    configs: Mapping[str, TrainingConfig]
    what: str = ""


def read_sweep(path: str | os.PathLike[str], **overrides: Any) -> Sweep:
    """Return the sweep in a YAML file, with some settings of all runs replaced.

    Raises:
        ConfigError: If the file cannot be read, or a setting is unknown or out of range.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: must be a YAML file, {reason}. Correct it.") from None
    known = {"what", "suite", "data", "base", "runs"}
    if not isinstance(content, dict) or not content.get("runs") or content.keys() - known:
        raise ConfigError(
            f"{path}: must have `runs`, and beside them only suite, data, base and what, got "
            f"{', '.join(map(str, content)) if isinstance(content, dict) else 'no mapping'}. "
            "Correct the file."
        )
    base = content.get("base") or {}
    return Sweep(
        suite=content.get("suite", "own"),
        data=content.get("data", ""),
        configs={
            str(name): TrainingConfig(**merged(merged(base, changes or {}), overrides))
            for name, changes in content["runs"].items()
        },
        what=" ".join(str(content.get("what", "")).split()),
    )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``, mappings inside mappings included."""
    result = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if inner else value
    return result


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
