"""The potentials that can be summed."""

from __future__ import annotations

from collections.abc import Sequence

from latticesums.errors import ConfigError
from latticesums.potentials.base import Combination, Potential, Scalar, Sum
from latticesums.potentials.combinations import Buckingham, Expansion, LennardJones, Morse
from latticesums.potentials.exponentials import Exponential, Pauli, Yukawa
from latticesums.potentials.gaussians import CutOff, Gaussian, Shell
from latticesums.potentials.powers import Coulomb, InversePower, London

__all__ = [
    "Buckingham",
    "Combination",
    "Coulomb",
    "CutOff",
    "Expansion",
    "Exponential",
    "Gaussian",
    "InversePower",
    "LennardJones",
    "London",
    "Morse",
    "Pauli",
    "Potential",
    "Scalar",
    "Shell",
    "Sum",
    "Yukawa",
    "resolve",
]

_NAMED: dict[str, type[Potential]] = {"coulomb": Coulomb, "london": London, "pauli": Pauli}


def resolve(potentials: Sequence[Potential | str]) -> tuple[Potential, ...]:
    """Return potentials for a list of potentials and names.

    Raises:
        ConfigError: If the list is empty, or an item is neither a potential nor a known name.
    """
    if isinstance(potentials, str | Potential):
        potentials = (potentials,)
    if len(potentials) == 0:
        raise ConfigError(
            "lattice sums: `potentials` must hold at least one potential, got none. "
            'Name one, for example "coulomb".'
        )
    found: list[Potential] = []
    for item in potentials:
        if isinstance(item, Potential):
            found.append(item)
        elif isinstance(item, str) and item.lower() in _NAMED:
            found.append(_NAMED[item.lower()]())
        else:
            names = ", ".join(f'"{name}"' for name in _NAMED)
            raise ConfigError(
                f"lattice sums: `potentials` must hold potentials or the names {names}, "
                f"got {item!r}. Use one of those names, or a potential such as InversePower(4)."
            )
    return tuple(found)
