"""The door to :mod:`latticesums`: its functions, raising potnet's own errors.

Each is imported when it is first asked for. Everything else of latticesums (potentials, results) is
used as it stands there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import latticesums
from potnet.errors import ConfigError, StructureError

if TYPE_CHECKING:
    from latticesums import (
        directed_shells,
        directed_sums,
        energy,
        images,
        lattice_sums,
        orbit_shells,
        orbit_sums,
        pair_sums,
        parse_potential,
        partial_sums,
        point_sums,
        resolve,
    )

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "directed_shells",
    "directed_sums",
    "energy",
    "images",
    "lattice_sums",
    "orbit_shells",
    "orbit_sums",
    "pair_sums",
    "parse_potential",
    "partial_sums",
    "point_sums",
    "resolve",
]


def _translated(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function``, raising errors of potnet in place of those of latticesums."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except latticesums.StructureError as error:
            raise StructureError(str(error)) from error
        except latticesums.ConfigError as error:
            raise ConfigError(str(error)) from error

    return wrapper


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'potnet.sums' has no attribute {name!r}")
    globals()[name] = value = _translated(getattr(latticesums, name))
    return value
