"""What a model eats: crystals turned into ragged batches of nodes and pairs."""

from potnet.features.batch import Batch, Pairs

__all__ = ["Batch", "Pairs"]
