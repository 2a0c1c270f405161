"""Known crystals: is this one of them, which are near, and what is known of them."""

from potnet.known.index import SOURCE, KnownCrystal, KnownCrystals, load_known

__all__ = ["SOURCE", "KnownCrystal", "KnownCrystals", "load_known"]
