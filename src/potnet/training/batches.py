"""Minibatches: stratified by the size of crystals, and cut without asking the device anything.

A step on a GPU is short, so the host must not wait for the device. The crystals of many steps
are gathered at once, in the order of the epoch, and each minibatch is a run of views into them:
all sizes are known on the host, and cutting costs no kernel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potnet.errors import ConfigError
from potnet.features import Batch
from potnet.training.features import Survey

CHUNK_BYTES = 512 * 2**20
MAX_PAIRS = 2**18


class Minibatch:
    """What one step needs.

    A plain class on purpose: Fabric's mixed precision walks through dataclasses and copies them.

    Attributes:
        batch: The crystals.
        targets: Standardised targets, 0 where missing, shape (n_graphs, n_targets).
        mask: Weight of each target, 1 by default, 0 where it is missing, shape
            (n_graphs, n_targets).
        n_labels: Sum of the weights in the step over all processes, divided by the processes; on
            the device where a graph reads it.
        ends_step: Whether no other part of the step follows.
    """

    __slots__ = ("batch", "targets", "mask", "n_labels", "ends_step")

    def __init__(
        self,
        batch: Batch,
        targets: Tensor,
        mask: Tensor,
        n_labels: float | Tensor,
        ends_step: bool = True,
    ) -> None:
        self.batch, self.targets, self.mask, self.n_labels = batch, targets, mask, n_labels
        self.ends_step = ends_step


@dataclass(frozen=True)
class Part:
    """Crystals that go through the network at once: a step, or a part of one.

    Attributes:
        rows: Their indices, shape (n,).
        n_labels: As in :class:`Minibatch`.
        ends_step: As in :class:`Minibatch`.
    """

    rows: NDArray[np.int64]
    n_labels: float
    ends_step: bool


def in_parts(
    rows: NDArray[np.int64], pair_counts: NDArray[np.int64], max_pairs: int
) -> list[NDArray[np.int64]]:
    """Return ``rows`` cut where the next crystal would exceed ``max_pairs``, in order."""
    cuts, total = [], 0
    for k, n_pairs in enumerate(pair_counts[rows].tolist()):
        if k and total + n_pairs > max_pairs:
            cuts.append(k)
            total = 0
        total += n_pairs
    return np.split(rows, cuts)


def epoch_shares(pair_counts: NDArray[np.int64], thin_above: int | None) -> NDArray[np.float64]:
    """Return the share of the epochs in which each crystal is taken, in (0, 1].

    A crystal costs what its pairs cost. Where all crystals teach alike, the mean over crystals is
    estimated best for its cost if each is drawn in inverse proportion to the square root of its
    cost: Neyman's allocation (J. R. Stat. Soc. 97, 558 (1934)).

    Args:
        pair_counts: Pairs of each crystal, shape (n,).
        thin_above: Pairs from which on crystals are left out of some epochs; None takes all.
    """
    ratio = np.inf if thin_above is None else thin_above / np.maximum(pair_counts, 1)
    return np.minimum(1.0, np.sqrt(ratio)) * np.ones(len(pair_counts))


def taken_in_epoch(
    shares: NDArray[np.float64], epoch: int, at_least: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return which crystals are taken in an epoch: each as evenly spread as its share allows.

    After any number of epochs a crystal has been taken as often as its share of them says, to
    less than one; which epochs these are is a matter of its phase.

    Args:
        shares: From :func:`epoch_shares`, shape (n,).
        epoch: The epoch, from 0 on.
        at_least: Crystals to take; if fewer have their turn, those come whose turn is the next.
        rng: Source of the phases, in the same state for all epochs of a training.

    Returns:
        Indices into ``shares``, rising.
    """
    phases = rng.random(len(shares))
    before, after = (np.floor(k * shares + phases) for k in (epoch, epoch + 1))
    waits = np.where(after > before, 0.0, (after + 1 - phases) / shares - epoch)
    n_taken = max(int((after > before).sum()), at_least)
    return np.sort(np.argsort(waits, kind="stable")[:n_taken])


def stratified_batches(
    sizes: NDArray[np.int64], n_batches: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
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


class Loader(ABC):
    """Crystals with their targets, ready for the network.

    Args:
        survey: Sizes of the features of n crystals.
        targets: Standardised targets with nan for missing ones, shape (n, n_targets).
        device: Where minibatches are wanted.
        max_pairs: Most pairs that go through the network at once, but for a single crystal.

    Attributes:
        kind: In a word, where the features are: held in memory, stored on disk, or streamed.
    """

    kind: Literal["held", "stored", "streamed"]

    def __init__(
        self, survey: Survey, targets: NDArray[np.float64], device: torch.device, max_pairs: int
    ) -> None:
        self.device, self.max_pairs = device, max_pairs
        self.atom_counts, self.pair_counts = survey.atom_counts, survey.pair_counts
        self.counted = np.isfinite(targets).astype(np.float64)
        values = np.where(self.counted > 0, targets, 0.0)
        self.targets = torch.as_tensor(values, dtype=torch.float32)
        self.mask = torch.as_tensor(self.counted, dtype=torch.float32)

    def weigh(self, weights: NDArray[np.float64]) -> None:
        """Let each crystal count ``weights`` times, shape (n,), from now on."""
        self.counted = (self.counted > 0) * weights[:, None]
        self.mask = torch.as_tensor(self.counted, dtype=torch.float32, device=self.mask.device)

    def minibatches(
        self, groups: Sequence[NDArray[np.int64]], *, rank: int = 0, world_size: int = 1
    ) -> Iterator[Minibatch]:
        """Yield the crystals of each group, one step, as one minibatch or several parts.

        Process ``rank`` sees its share of each group.
        """
        parts = []
        for group in groups:
            counted = self.counted[group].sum()
            n_labels = float((counted if counted > 0 else 1) / world_size)
            mine = self._share(group, rank, world_size) if world_size > 1 else group
            cut = in_parts(mine, self.pair_counts, self.max_pairs)
            parts += [Part(rows, n_labels, k == len(cut) - 1) for k, rows in enumerate(cut)]
        return self._load(parts)

    def _share(self, group: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
        """Return what a process takes of a group, which is in the order of size."""
        return group[rank::world_size]

    @abstractmethod
    def _load(self, parts: Sequence[Part]) -> Iterator[Minibatch]:
        """Yield the minibatch of each part."""


class StreamedFeatures(Loader):
    """Features that are computed, or read, while the network works on those before them.

    Threads do it: neither the sums nor a disk holds Python's lock. They are the same numbers as if
    all were held, in the same order.

    Args:
        get: Gives the features of some of the crystals.
        survey: As in :class:`Loader`; so are the others.
        targets: Standardised targets.
        device: Where minibatches are wanted.
        max_pairs: Most pairs at once.
        workers: Threads.
    """

    def __init__(
        self,
        get: Callable[[NDArray[np.int64]], Batch],
        survey: Survey,
        targets: NDArray[np.float64],
        device: torch.device,
        max_pairs: int,
        workers: int = 1,
    ) -> None:
        super().__init__(survey, targets, device, max_pairs)
        self._get, self.workers = get, workers
        self.kind = "streamed" if survey.read is None else "stored"

    def _share(self, group: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
        """Return a stretch of the group in the order of the data: each process reads its own."""
        return np.array_split(np.sort(group), world_size)[rank]

    def _load(self, parts: Sequence[Part]) -> Iterator[Minibatch]:
        waiting: deque[Future[Batch]] = deque()
        ahead = iter(parts)
        with ThreadPoolExecutor(self.workers) as pool:
            for part in islice(ahead, self.workers):
                waiting.append(pool.submit(self._get, part.rows))
            for part in parts:
                batch = waiting.popleft().result()
                for later in islice(ahead, 1):
                    waiting.append(pool.submit(self._get, later.rows))
                index = torch.from_numpy(part.rows)
                yield Minibatch(
                    batch.to(self.device),
                    self.targets[index].to(self.device),
                    self.mask[index].to(self.device),
                    part.n_labels,
                    part.ends_step,
                )


class HeldFeatures(Loader):
    """All features in memory, on the device if they fit.

    Args:
        survey: What holds the features of n crystals.
        targets: As in :class:`Loader`; so are the others.
        device: Where minibatches are wanted.
        max_pairs: Most pairs at once.
    """

    kind = "held"

    def __init__(
        self,
        survey: Survey,
        targets: NDArray[np.float64],
        device: torch.device,
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        super().__init__(survey, targets, device, max_pairs)
        batch = survey.batch
        if batch is None:
            raise ConfigError("HeldFeatures: `survey` must hold the features, got none.")
        tensors = batch.to_tensors()
        n_bytes = sum(t.numel() * t.element_size() for t in tensors.values())
        self.node_counts = batch.node_counts.cpu().numpy()
        self.counts_of_pairs = {k: p.counts.cpu().numpy() for k, p in batch.pairs.items()}
        self.bytes_per_crystal = n_bytes / max(len(batch), 1)
        self.batch = batch.to(device) if _fits(n_bytes, device) else batch
        self.targets = self.targets.to(self.batch.device)
        self.mask = self.mask.to(self.batch.device)

    def _load(self, parts: Sequence[Part]) -> Iterator[Minibatch]:
        start = 0
        while start < len(parts):
            stop = self._end_of_chunk(parts, start)
            yield from self._cut(parts[start:stop])
            start = stop

    def _end_of_chunk(self, parts: Sequence[Part], start: int) -> int:
        n_bytes = 0.0
        for k in range(start, len(parts)):
            n_bytes += self.bytes_per_crystal * len(parts[k].rows)
            if n_bytes > CHUNK_BYTES:
                return max(k, start + 1)
        return len(parts)

    def _cut(self, cut: Sequence[Part]) -> Iterator[Minibatch]:
        rows = np.concatenate([part.rows for part in cut])
        index = torch.as_tensor(rows, device=self.batch.device)
        n_graphs = [len(part.rows) for part in cut]
        chunk = self.batch[index].to(self.device)
        targets = self.targets[index].to(self.device).split(n_graphs)
        mask = self.mask[index].to(self.device).split(n_graphs)
        ends = np.cumsum([0, *n_graphs])

        def total(counts: NDArray[np.int64]) -> list[int]:
            return np.diff(np.append(0, counts[rows].cumsum())[ends]).tolist()

        lengths = {"numbers": total(self.node_counts), "weights": total(self.node_counts)}
        for name, counts in self.counts_of_pairs.items():
            lengths |= dict.fromkeys([f"pairs.{name}.{k}" for k in "ij"], total(counts))
            lengths[f"pairs.{name}.values"] = lengths[f"pairs.{name}.i"]
        parts = {k: t.split(lengths.get(k, n_graphs)) for k, t in chunk.to_tensors().items()}
        for k, part in enumerate(cut):
            batch = Batch.from_tensors({key: tensors[k] for key, tensors in parts.items()})
            yield Minibatch(batch, targets[k], mask[k], part.n_labels, part.ends_step)


def _fits(n_bytes: int, device: torch.device) -> bool:
    """Whether the features, their shuffled copy and the work beside them fit on ``device``."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return 2 * n_bytes + 4 * CHUNK_BYTES < free
