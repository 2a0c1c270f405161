"""Datasets: reading them, dividing them, and the one that comes with the package.

The names below are imported when they are first used: a prediction needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_MODULES = {
    "building": ("build",),
    "dataset": ("Dataset",),
    "opening": ("iter_records", "open"),
    "origins": ("is_dataset", "named_datasets", "origin_of"),
    "parquet_folder": ("ParquetFolder",),
    "record": ("Record",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'potnet.data' has no attribute {name!r}")
    value = getattr(import_module(f"potnet.data.{_MODULE_OF.get(name, 'splits')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
