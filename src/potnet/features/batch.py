"""Ragged batches: crystals as nodes and pairs, one after the other.

A :class:`Batch` is any number of crystals, one or a hundred thousand. A dataset is one big batch
and a training step takes ``batch[indices]``, which is a batch again, on the same device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from potnet.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel


def ragged_arange(starts: Tensor, counts: Tensor) -> Tensor:
    """Return ``starts[0] .. starts[0] + counts[0] - 1, starts[1] ..`` as one index tensor.

    Args:
        starts: First index of each run, shape (n_runs,).
        counts: Length of each run, shape (n_runs,).

    Returns:
        The runs one after the other, shape (counts.sum(),).
    """
    ends = counts.cumsum(0)
    shift = torch.repeat_interleave(starts - (ends - counts), counts)
    return torch.arange(shift.numel(), device=starts.device) + shift


def offsets(counts: Tensor) -> Tensor:
    """Return where each run of ``counts`` items begins, shape of ``counts``."""
    return counts.cumsum(0) - counts


@dataclass(frozen=True)
class Pairs:
    """Ordered pairs of the atoms of one or many crystals.

    Attributes:
        i: Receiving atom of each pair, counted within its own crystal, shape (n_pairs,).
        j: Sending atom of each pair, counted within its own crystal, shape (n_pairs,).
        values: What the pair carries, shape (n_pairs, n_channels).
        counts: Pairs of each crystal, shape (n_graphs,).
    """

    i: Tensor
    j: Tensor
    values: Tensor
    counts: Tensor

    def select(self, graphs: Tensor) -> Pairs:
        """Return the pairs of the crystals ``graphs`` (indices, shape (n,)), in that order."""
        counts = self.counts[graphs]
        rows = ragged_arange(offsets(self.counts)[graphs], counts)
        return Pairs(self.i[rows], self.j[rows], self.values[rows], counts)


@dataclass(frozen=True)
class Batch:
    """Features of one or many crystals.

    Attributes:
        numbers: Atomic numbers, shape (n_nodes,).
        weights: Share of each node in its crystal's atoms; they sum to 1 in each crystal, shape
            (n_nodes,). Symmetry-equivalent atoms may share one node.
        node_counts: Nodes of each crystal, shape (n_graphs,).
        atom_counts: Atoms of each crystal, shape (n_graphs,).
        pairs: Sets of pairs by name.
        features: The settings that made them, or none if they came as tensors.
    """

    numbers: Tensor
    weights: Tensor
    node_counts: Tensor
    atom_counts: Tensor
    pairs: Mapping[str, Pairs]
    features: BaseModel | None = field(default=None, kw_only=True, repr=False)

    @property
    def n_graphs(self) -> int:
        return self.node_counts.numel()

    def __len__(self) -> int:
        return self.n_graphs

    @property
    def device(self) -> torch.device:
        return self.numbers.device

    @cached_property
    def graph_index(self) -> Tensor:
        """Crystal of each node, shape (n_nodes,)."""
        graphs = torch.arange(self.n_graphs, device=self.device)
        # The known length spares a GPU the wait for the sum of the counts; so below.
        n_nodes = self.numbers.numel()
        return torch.repeat_interleave(graphs, self.node_counts, output_size=n_nodes)

    @cached_property
    def formula_counts(self) -> Tensor:
        """Atoms in the reduced formula of each crystal, shape (n_graphs,)."""
        atoms = (self.weights * self.atom_counts[self.graph_index]).round().long()
        # One column for each element, a power of two of them, which are halved until one is left.
        divisors = torch.zeros(self.n_graphs, 128, dtype=torch.long, device=self.device)
        divisors.index_put_((self.graph_index, self.numbers), atoms, accumulate=True)
        while divisors.shape[1] > 1:
            divisors = torch.gcd(*divisors.chunk(2, 1))
        return self.atom_counts // divisors[:, 0]

    def edge_index(self, name: str) -> tuple[Tensor, Tensor]:
        """Return nodes ``i`` and ``j`` of the pairs ``name``, counted over the whole batch."""
        pairs = self.pairs[name]
        shift = torch.repeat_interleave(
            offsets(self.node_counts), pairs.counts, output_size=pairs.i.numel()
        )
        return pairs.i + shift, pairs.j + shift

    def __getitem__(self, graphs: Tensor | Sequence[int] | slice) -> Batch:
        """Return the crystals ``graphs`` as a batch, in that order."""
        if isinstance(graphs, slice):
            graphs = torch.arange(self.n_graphs, device=self.device)[graphs]
        graphs = torch.as_tensor(graphs, dtype=torch.long, device=self.device)
        counts = self.node_counts[graphs]
        nodes = ragged_arange(offsets(self.node_counts)[graphs], counts)
        return Batch(
            self.numbers[nodes],
            self.weights[nodes],
            counts,
            self.atom_counts[graphs],
            {name: pairs.select(graphs) for name, pairs in self.pairs.items()},
            features=self.features,
        )

    def require(self, features: BaseModel, where: str) -> None:
        """Raise unless ``features`` made the batch, as far as that is known.

        Args:
            features: The settings that are wanted.
            where: What asks for them, to begin the message with.

        Raises:
            ConfigError: If other settings made it. Shapes may agree all the same.
        """
        made = self.features
        if made is None or made is features or made == features:
            return
        if type(made) is type(features):
            names = [n for n in type(made).model_fields if getattr(made, n) != getattr(features, n)]
            told = ", ".join(f"{n} = {getattr(made, n)}" for n in names)
            wanted = ", ".join(f"{n} = {getattr(features, n)}" for n in names)
        else:
            told, wanted = type(made).__name__, type(features).__name__
        raise ConfigError(
            f"{where}: `batch` must be of features with {wanted}, got {told}. "
            "Make it anew with the features of the model."
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``."""
        tensors = {k: v.to(device) for k, v in self.to_tensors().items()}
        return Batch.from_tensors(tensors, self.features)

    def single(self) -> Batch:
        """Return the batch in single precision."""
        tensors = self.to_tensors().items()
        single = {k: v.float() if v.is_floating_point() else v for k, v in tensors}
        return Batch.from_tensors(single, self.features)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the batch as flat named tensors, as safetensors stores them."""
        tensors = {
            "numbers": self.numbers,
            "weights": self.weights,
            "node_counts": self.node_counts,
            "atom_counts": self.atom_counts,
        }
        for name, pairs in self.pairs.items():
            for key in ("i", "j", "values", "counts"):
                tensors[f"pairs.{name}.{key}"] = getattr(pairs, key)
        return tensors

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], features: BaseModel | None = None) -> Batch:
        """Return the batch that :meth:`to_tensors` wrote, of ``features`` if these are known."""
        names = sorted({key.split(".")[1] for key in tensors if key.startswith("pairs.")})
        keys = ("i", "j", "values", "counts")
        pairs = {n: Pairs(*(tensors[f"pairs.{n}.{key}"] for key in keys)) for n in names}
        return Batch(
            tensors["numbers"],
            tensors["weights"],
            tensors["node_counts"],
            tensors["atom_counts"],
            pairs,
            features=features,
        )

    @staticmethod
    def cat(batches: Sequence[Batch]) -> Batch:
        """Return all crystals of ``batches`` in one batch, in order.

        Raises:
            ConfigError: If they are known to be of different features.
        """
        known = [batch.features for batch in batches if batch.features is not None]
        for batch in batches:
            if known:
                batch.require(known[0], "Batch.cat")
        parts = [batch.to_tensors() for batch in batches]
        joined = {key: torch.cat([p[key] for p in parts]) for key in parts[0]}
        return Batch.from_tensors(joined, known[0] if len(known) == len(batches) else None)
