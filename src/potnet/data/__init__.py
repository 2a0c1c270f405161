"""Datasets: reading them, dividing them, and the one that comes with the package."""

from potnet.data.building import build
from potnet.data.dataset import Dataset
from potnet.data.opening import iter_records, open
from potnet.data.origins import is_dataset, named_datasets, origin_of
from potnet.data.parquet_folder import ParquetFolder
from potnet.data.record import Record
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

__all__ = [
    "Dataset",
    "Record",
    "Split",
    "SplitConfig",
    "ParquetFolder",
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
    "iter_records",
    "named_datasets",
]
