"""Networks, their registry, and the archives that trained models are kept in."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"


def available() -> list[str]:
    """Return the names of the models that come with potnet, for :func:`potnet.load`."""
    return sorted(card.parent.name for card in BUNDLED.glob("*/model.json"))
