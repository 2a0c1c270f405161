"""Units of targets: what they are called, and which become which."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from potnet.errors import DataError

# CODATA 2018; all but the atomic units are exact since the SI of 2019.
_KJ_PER_MOL = 1e3 / (6.02214076e23 * 1.602176634e-19)
_HARTREE = 27.211386245988
_BOHR = 0.529177210903
_PLANCK = 6.62607015e-34 / 1.602176634e-19  # eV s
_LIGHT = 299_792_458.0

# What is measured, and how much of eV, GPa or Å one unit is.
_BASES: dict[str, tuple[str, float]] = {
    "eV": ("energy", 1.0),
    "meV": ("energy", 1e-3),
    "kJ/mol": ("energy", _KJ_PER_MOL),
    "kcal/mol": ("energy", 4.184 * _KJ_PER_MOL),
    "Ha": ("energy", _HARTREE),
    "Ry": ("energy", _HARTREE / 2),
    "1/cm": ("energy", _PLANCK * _LIGHT * 100),
    "THz": ("energy", _PLANCK * 1e12),
    "GPa": ("pressure", 1.0),
    "MPa": ("pressure", 1e-3),
    "Pa": ("pressure", 1e-9),
    "kbar": ("pressure", 0.1),
    "eV/Å^3": ("pressure", 160.2176634),
    "Ha/bohr^3": ("pressure", 160.2176634 * _HARTREE / _BOHR**3),
    "Å": ("length", 1.0),
    "nm": ("length", 10.0),
    "bohr": ("length", _BOHR),
    "Å^3": ("volume", 1.0),
    "nm^3": ("volume", 1e3),
    "bohr^3": ("volume", _BOHR**3),
    "K": ("temperature", 1.0),
    "g/cm^3": ("density", 1.0),
    "kg/m^3": ("density", 1e-3),
    "mu_B": ("magnetic moment", 1.0),
}
LONGEST = 60  # characters of a unit that is known
_OTHER_NAMES = {
    "hartree": "Ha",
    "Hartree": "Ha",
    "Eh": "Ha",
    "rydberg": "Ry",
    "cm-1": "1/cm",
    "cm^-1": "1/cm",
    "A": "Å",
    "Ang": "Å",
    "angstrom": "Å",
    "Bohr": "bohr",
    "µB": "mu_B",
    "μB": "mu_B",
}


@dataclass(frozen=True)
class Unit:
    """A unit of a target.

    Attributes:
        name: As it was written.
        kind: What is measured, such as "energy".
        factor: How much of the base of its kind it is.
        per: "atom", "cell", or "" if it does not say.
        is_log: Whether values are decimal logarithms.
    """

    name: str
    kind: str
    factor: float
    per: str = ""
    is_log: bool = False

    @classmethod
    def parse(cls, name: str) -> Unit | None:
        """Return the unit that ``name`` means, or None if it is not known.

        >>> Unit.parse("meV/atom").per, Unit.parse("log10(GPa)").is_log, Unit.parse("score")
        ('atom', True, None)
        """
        text = name.strip()
        if len(text) > LONGEST:
            return None
        if match := re.fullmatch(r"log10\s*\(\s*(.*?)\s*\)|log10 +(.*)", text):
            inner = cls.parse(match[1] or match[2] or "")
            return inner and (None if inner.is_log else replace(inner, name=name, is_log=True))
        per = ""
        if match := re.fullmatch(r"(.*?)\s*(?:/| per )\s*(atom|cell|unit cell)", text):
            text, per = match[1], match[2].removeprefix("unit ")
        text = text.replace("\u212b", "Å")  # the sign of the unit, not the letter
        text = re.sub(r"\b(?:Ang|A|Å)\^?3$", "Å^3", text)
        base = _BASES.get(_OTHER_NAMES.get(text, text))
        return cls(name, *base, per=per) if base else None


@dataclass(frozen=True)
class Units:
    """The units that targets have, and those they are wanted in.

    Attributes:
        wanted: Unit to have a target in.
        stated: Unit of a target in the source, as the caller says.
        known: Unit of a target in the source, as the source says.
    """

    wanted: Mapping[str, str]
    stated: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)

    def of(self, known: Mapping[str, str]) -> Units:
        """Return the units for a source, or a row of it, that names some.

        Raises:
            DataError: If one of them cannot be converted to what is wanted.
        """
        units = replace(self, known={**self.known, **known}) if known else self
        for name, wants in self.wanted.items():
            has = units.has(name)
            if has and has != wants:
                conversion(name, has, wants)
        return units

    def applied(
        self, targets: Mapping[str, float], n_atoms: int
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Return the targets of a crystal of ``n_atoms`` in the units wanted, and these units.

        Raises:
            DataError: If a value has no logarithm.
        """
        values, units = dict(targets), {}
        for name, value in targets.items():
            has = self.has(name)
            units[name] = wants = self.wanted.get(name) or has
            if has and has != wants:
                values[name] = conversion(name, has, wants)(value, n_atoms)
        return values, units

    def has(self, name: str) -> str:
        """Return the unit that a target has in the source, "" where nobody says."""
        return self.stated.get(name) or self.known.get(name, "")


@lru_cache(maxsize=256)
def conversion(target: str, source: str, wanted: str) -> Callable[[float, int], float]:
    """Return the function of a value and a number of atoms that takes ``source`` to ``wanted``.

    Args:
        target: Name of the target, for messages.
        source: Unit of the values.
        wanted: Unit to have them in. Values per cell become values per atom by the number of
            atoms in the cell.

    Returns:
        A function that raises DataError where a value has no logarithm.

    Raises:
        DataError: If a unit is unknown, or the units do not measure the same.

    >>> round(conversion("energy", "Ha/cell", "meV/atom")(-1.0, 4), 3)
    -6802.847
    """
    old, new = _known(target, source), _known(target, wanted)
    if old.kind != new.kind or (old.per != new.per and not (old.per and new.per)):
        raise DataError(
            f"target {target!r}: the new unit must measure the same as the old one, got {wanted!r} "
            f"for {source!r}. Ask for another, or say what the source has, such as eV/cell."
        )
    factor = old.factor / new.factor
    power = {("cell", "atom"): -1, ("atom", "cell"): 1}.get((old.per, new.per), 0)

    def convert(value: float, n_atoms: int) -> float:
        try:
            linear = 10.0**value if old.is_log else value
        except OverflowError:
            raise DataError(
                f"target {target!r} must be the logarithm of a number, got {value:g} {source}. "
                "Correct the value, or the unit."
            ) from None
        linear *= factor * float(n_atoms) ** power
        if not new.is_log or math.isnan(linear):
            return linear
        if linear <= 0:
            raise DataError(
                f"target {target!r} must be positive to have a logarithm, got {value:g} {source}. "
                "Leave the value out, or keep the unit."
            )
        return math.log10(linear)

    return convert


def _known(target: str, name: str) -> Unit:
    unit = Unit.parse(name)
    if unit is None:
        raise DataError(
            f"target {target!r}: the unit must be one that can be converted ({', '.join(_BASES)}; "
            f"with /atom, /cell or log10), got {name!r}. Leave the unit as it is."
        )
    return unit


def unit_in(header: str) -> str:
    """Return the unit in the brackets at the end of a column's name, if it is a known one.

    >>> unit_in("gap (eV)"), unit_in("K [GPa]"), unit_in("log10(K_VRH)")
    ('eV', 'GPa', '')
    """
    end = header.rstrip()[-LONGEST:]  # the pattern may look at each place of it
    match = re.search(r"[(\[]([^()\[\]]*(?:\([^()]*\))?)[)\]]$", end)
    return match[1].strip() if match and Unit.parse(match[1]) else ""
