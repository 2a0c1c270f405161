"""Sums and energies for JAX: called back on the host, with first derivatives by formulas.

Needs jax, which nothing else here does, and its 64 bits: ``jax.config.update("jax_enable_x64",
True)``. Under ``jit``, ``grad`` and ``vmap`` they are computed by this package on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import jax  # pyright: ignore[reportMissingImports]
import numpy as np
import torch

from latticesums import energies, pairs
from latticesums.errors import ConfigError
from latticesums.pairs import DEFAULT_POTENTIALS
from latticesums.potentials import Potential, resolve

FLOAT = np.float64


def pair_sums(
    positions: Any,
    cell: Any,
    potentials: Sequence[Potential | str] = DEFAULT_POTENTIALS,
    *,
    tolerance: float = 1e-8,
) -> Any:
    """Return S(i, j) of all pairs of one crystal, see :func:`latticesums.pair_sums`.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        potentials: Potentials or their names.
        tolerance: Largest absolute error of a value.

    Returns:
        A JAX array, shape (n_atoms, n_atoms, n_potentials), with a first derivative.

    Raises:
        ConfigError: If JAX works with 32 bits.
    """
    _check_bits()
    chosen, n = resolve(potentials), positions.shape[0]

    def values(x: Any, a: Any) -> Any:
        sums = pairs.pair_sums(_tensor(x), _tensor(a), chosen, tolerance=tolerance)
        return sums.values.numpy().reshape(n, n, -1)

    def pulled(x: Any, a: Any, loss: Any) -> tuple[Any, Any]:
        given = _tensor(x).requires_grad_(), _tensor(a).requires_grad_()
        sums = pairs.pair_sums(*given, chosen, tolerance=tolerance).values
        found = torch.autograd.grad(sums, given, _tensor(loss).reshape(sums.shape))
        return found[0].numpy(), found[1].numpy()

    shape = jax.ShapeDtypeStruct((n, n, len(chosen)), FLOAT)
    return _called_back(values, pulled, shape)(positions, cell)


def energy(
    positions: Any,
    cell: Any,
    charges: Any,
    *,
    potential: Potential | str = "coulomb",
    tolerance: float = 1e-6,
    charged: Literal["refuse", "background"] = "refuse",
) -> Any:
    """Return the energy of the charges of one crystal, see :func:`latticesums.energy`.

    Args:
        positions: Cartesian coordinates in Å, shape (n_atoms, 3).
        cell: Lattice vectors as rows in Å, shape (3, 3).
        charges: Charge of each atom, shape (n_atoms,).
        potential: What V(r) is.
        tolerance: Largest absolute error.
        charged: Whether charges that do not add up to 0 are refused, or neutralised.

    Returns:
        A number of JAX, with first derivatives by positions, cell and charges.

    Raises:
        ConfigError: If JAX works with 32 bits.
    """
    _check_bits()

    def whole(x: Any, a: Any, q: Any) -> energies.Energies:
        return energies.energy(
            np.array(x), np.array(a), np.array(q),
            potential=potential, tolerance=tolerance, charged=charged,
        )  # fmt: skip

    def value(x: Any, a: Any, q: Any) -> Any:
        return whole(x, a, q).energy.numpy().reshape(())

    def pulled(x: Any, a: Any, q: Any, loss: Any) -> tuple[Any, Any, Any]:
        found, rows = whole(x, a, q), np.asarray(a)
        if found.stress is None:
            raise ConfigError("energy: a crystal must repeat in three directions. Use pair_sums.")
        slopes = -found.forces.numpy()
        strain = found.stress[0].numpy() * abs(np.linalg.det(rows))
        apart = np.asarray(x) - np.asarray(x)[:1]
        by_cell = np.linalg.solve(rows.T, strain - apart.T @ slopes)
        return loss * slopes, loss * by_cell, loss * found.potentials.numpy()

    shape = jax.ShapeDtypeStruct((), FLOAT)
    return _called_back(value, pulled, shape)(positions, cell, charges)


def _called_back(function: Any, pulled: Any, shape: Any) -> Any:
    """Return a function of JAX that is computed by numpy, as its derivatives are."""

    def called(*given: Any) -> Any:
        return jax.pure_callback(function, shape, *given, vmap_method="sequential")

    value: Any = jax.custom_vjp(called)

    def forth(*given: Any) -> tuple[Any, Any]:
        return value(*given), given

    def back(given: Any, loss: Any) -> Any:
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, FLOAT) for x in given)
        return jax.pure_callback(pulled, shapes, *given, loss, vmap_method="sequential")

    value.defvjp(forth, back)
    return lambda *given: value(*(jax.numpy.asarray(x, FLOAT) for x in given))


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=FLOAT))


def _check_bits() -> None:
    if not jax.config.jax_enable_x64:
        raise ConfigError(
            "for_jax: `jax_enable_x64` must be True, got False. Call jax.config.update("
            '"jax_enable_x64", True) first.'
        )
