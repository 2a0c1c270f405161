"""A suite with its data: exactly its crystals, its targets and its folds."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potnet.benchmark.suites import Suite, Task
from potnet.data import Dataset, Split, SplitConfig, make_split
from potnet.data import open as open_dataset
from potnet.data.public.official import MATBENCH_SEED
from potnet.data.splits.by_crystal import shuffled_folds, stratified_folds
from potnet.errors import ConfigError, DataError
from potnet.targets import with_binary_targets

_NUMBERED = re.compile(r"(mb-.*-)(\d+)")


@dataclass(frozen=True, eq=False)
class OpenSuite:
    """A suite with its data.

    Attributes:
        suite: The suite.
        dataset: Its crystals and targets.
        folds: Fold of each crystal, shape (n,); None for one official split.
        notes: What differs from the complete data, in words.
        left_out: Ids of the entries of the complete data that are not here.
    """

    suite: Suite
    dataset: Dataset
    folds: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by target."""
        return {task.target: task for task in self.suite.tasks}

    def asking(self, targets: Sequence[str]) -> OpenSuite:
        """Return the suite with a task for each question in ``targets`` about one of its tasks."""
        dataset = with_binary_targets(self.dataset, targets)
        if dataset is self.dataset:
            return self
        questions = tuple(Task(name, "") for name in dataset.targets if name not in self.tasks)
        suite = replace(self.suite, tasks=(*self.suite.tasks, *questions))
        return replace(self, suite=suite, dataset=dataset)

    def split(
        self, targets: Sequence[str], fold: int, *, turn: int = 0, rule: SplitConfig | None = None
    ) -> Split:
        """Return training, validation and test crystals of a fold.

        Args:
            targets: What is learned together. Where the targets have splits of their own, the
                test crystals of any of them are test crystals, and validation crystals likewise.
            fold: Which fold, from 0.
            turn: Which inner part of a fold validates (:func:`outer_and_inner`).
            rule: Share and seed of the inner parts; the whole split where the suite has none.

        Raises:
            DataError: If a part would be empty.
        """
        rule = rule or SplitConfig()
        most = self.suite.most
        if self.folds is not None:
            return outer_and_inner(
                self.folds, fold, turn=turn, val_share=rule.val, seed=rule.seed, most=most
            )
        if self.suite.rule == "labels":
            rule = rule.model_copy(update={"kind": "given"})
        split, _ = make_split(self.dataset, rule, targets)
        return at_most(split, most, seed=rule.seed) if most else split

    def job_dataset(self, targets: Sequence[str], split: Split) -> Dataset:
        """Return the data as a contestant sees them: the test targets are nan."""
        columns = {}
        for name in targets:
            columns[name] = self.dataset.targets[name].copy()
            columns[name][split.test] = np.nan
        labels = np.full(len(self.dataset), "", dtype="<U5")
        for part in ("train", "val", "test"):
            labels[getattr(split, part)] = part
        return replace(
            self.dataset,
            targets=columns,
            units={name: self.tasks[name].unit for name in targets},
            splits={"": labels},
        )


def open_suite(suite: Suite, source: str | os.PathLike[str] = "") -> OpenSuite:
    """Return a suite with its data.

    Args:
        suite: The suite.
        source: File or name of the data; the suite's download if empty.

    Raises:
        ConfigError: If no data are given and the suite has no download.
        DataError: If a target is missing, or the folds cannot be known from the data or
            contradict its labels.
    """
    source = str(source) or suite.download
    if not source:
        raise ConfigError(
            f"{suite.name}: `--data` must name the file of this suite, it has no download. "
            "Give the path."
        )
    dataset = open_dataset(source)
    if not suite.tasks:
        tasks = tuple(Task(name, dataset.units[name]) for name in dataset.targets)
        suite = replace(suite, tasks=tasks)
    dataset = _with_names_of(suite, dataset)
    if suite.rule == "labels":
        labels = dataset.split_for([task.target for task in suite.tasks])
        if labels is None:
            raise DataError(
                f"{suite.name}: the data must carry the official split, got no labels. "
                "Give the file that has them."
            )
        used = labels != ""
    else:
        used = np.any([np.isfinite(dataset.targets[task.target]) for task in suite.tasks], axis=0)
    if not used.any():
        raise DataError(f"{suite.name}: must have a crystal with a target, got none in {source}.")
    dataset = dataset.subset(used)
    folds, left_out = None, ()
    if suite.is_matbench:
        folds, left_out = _matbench_folds(suite, dataset, source)
    elif isinstance(suite.rule, SplitConfig):
        folds = _folds_by(suite.rule, dataset)
    notes = []
    if suite.n_entries and len(dataset) != suite.n_entries:
        notes.append(f"{len(dataset):,} of the {suite.n_entries:,} entries are used.")
    return OpenSuite(suite, dataset, folds, tuple(notes), left_out)


def outer_and_inner(
    folds: NDArray[np.int64],
    fold: int,
    *,
    turn: int,
    val_share: float,
    seed: int,
    most: int = 0,
) -> Split:
    """Return the parts of one fold: its crystals are the test, a part of the others validates.

    The others are shuffled and cut into ``round(1 / val_share)`` parts. Turn k validates on part
    k (and begins again after the last), so that networks of different turns have together learned
    from all crystals outside the fold, and each such crystal validates in one turn. With ``most``
    the others are the first of the shuffle, so that fewer are a part of more.

    Args:
        folds: Fold of each crystal, shape (n,).
        fold: The one to test.
        turn: Which part validates, from 0.
        val_share: Size of a part.
        seed: Of the shuffle.
        most: How many of the others there are, in training and validation together; 0 for all.

    Raises:
        DataError: If no crystal is in the fold.
    """
    test, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
    if not len(test):
        raise DataError(
            f"folds: fold {fold} must hold a crystal, got none. Take one of "
            f"{', '.join(str(k) for k in np.unique(folds))}."
        )
    shuffled = np.random.default_rng([seed, fold]).permutation(rest)[: most or None]
    parts = np.array_split(shuffled, max(2, round(1 / val_share)))
    val = parts.pop(turn % len(parts))
    return Split(np.sort(np.concatenate(parts)), np.sort(val), test)


def at_most(split: Split, most: int, *, seed: int) -> Split:
    """Return a split with ``most`` crystals to learn from, in its own proportions.

    Training and validation crystals are shuffled and the first are taken, so that fewer are a
    part of more.

    Args:
        split: The parts, whose test stays.
        most: Training and validation crystals together.
        seed: Of the shuffles.
    """
    n = len(split.train) + len(split.val)
    if most >= n:
        return split
    rng = np.random.default_rng(seed)
    train, val = rng.permutation(split.train), rng.permutation(split.val)
    n_val = max(1, round(most * len(val) / n))
    return Split(np.sort(train[: most - n_val]), np.sort(val[:n_val]), split.test)


def _with_names_of(suite: Suite, dataset: Dataset) -> Dataset:
    """Return the dataset with the suite's targets alone, under the suite's names.

    Raises:
        DataError: If one of them is not there.
    """
    names = {}
    for task in suite.tasks:
        found = next((n for n in (task.target, *task.aliases) if n in dataset.targets), None)
        if found is None:
            raise DataError(
                f"{suite.name}: the data must have the target {task.target!r}, got "
                f"{', '.join(dataset.targets) or 'none'}. Give the file of this suite."
            )
        names[task.target] = found
    return replace(
        dataset,
        targets={name: dataset.targets[found] for name, found in names.items()},
        units={task.target: task.unit for task in suite.tasks},
        splits={
            name: labels
            for name, found in {**names, "": ""}.items()
            if (labels := dataset.splits.get(found)) is not None
        },
    )


def _folds_by(rule: SplitConfig, dataset: Dataset) -> NDArray[np.int64]:
    """Return the fold of each crystal by a k-fold rule."""
    folds = np.full(len(dataset), -1)
    for fold in range(rule.n_folds):
        split, _ = make_split(dataset, rule.model_copy(update={"fold": fold}))
        folds[split.test] = fold
    return folds


def _matbench_folds(
    suite: Suite, dataset: Dataset, source: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the fold of each crystal, and the ids of the entries that are not here.

    The place of an entry in its task comes from its MatBench id or, if all entries are there,
    from the order of the data. Labels of the data must say the same, or alone say it; those of
    stratified folds are not looked at: a file of two tasks has the labels of the other.
    """
    n, ids = suite.n_entries, [_NUMBERED.fullmatch(id) for id in dataset.ids]
    labels = _labels(dataset, source) if suite.rule == "matbench" else {}
    if all(ids):
        places = np.array([int(found[2]) - 1 for found in ids if found])
    elif len(dataset) == n:
        places = np.arange(n)
    elif len(labels) == len(dataset):
        return np.array([labels[id] for id in dataset.ids]), ()
    else:
        raise DataError(
            f"{suite.name}: the data must say in which fold each crystal is, got neither MatBench "
            f"ids nor labels nor all {n} entries. Give the file of this suite."
        )
    if not (places < n).all():
        row = int(np.argmax(places >= n))
        raise DataError(
            f"{suite.name}: {dataset.ids[row]!r} must be one of {n} entries, got number "
            f"{places[row] + 1}. Give the file of this suite."
        )
    if suite.rule == "matbench":
        folds = shuffled_folds(n, seed=MATBENCH_SEED)[places]
    elif len(dataset) == n:
        classes = np.empty(n)
        classes[places] = dataset.targets[suite.tasks[0].target]
        folds = stratified_folds(classes, seed=MATBENCH_SEED)[places]
    else:
        raise DataError(
            f"{suite.name}: the data must have all {n} entries, whose classes make the folds, got "
            f"{len(dataset)}. Give the file of this suite."
        )
    for id, fold in zip(dataset.ids, folds.tolist(), strict=True):
        if labels.get(id, fold) != fold:
            raise DataError(
                f"{suite.name}: {id!r} must be in fold {fold} by MatBench's rule, "
                f"got the label {labels[id]}. Correct the file."
            )
    absent = np.setdiff1d(np.arange(n), places)
    prefix, width = (ids[0][1], len(ids[0][2])) if ids[0] else ("", 0)
    return folds, tuple(f"{prefix}{place + 1:0{width}d}" for place in absent)


def _labels(dataset: Dataset, source: str) -> dict[str, int]:
    """Return the fold that the data say of each crystal, by id, where they do."""
    if dataset.folds is not None:
        known = zip(dataset.ids, dataset.folds.tolist(), strict=True)
        return {id: fold for id, fold in known if fold >= 0}
    path = Path(source)
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        return {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        records = (json.loads(line) for line in file if '"matbench_fold"' in line)
        return {str(r.get("id", "")): int(r["matbench_fold"]) for r in records}
