"""The split of a dataset that its settings ask for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potnet.data.dataset import Dataset
from potnet.data.splits import by_crystal, by_group
from potnet.data.splits.config import SplitConfig
from potnet.data.splits.groups import groups_of, times_of, with_elements
from potnet.data.splits.split import Split
from potnet.errors import ConfigError, DataError, Failure

_log = logging.getLogger(__name__)


def make_split(
    dataset: Dataset, config: SplitConfig, targets: Sequence[str] = ()
) -> tuple[Split, list[Failure]]:
    """Return the split of ``dataset`` that ``config`` asks for.

    Args:
        dataset: What is divided.
        config: The rule.
        targets: Columns to learn. Crystals for which none of them is known are left out before
            any other rule; those that an official split or a file names as test remain, because
            they can be predicted all the same.

    Returns:
        The split, and the crystals in no part of it with the reason.

    Raises:
        ConfigError: If given labels are asked for and there are none.
        DataError: If the dataset cannot be divided so.
    """
    known = np.full(len(dataset), not targets)
    for name in targets:
        known |= np.isfinite(dataset.targets[name])
    if not known.any():
        raise DataError(
            f"{dataset.name}: {', '.join(targets)} must be known for some crystals, got none of "
            f"{len(dataset)} with a value. Choose another target."
        )
    named = _named(dataset, config, targets)
    if named is None:
        rows = np.flatnonzero(known)
        usable = dataset if known.all() else dataset.subset(rows)
        split, asked = _ruled(usable, config).of_rows(rows), np.ones(len(dataset), bool)
    else:
        split = Split(named.train[known[named.train]], named.val[known[named.val]], named.test)
        asked = _members(named, len(dataset))
    unknown = f"No value of {', '.join(targets)} is known: left out."
    failures = _failures(dataset, asked & ~known & ~_members(split, len(dataset)), unknown)
    if config.kind == "file":
        failures += _failures(dataset, ~asked, f"{config.path} puts it in no part: left out.")
    elif n_out := int((known & ~asked).sum()):
        _log.warning(
            "%s: the split of the data puts %d of %d crystals in no part; they are left out.",
            dataset.name,
            n_out,
            len(dataset),
        )
    return split, failures


def _members(split: Split, n: int) -> NDArray[np.bool_]:
    """Return which of ``n`` crystals are in a part."""
    found = np.zeros(n, bool)
    found[np.concatenate([split.train, split.val, split.test])] = True
    return found


def _failures(dataset: Dataset, out: NDArray[np.bool_], reason: str) -> list[Failure]:
    return [Failure(dataset.ids[k], "read", reason) for k in np.flatnonzero(out)]


def _named(dataset: Dataset, config: SplitConfig, targets: Sequence[str]) -> Split | None:
    """Return the split by the dataset's own labels or folds or by a file; None for other kinds."""
    if config.kind == "file":
        return Split.read(config.path, dataset.ids, partial=True)
    labels = dataset.split_for([config.of] if config.of else targets)
    if config.of and labels is not None:
        labels = np.where(labels == "", "train", labels)
    if config.kind not in ("given", "auto"):
        return None
    if labels is not None:
        return by_crystal.given_split(labels, seed=config.seed, val_share=config.val)
    if dataset.folds is not None:
        return by_crystal.fold_split(
            dataset.folds, config.fold, seed=config.seed, val_share=config.val
        )
    if config.kind == "given":
        raise ConfigError(
            "training config: `split` is given, but the dataset has no labels for these "
            "targets. Use random, published or k-fold."
        )
    return None


def _ruled(dataset: Dataset, config: SplitConfig) -> Split:
    """Return the split by a rule."""
    n, seed = len(dataset), config.seed
    if config.kind == "time":
        return by_group.ordered_split(times_of(dataset, config.column), shares=config.shares)
    if config.kind == "published":
        return by_crystal.published_split(n, seed=seed, shares=config.shares)
    if config.kind == "element":
        test = with_elements(dataset.crystals, config.elements)
        return by_group.hold_out(_groups(dataset, config), test, seed=seed, val_share=config.val)
    folds = {"n_folds": config.n_folds, "fold": config.fold, "seed": seed}
    inner = {"inner_folds": config.inner_folds, "inner_fold": config.inner_fold}
    if config.by == "crystal":
        if config.kind == "k-fold":
            return by_crystal.k_fold(n, **folds, val_share=config.val)
        if config.kind == "nested":
            return by_crystal.nested_k_fold(n, **folds, **inner)
        return by_crystal.random_split(n, seed=seed, shares=config.shares)
    groups = _groups(dataset, config)
    if config.kind == "k-fold":
        return by_group.group_k_fold(groups, **folds, val_share=config.val)
    if config.kind == "nested":
        return by_group.group_nested_k_fold(groups, **folds, **inner)
    return by_group.group_split(groups, seed=seed, shares=config.shares)


def _groups(dataset: Dataset, config: SplitConfig) -> by_group.Groups:
    return groups_of(dataset.crystals, config.by, n_clusters=config.n_clusters, seed=config.seed)
