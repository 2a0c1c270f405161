"""Crystal: an immutable, validated cell with atoms, its primitive form, and its conversions."""

from potnet.crystal.checks import MAX_ATOMS, MIN_DISTANCE, SYMMETRY_TOLERANCE
from potnet.crystal.crystal import Crystal
from potnet.crystal.elements import NUMBERS, SYMBOLS, number_of

__all__ = [
    "MAX_ATOMS",
    "MIN_DISTANCE",
    "NUMBERS",
    "SYMBOLS",
    "SYMMETRY_TOLERANCE",
    "Crystal",
    "number_of",
]
