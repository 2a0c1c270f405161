"""Predict properties of crystals from complete interatomic potentials.

>>> import potnet
>>> salt = potnet.Crystal(
...     numbers=[11, 17],
...     positions=[[0, 0, 0], [2.82, 2.82, 2.82]],
...     cell=[[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]],
... )
>>> sums = potnet.lattice_sums(salt, potentials=("coulomb",), tolerance=1e-10)
>>> round((sums.values[0, 1, 0] - sums.values[0, 0, 0]) * 2.82, 9)  # Madelung constant of NaCl
1.747564595

The names below are imported when they are first used, so that ``import potnet`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potnet.crystal import Crystal
    from potnet.data import Dataset
    from potnet.errors import (
        ConfigError,
        DataError,
        Failure,
        ModelError,
        PotNetError,
        StructureError,
    )
    from potnet.estimators import Classifier, Regressor
    from potnet.explanation import Explanation, explain
    from potnet.features.complete import CompleteFeatures
    from potnet.io import read, scan, write
    from potnet.models import available
    from potnet.prediction import Predictor, load
    from potnet.prediction.calculator import Calculator
    from potnet.sums import lattice_sums, pair_sums
    from potnet.training import TrainingConfig, train

__version__: str

_NAMES_BY_MODULE = {
    "potnet.crystal": ("Crystal",),
    "potnet.data": ("Dataset",),
    "potnet.errors": (
        "ConfigError",
        "DataError",
        "Failure",
        "ModelError",
        "PotNetError",
        "StructureError",
    ),
    "potnet.features.complete": ("CompleteFeatures",),
    "potnet.io": ("read", "scan", "write"),
    "potnet.models": ("available",),
    "potnet.prediction": ("Predictor", "load"),
    "potnet.prediction.calculator": ("Calculator",),
    "potnet.estimators": ("Classifier", "Regressor"),
    "potnet.explanation": ("Explanation", "explain"),
    "potnet.sums": ("lattice_sums", "pair_sums"),
    "potnet.training": ("TrainingConfig", "train"),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}
_SUBMODULES = ("data", "features", "io", "models", "prediction", "report", "sums", "training")

__all__ = [
    "Calculator",
    "Classifier",
    "CompleteFeatures",
    "ConfigError",
    "Crystal",
    "DataError",
    "Dataset",
    "Explanation",
    "Failure",
    "ModelError",
    "PotNetError",
    "Predictor",
    "Regressor",
    "StructureError",
    "TrainingConfig",
    "__version__",
    "available",
    "explain",
    "lattice_sums",
    "load",
    "pair_sums",
    "read",
    "scan",
    "train",
    "write",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("potnet")
    elif name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"potnet.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
