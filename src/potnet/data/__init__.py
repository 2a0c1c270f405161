"""Datasets: reading them, dividing them, and the one that comes with the package."""

from potnet.data.dataset import Dataset
from potnet.data.entry import Entry
from potnet.data.opening import available, open, scan
from potnet.data.splits import Split, given_split, k_fold, published_split, random_split

__all__ = [
    "Dataset",
    "Entry",
    "Split",
    "available",
    "given_split",
    "k_fold",
    "open",
    "published_split",
    "random_split",
    "scan",
]
