"""Stability: the energy of a crystal above the hull of the phases that it may decompose into."""

from potnet.stability.diagram import Diagram, diagram
from potnet.stability.hull import Decomposition, Hull, Stability, load_hull
from potnet.stability.phases import SNAPSHOT_NAME, Phase, read_phases

__all__ = [
    "SNAPSHOT_NAME",
    "Decomposition",
    "Diagram",
    "Hull",
    "Phase",
    "Stability",
    "diagram",
    "load_hull",
    "read_phases",
]
