"""Yes-no targets: ``gap > 0.01`` is 1 where the target ``gap`` is above, 0 where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from potnet.data.dataset import Dataset

_QUESTION = re.compile(r"(\S.*) > ([-+0-9.eE]+)")


def column_of(name: str) -> str:
    """Return the column that the target ``name`` is made from: itself, or what it asks about."""
    question = _parse(name)
    return question[0] if question else name


def is_question(name: str) -> bool:
    """Return whether ``name`` has the form ``TARGET > NUMBER``."""
    return _parse(name) is not None


def file_name(name: str) -> str:
    """Return the target ``name`` as a part of file names, which may not hold ``>``."""
    return name.replace(" > ", "-above-")


def with_questions(dataset: Dataset, names: Iterable[str]) -> Dataset:
    """Return ``dataset`` with a column for each question in ``names`` about one of its targets.

    A question is in the parts of the split in which its target is, and has no unit.
    """
    targets, splits = dict(dataset.targets), dict(dataset.splits)
    for name in names:
        question = _parse(name)
        if question is None or name in targets or question[0] not in targets:
            continue
        column, limit = question
        values = targets[column]
        targets[name] = np.where(np.isfinite(values), values > limit, np.nan)
        if column in splits:
            splits[name] = splits[column]
    if len(targets) == len(dataset.targets):
        return dataset
    return replace(dataset, targets=targets, splits=splits)


def _parse(name: str) -> tuple[str, float] | None:
    match = _QUESTION.fullmatch(name)
    try:
        return (match[1], float(match[2])) if match else None
    except ValueError:
        return None
