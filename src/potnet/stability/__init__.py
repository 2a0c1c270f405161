"""Stability: the energy of a crystal above the hull of the phases that it may decompose into."""

from potnet.stability.hull import Decomposition, Hull, Stability, load_hull
from potnet.stability.phases import SNAPSHOT_NAME, Phase, read_phases

__all__ = [
    "SNAPSHOT_NAME",
    "Decomposition",
    "Hull",
    "Phase",
    "Stability",
    "load_hull",
    "read_phases",
]
