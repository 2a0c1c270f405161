"""A step of training as one launch: recorded once for a shape of batch, and replayed.

A step asks a GPU for hundreds of kernels of some microseconds each, and Python takes longer to ask
than the GPU to compute. A CUDA graph is asked for at once. It computes with the same memory every
time, so minibatches are copied into it, filled up to its shape with a crystal that counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from potnet.features import Batch
from potnet.training.batches import Minibatch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from potnet.models.contract import Network

# Steps before the first recording: libraries are loaded and the optimizer's state is made.
FIRST_STEPS = 2
# A graph is made for batches that are larger than the first by this, of which few will be.
ROOM = 1.06
# A graph serves batches of down to this share of its nodes and pairs.
LEAST_SHARE = 0.75


@dataclass(frozen=True)
class Shape:
    """How many crystals, nodes and pairs of each kind a batch has."""

    n_graphs: int
    n_nodes: int
    n_pairs: tuple[int, ...]

    @staticmethod
    def of(batch: Batch) -> Shape:
        """Return the shape of ``batch``, which the host knows."""
        n_pairs = tuple(pairs.i.numel() for pairs in batch.pairs.values())
        return Shape(batch.n_graphs, batch.numbers.numel(), n_pairs)

    def with_room(self) -> Shape:
        """Return the shape of a graph for batches like this one."""
        n_nodes = int(self.n_nodes * ROOM) + 2
        return Shape(self.n_graphs + 2, n_nodes, tuple(int(n * ROOM) for n in self.n_pairs))

    def serves(self, other: Shape) -> bool:
        """Return whether a graph of this shape computes ``other`` without much waste."""
        mine, its = (self.n_nodes, *self.n_pairs), (other.n_nodes, *other.n_pairs)
        n_added = self.n_graphs - other.n_graphs
        # Each crystal that is added has a node.
        fits = n_added >= 1 and self.n_nodes - other.n_nodes >= n_added
        fits = fits and all(n <= room for n, room in zip(its, mine, strict=True))
        return fits and all(n >= LEAST_SHARE * room for n, room in zip(its, mine, strict=True))


def padded(batch: Batch, shape: Shape) -> Batch:
    """Return ``batch`` with crystals of hydrogen behind it, so that it has a shape.

    All nodes and pairs that are missing belong to the first of these crystals but one for each of
    the others. Its pairs carry zeros and are spread over its nodes.
    """
    device = batch.device
    n_added = shape.n_graphs - batch.n_graphs
    n_nodes = shape.n_nodes - batch.numbers.numel()
    first = n_nodes - (n_added - 1)
    node_counts = torch.ones(n_added, dtype=torch.long, device=device)
    node_counts[:1].fill_(first)
    numbers = torch.ones(n_nodes, dtype=batch.numbers.dtype, device=device)
    weights = torch.ones(n_nodes, dtype=batch.weights.dtype, device=device)
    weights[:first].fill_(1 / first)
    tensors = {
        "numbers": numbers,
        "weights": weights,
        "node_counts": node_counts,
        "atom_counts": node_counts,
    }
    for (name, pairs), total in zip(batch.pairs.items(), shape.n_pairs, strict=True):
        n_pairs = total - pairs.i.numel()
        nodes = torch.arange(n_pairs, dtype=pairs.i.dtype, device=device) % first
        counts = torch.zeros(n_added, dtype=torch.long, device=device)
        counts[:1].fill_(n_pairs)
        tensors[f"pairs.{name}.i"] = tensors[f"pairs.{name}.j"] = nodes
        tensors[f"pairs.{name}.values"] = pairs.values.new_zeros(n_pairs, pairs.values.shape[1])
        tensors[f"pairs.{name}.counts"] = counts
    return Batch.cat([batch, Batch.from_tensors(tensors)])


class Recorder:
    """Takes steps by replaying them, where it can.

    Args:
        optimizer: What moves the weights; its learning rate is read anew in each step.
        compute: Computes the loss of a minibatch and the gradients.
        move: Moves the weights along the gradients.
        clear: Removes the gradients.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        compute: Callable[[Minibatch], Tensor],
        move: Callable[[], None],
        clear: Callable[[], None],
    ) -> None:
        self._optimizer = optimizer
        self._compute, self._move, self._clear = compute, move, clear
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: list[_Recorded] = []
        self._n_steps = 0
        self._rate = torch.zeros((), device=self._stream.device)

    def __call__(self, minibatch: Minibatch) -> Tensor:
        """Take the step of ``minibatch``; return its loss, which the next step overwrites."""
        self._n_steps += 1
        if self._n_steps <= FIRST_STEPS:
            return self._taken(minibatch)
        shape = Shape.of(minibatch.batch)
        graph = next((graph for graph in self._graphs if graph.shape.serves(shape)), None)
        if graph is None:
            graph = self._record(minibatch, shape.with_room())
            self._graphs.append(graph)
        self._rate.fill_(self._optimizer.param_groups[0]["lr"])
        return graph.replayed(minibatch)

    def _taken(self, minibatch: Minibatch) -> Tensor:
        """Take a step without a graph, on the stream that will record others."""
        now = torch.cuda.current_stream()
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            self._clear()
            loss = self._compute(minibatch)
            self._move()
        now.wait_stream(self._stream)
        return loss

    def _record(self, minibatch: Minibatch, shape: Shape) -> _Recorded:
        """Return the graph of a step for batches of ``shape``; nothing moves by this."""
        inputs = _padded(minibatch, shape)
        self._clear()  # the graph has gradients of its own
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with _capturable(self._optimizer, self._rate), recording:
            loss = self._compute(inputs)
            self._move()
        return _Recorded(graph, shape, inputs, loss)


@dataclass(frozen=True)
class _Recorded:
    """The graph of a step, with the memory that it reads and where it leaves the loss."""

    graph: torch.cuda.CUDAGraph
    shape: Shape
    inputs: Minibatch
    loss: Tensor

    def replayed(self, minibatch: Minibatch) -> Tensor:
        given = _padded(minibatch, self.shape)
        for mine, its in zip(_tensors(self.inputs), _tensors(given), strict=True):
            mine.copy_(its)
        self.graph.replay()
        return self.loss


def _padded(minibatch: Minibatch, shape: Shape) -> Minibatch:
    """Return a minibatch of ``shape`` with the same loss, whose labels are counted in a tensor."""
    n_added = shape.n_graphs - minibatch.batch.n_graphs
    targets, mask = (
        torch.nn.functional.pad(t, (0, 0, 0, n_added)) for t in (minibatch.targets, minibatch.mask)
    )
    n_labels = targets.new_full((), float(minibatch.n_labels))
    return Minibatch(padded(minibatch.batch, shape), targets, mask, n_labels)


def _tensors(minibatch: Minibatch) -> Sequence[Tensor]:
    n_labels = torch.as_tensor(minibatch.n_labels)
    tensors = minibatch.batch.to_tensors().values()
    return [*tensors, minibatch.targets, minibatch.mask, n_labels]


@contextmanager
def _capturable(optimizer: Optimizer, rate: Tensor) -> Iterator[None]:
    """Let an optimizer read its learning rate from the device, so that a graph does."""
    groups = optimizer.param_groups
    before = [{key: group[key] for key in ("lr", "capturable")} for group in groups]
    for group in groups:
        group.update(lr=rate, capturable=True)
    try:
        yield
    finally:
        for group, settings in zip(groups, before, strict=True):
            group.update(settings)


def can_record(fabric: Fabric, network: Network, precision: str) -> bool:
    """Return whether steps may be recorded: one GPU, plain float32, a network that allows it.

    Automatic mixed precision keeps copies of the weights, and several processes exchange gradients.
    """
    is_alone = fabric.device.type == "cuda" and fabric.world_size == 1
    return is_alone and precision == "32-true" and network.is_recordable
