"""Known crystals: is this one of them, which are near, and what is known of them."""

from potnet.known.distributions import Distribution, distributions
from potnet.known.index import SOURCE, KnownCrystal, KnownCrystals, load_known

__all__ = [
    "SOURCE",
    "Distribution",
    "KnownCrystal",
    "KnownCrystals",
    "distributions",
    "load_known",
]
