"""The door to :mod:`latticesums`: its functions, raising potnet's own errors.

Everything else of latticesums (potentials, results) is used as it stands there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import latticesums
from potnet.errors import ConfigError, StructureError

P = ParamSpec("P")
R = TypeVar("R")


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


directed_shells = _translated(latticesums.directed_shells)
lattice_sums = _translated(latticesums.lattice_sums)
orbit_shells = _translated(latticesums.orbit_shells)
orbit_sums = _translated(latticesums.orbit_sums)
pair_sums = _translated(latticesums.pair_sums)
parse_potential = _translated(latticesums.parse_potential)
point_sums = _translated(latticesums.point_sums)
resolve = _translated(latticesums.resolve)
