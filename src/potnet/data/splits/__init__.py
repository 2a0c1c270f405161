"""Dividing crystals into training, validation and test, by rules that others can repeat."""

from potnet.data.splits.by_crystal import (
    fold_split,
    given_split,
    k_fold,
    nested_k_fold,
    published_split,
    random_split,
    shuffled_folds,
    stratified_folds,
)
from potnet.data.splits.by_group import group_folds, group_split, numbered, ordered_split
from potnet.data.splits.config import SplitConfig
from potnet.data.splits.groups import cluster, fingerprint, groups_of, prototype
from potnet.data.splits.make import make_split
from potnet.data.splits.split import Split, read_parts

__all__ = [
    "Split",
    "SplitConfig",
    "cluster",
    "fingerprint",
    "fold_split",
    "given_split",
    "group_folds",
    "group_split",
    "groups_of",
    "k_fold",
    "make_split",
    "nested_k_fold",
    "numbered",
    "ordered_split",
    "prototype",
    "published_split",
    "read_parts",
    "random_split",
    "shuffled_folds",
    "stratified_folds",
]
