"""Networks, their registry, and the archives that trained models are kept in."""

from potnet.models.catalogue import BUNDLED, available, bundled

__all__ = ["BUNDLED", "available", "bundled"]
