"""Potentials written as text: by name, with their numbers after a colon."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points

from latticesums.errors import ConfigError
from latticesums.potentials.base import Combination, Potential
from latticesums.potentials.combinations import Buckingham, LennardJones, Morse
from latticesums.potentials.exponentials import Exponential, Pauli, Yukawa
from latticesums.potentials.gaussians import CutOff, Gaussian, Shell
from latticesums.potentials.powers import Coulomb, InversePower, London

#: Entry points of other packages under this name are potentials: a class each.
GROUP = "latticesums.potentials"

_OWN = (
    Buckingham,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Morse,
    Pauli,
    Shell,
    Yukawa,
)


@cache
def named_potentials() -> Mapping[str, type[Potential]]:
    """Return all potentials that can be named, those of other packages included.

    A name of this package stays what it is, whatever else is installed.
    """
    own = {re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in _OWN}
    others = {point.name.lower(): point for point in entry_points(group=GROUP)}
    loaded = {name: point.load() for name, point in others.items() if name not in own}
    return dict(sorted({**loaded, **own}.items()))


def parse_potential(text: str) -> Potential:
    """Return the potential that is written as ``name`` or ``name:number,number``.

    Args:
        text: Name of a class of :mod:`latticesums` in small letters with hyphens, or of an entry
            point of the group ``latticesums.potentials``, and its arguments in their order, for
            example ``"inverse-power:4"``. ``to`` and a distance in Å behind it cut it off there
            (:class:`CutOff`).

    Raises:
        ConfigError: If there is no such potential, or its numbers are not what it takes.

    >>> parse_potential("inverse-power:4")
    InversePower(exponent=4.0)
    >>> parse_potential("shell:2.5,0.5,6").name
    'shell(2.5, 0.5, 6)'
    >>> parse_potential("coulomb to 6")
    CutOff(potential=Coulomb(exponent=1.0), cutoff=6.0)
    """
    if not isinstance(text, str):
        raise ConfigError(
            f"potential: `text` must be a name, got {type(text).__name__}. "
            'Use one such as "coulomb".'
        )
    whole, to, cutoff = text.rpartition(" to ")
    if to:
        try:
            radius = float(cutoff)
        except ValueError:
            raise ConfigError(
                f"potential: the distance behind `to` must be a number in Å, got {cutoff!r}. "
                "Write, for example, coulomb to 6."
            ) from None
        return CutOff(parse_potential(whole), radius)
    name, _, numbers = text.partition(":")
    known = named_potentials()
    kind = known.get(name.strip().lower())
    if kind is None:
        raise ConfigError(
            f"potential: `name` must be one of {', '.join(known)}, got {name!r}. "
            "Use one of those names."
        )
    parameters = list(inspect.signature(kind).parameters)
    try:
        values = [float(x) for x in numbers.split(",")] if numbers.strip() else []
    except ValueError:
        values = None
    if values is None or len(values) != len(parameters):
        wanted = ":" + ",".join(p.upper() for p in parameters) if parameters else ""
        raise ConfigError(
            f"potential: `{name}` must be written as {name}{wanted}, got {text!r}. "
            f"Give {len(parameters) or 'no'} number{'s' * (len(parameters) != 1)}."
        )
    return kind(*values)


def resolve(potentials: Sequence[Potential | str] | Potential | str) -> tuple[Potential, ...]:
    """Return potentials for a list of potentials and names, or for a single one.

    Raises:
        ConfigError: If the list is empty, or an item is neither a potential nor a known name.

    >>> resolve(["coulomb", "yukawa:0.5"])
    (Coulomb(exponent=1.0), Yukawa(rate=0.5))
    """
    if isinstance(potentials, str | Potential):
        potentials = (potentials,)
    if not isinstance(potentials, Sequence):
        raise ConfigError(
            "lattice sums: `potentials` must be a list of potentials or their names, got "
            f'{type(potentials).__name__}. Use one such as ["coulomb"].'
        )
    if len(potentials) == 0:
        raise ConfigError(
            "lattice sums: `potentials` must hold at least one potential, got none. "
            'Name one, for example "coulomb".'
        )
    found: list[Potential] = []
    for item in potentials:
        if isinstance(item, str):
            item = parse_potential(item)
        elif not isinstance(item, Potential):
            raise ConfigError(
                f"lattice sums: `potentials` must hold potentials or their names, got {item!r}. "
                'Use one such as InversePower(4), or a name such as "coulomb".'
            )
        found.append(item)
    return tuple(found)


def unit_of(potential: Potential) -> str:
    """Return the unit of a sum of a potential, empty where it has none.

    An inverse power carries a length, a bounded potential carries nothing; a combination has the
    unit of its coefficients, which is the caller's.

    Raises:
        ConfigError: If it is no potential.
    """
    if isinstance(potential, Combination):
        return ""
    if not isinstance(potential, Potential):
        raise ConfigError(
            f"unit_of: `potential` must be a potential, got {type(potential).__name__}. "
            "Make one of a name with parse_potential."
        )
    order = float(potential.order)
    return {0.0: "", 1.0: "1/Å"}.get(order, f"Å^-{order:g}")
