"""Datasets: reading them, dividing them, and the one that comes with the package."""

from potnet.data.building import build
from potnet.data.dataset import Dataset
from potnet.data.entry import Entry
from potnet.data.opening import available, is_dataset, open, origin_of, scan
from potnet.data.splits import (
    Split,
    SplitConfig,
    given_split,
    k_fold,
    make_split,
    nested_k_fold,
    published_split,
    random_split,
)
from potnet.data.store import Store

__all__ = [
    "Dataset",
    "Entry",
    "Split",
    "SplitConfig",
    "Store",
    "available",
    "build",
    "given_split",
    "is_dataset",
    "k_fold",
    "make_split",
    "nested_k_fold",
    "open",
    "origin_of",
    "published_split",
    "random_split",
    "scan",
]
