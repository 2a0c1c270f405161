"""Potentials written as text, for the command line and for configuration files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from latticesums import potentials
from latticesums.errors import ConfigError
from latticesums.potentials import Combination, CutOff, Potential


def parse_potential(text: str) -> Potential:
    """Return the potential that is written as ``name`` or ``name:number,number``.

    ``to`` and a distance in Å behind it cut it off there (:class:`CutOff`).

    Args:
        text: Name of a class of :mod:`latticesums` in small letters with hyphens, and its
            arguments in their order, for example ``"inverse-power:4"``.

    Raises:
        ConfigError: If there is no such potential, or its numbers are not what it takes.

    >>> parse_potential("inverse-power:4")
    InversePower(exponent=4.0)
    >>> parse_potential("coulomb to 6")
    CutOff(potential=Coulomb(exponent=1.0), cutoff=6.0)
    >>> parse_potential("shell:2.5,0.5,6").name
    'shell(2.5, 0.5, 6)'
    """
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
    known = _known()
    kind = known.get(name.strip().lower())
    if kind is None:
        raise ConfigError(
            f"potential: `name` must be one of {', '.join(sorted(known))}, got {name!r}. "
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


def _known() -> Mapping[str, type[Potential]]:
    """Return the potentials that are made from numbers alone, by name."""
    found = {}
    for kind in vars(potentials).values():
        if not inspect.isclass(kind) or not issubclass(kind, Potential):
            continue
        if inspect.isabstract(kind) or kind.__name__.startswith("_"):
            continue
        annotations = [p.annotation for p in inspect.signature(kind).parameters.values()]
        if all(a in ("float", "Scalar") for a in annotations):
            found[re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()] = kind
    return found


def unit_of(potential: Potential) -> str:
    """Return the unit of a sum of a potential, empty where it has none.

    An inverse power carries a length, a bounded potential carries nothing; a combination has the
    unit of its coefficients, which is the caller's.
    """
    if isinstance(potential, Combination):
        return ""
    order = float(potential.order)
    return {0.0: "", 1.0: "1/Å"}.get(order, f"Å^-{order:g}")
