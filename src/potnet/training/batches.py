"""Minibatches: crystals dealt evenly by size, and cut without asking the device anything.

A step on a GPU is short, so the host must not wait for the device. The crystals of many steps
are gathered at once, in the order of the epoch, and each minibatch is a run of views into them:
all sizes are known on the host, and cutting costs no kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potnet.features import Batch

CHUNK_BYTES = 512 * 2**20


class Minibatch:
    """What one step needs.

    A plain class on purpose: Fabric's mixed precision walks through dataclasses and copies them.

    Attributes:
        batch: The crystals.
        targets: Standardised targets, 0 where missing, shape (n_graphs, n_targets).
        mask: 1 where there is a target, else 0, shape (n_graphs, n_targets).
        n_labels: Targets in the step over all processes, divided by the processes.
    """

    __slots__ = ("batch", "targets", "mask", "n_labels")

    def __init__(self, batch: Batch, targets: Tensor, mask: Tensor, n_labels: float) -> None:
        self.batch, self.targets, self.mask, self.n_labels = batch, targets, mask, n_labels


def deal(sizes: NDArray[np.int64], n_batches: int, rng: np.random.Generator) -> list[NDArray]:
    """Return a random partition in which every batch has crystals of all sizes.

    The crystals, shuffled and then sorted by size (largest first), are cut into strata of
    ``n_batches``; each batch gets one crystal of each stratum. Batches so have nearly equal
    numbers of crystals and of atoms, and the number of batches never varies.

    Args:
        sizes: Atoms of each crystal, shape (n,).
        n_batches: Number of batches, at most n.
        rng: Source of the randomness.

    Returns:
        Indices into ``sizes`` of each batch, ``n_batches`` arrays.
    """
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    full = len(order) // n_batches * n_batches
    strata = rng.permuted(order[:full].reshape(-1, n_batches), axis=1)
    rest = rng.permutation(n_batches)[: len(order) - full]
    extra = dict(zip(rest.tolist(), order[full:].tolist(), strict=True))
    columns = (strata[:, k] for k in range(n_batches))
    return [np.append(c, extra[k]) if k in extra else c for k, c in enumerate(columns)]


class Store:
    """All crystals with their targets, on the device if they fit, ready to be cut.

    Args:
        batch: Features of n crystals.
        targets: Standardised targets with nan for missing ones, shape (n, n_targets).
        device: Where minibatches are wanted.
    """

    def __init__(self, batch: Batch, targets: NDArray[np.float64], device: torch.device) -> None:
        tensors = batch.to_tensors()
        n_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
        self.device = device
        self.node_counts = batch.node_counts.cpu().numpy()
        self.atom_counts = batch.atom_counts.cpu().numpy()
        self.pair_counts = {k: p.counts.cpu().numpy() for k, p in batch.pairs.items()}
        self.bytes_per_crystal = n_bytes / max(len(batch), 1)
        self.has_target = np.isfinite(targets)
        self.batch = batch.to(device) if _fits(n_bytes, device) else batch
        home = self.batch.device
        values = np.where(self.has_target, targets, 0.0)
        self.targets = torch.as_tensor(values, dtype=torch.float32, device=home)
        self.mask = torch.as_tensor(self.has_target, dtype=torch.float32, device=home)

    def minibatches(
        self, groups: Sequence[NDArray[np.int64]], *, rank: int = 0, world_size: int = 1
    ) -> Iterator[Minibatch]:
        """Yield the crystals of each group as a minibatch; process ``rank`` sees its share."""
        n_labels = [max(self.has_target[g].sum(), 1) / world_size for g in groups]
        shares = [group[rank::world_size] for group in groups]
        start = 0
        while start < len(shares):
            stop = self._end_of_chunk(shares, start)
            yield from self._cut(shares[start:stop], n_labels[start:stop])
            start = stop

    def _end_of_chunk(self, groups: Sequence[NDArray[np.int64]], start: int) -> int:
        n_bytes = 0.0
        for k in range(start, len(groups)):
            n_bytes += self.bytes_per_crystal * len(groups[k])
            if n_bytes > CHUNK_BYTES:
                return max(k, start + 1)
        return len(groups)

    def _cut(
        self, groups: Sequence[NDArray[np.int64]], n_labels: Sequence[float]
    ) -> Iterator[Minibatch]:
        rows = np.concatenate(groups)
        index = torch.as_tensor(rows, device=self.batch.device)
        n_graphs = [len(group) for group in groups]
        chunk = self.batch[index].to(self.device)
        targets = self.targets[index].to(self.device).split(n_graphs)
        mask = self.mask[index].to(self.device).split(n_graphs)
        ends = np.cumsum([0, *n_graphs])

        def total(counts: NDArray[np.int64]) -> list[int]:
            return np.diff(np.append(0, counts[rows].cumsum())[ends]).tolist()

        lengths = {"numbers": total(self.node_counts), "weights": total(self.node_counts)}
        for name, counts in self.pair_counts.items():
            lengths |= dict.fromkeys([f"pairs.{name}.{k}" for k in "ij"], total(counts))
            lengths[f"pairs.{name}.values"] = lengths[f"pairs.{name}.i"]
        parts = {k: t.split(lengths.get(k, n_graphs)) for k, t in chunk.to_tensors().items()}
        for k in range(len(groups)):
            batch = Batch.from_tensors({key: part[k] for key, part in parts.items()})
            yield Minibatch(batch, targets[k], mask[k], float(n_labels[k]))


def _fits(n_bytes: int, device: torch.device) -> bool:
    """Whether the features, their shuffled copy and the work beside them fit on ``device``."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * n_bytes + 4 * CHUNK_BYTES < free
