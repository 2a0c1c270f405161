"""What a dictionary or a line of keys says of its numbers besides them: unit, coordinates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from potnet.errors import StructureError

# Words for units of length other than Å, and keys whose unit is that of another quantity.
_OTHER_UNITS = frozenset(("bohr", "bohrs", "au", "a.u", "a0", "atomic"))
_OTHER_UNITS |= {"nm", "nanometer", "nanometers", "nanometre", "nanometres"}
_OTHER_UNITS |= {"pm", "picometer", "picometers", "picometre", "picometres"}
_OTHER_UNITS |= {"m", "meter", "meters", "metre", "metres"}
_ANGSTROM = frozenset(("å", "angstrom", "angstroms", "ang", "angst", "a"))
_OTHER_QUANTITIES = re.compile(
    "energ|force|stress|virial|charge|time|veloc|moment|dipole|mass|pressure|temp|freq|gap|spin"
)
_SCALED = frozenset(("scaled", "fractional", "fract", "frac", "direct", "reduced", "crystal"))
_COORDINATES = re.compile("coord|position|pos_|_pos$")


def check_claims(claims: Mapping[str, Any], where: str) -> None:
    """Raise if one of ``claims`` says that lengths are not in Å, or coordinates not Cartesian."""
    for key, value in claims.items():
        name = str(key).lower()
        is_unit = "unit" in name and not _OTHER_QUANTITIES.search(name)
        if is_unit and isinstance(value, str | Mapping):
            words = _words(value)
            if words & _OTHER_UNITS and not words & _ANGSTROM:
                raise StructureError(
                    f"{where}: lengths must be in Å, got {key}={str(value)[:40]}. Convert them."
                )
        is_scaled = (name in _SCALED and value is True) or (name == "cartesian" and value is False)
        if _COORDINATES.search(name) and isinstance(value, str):
            is_scaled |= bool(_words(value) & _SCALED)
        if is_scaled:
            raise StructureError(
                f"{where}: positions must be Cartesian, got {key}={str(value)[:40]}. Convert them."
            )


def _words(value: object) -> set[str]:
    return {word.strip(".") for word in re.split(r"[^a-zå0-9.]+", str(value)[:200].lower())}
