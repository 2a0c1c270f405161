"""Messages that are linear in sums, without a row per pair in memory.

    A[i, d, c] = sum over the pairs p from i to j of (sum_k F[p, d, k] W[c, k]) s[j, c]

Written with tensors, filters and products of all pairs go through memory several times. On a CPU
in single precision sums are listed instead, once for all rounds of messages: most are zero, since
an atom meets another in few shells, and atoms far from each other in none. What a node receives
by one kind of sum is added up in registers,

    A[i, d, c] = sum_k W[c, k] (sum_j F[ij, d, k] s[j, c]),

and so are both derivatives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from latticesums.compiled.machine_code import as_function, shipped

HERE = Path(__file__).parent
SHIPPED = HERE / "shipped"
#: The compiled functions: a letter for each argument, as :class:`latticesums` compiled kernels.
KERNELS = {
    "group": "iiIII",
    "count_sums": "iiiiiiFIII",
    "list_sums": "iiiiiiFIIIIIJF",
    "gather": "iiiiiiiiiiiiiIJFFFF",
    "meet_images": "iiiiIIFFFFF",
    "pull_images": "iiiiIIFFFFFFFF",
    "measure": "iiiixFFF",
    "pull_measures": "iiiixFFFFFF",
    "meet_images_double": "iiiiIIXXXXX",
    "pull_images_double": "iiiiIIXXXXXXXX",
    "measure_double": "iiiixXXX",
    "pull_measures_double": "iiiixXXXXXX",
}

# Sums of messages enter the atoms' networks with this factor: of the order of 1, not normalised,
# since their size tells how many neighbours there are and how close.
MESSAGE_SCALE = 0.3

# Fewer pairs than this are not worth a second thread.
_PAIRS_PER_THREAD = 2000


def fingerprint() -> str:
    """Return a fingerprint of the source of the compiled functions."""
    return hashlib.sha256((HERE / "message_kernels.py").read_bytes()).hexdigest()


@cache
def kernel(name: str) -> Callable[..., int]:
    """Return a compiled function: what is shipped, or else what numba makes here."""
    address = shipped(name, SHIPPED, fingerprint(), package="potnet")
    if address is None:
        from potnet.models.message_kernels import compiled  # imports numba

        address = compiled(name, KERNELS[name])
    return as_function(address, KERNELS[name])


class SumLists:
    """The sums of a batch, listed: which nodes a node meets in a kind of sum, and how strongly.

    Args:
        sums: What the pairs carry, shape (n_pairs, n_components, n_sums), in single precision on
            the CPU.
        i: Receiving node of each pair, shape (n_pairs,).
        j: Sending node of each pair, shape (n_pairs,).
        n_nodes: Number of nodes.
    """

    def __init__(self, sums: Tensor, i: Tensor, j: Tensor, n_nodes: int) -> None:
        self.sums = sums.detach() if sums.stride(2) == 1 else sums.detach().contiguous()
        self.i, self.j, self.n_nodes = i.contiguous(), j.contiguous(), n_nodes

    @cached_property
    def received(self) -> _Lists:
        """Senders, by receiving node."""
        return _Lists(self.sums, self.i, self.j, self.n_nodes)

    @cached_property
    def sent(self) -> _Lists:
        """Receivers, by sending node."""
        return _Lists(self.sums, self.j, self.i, self.n_nodes)


class _Lists:
    """The other node and the sum of each pair, by node, component and kind of sum.

    Args:
        sums: As those of :class:`SumLists`.
        nodes: By what pairs are listed, shape (n_pairs,).
        others: The other node of each pair, shape (n_pairs,).
        n_nodes: Number of nodes.
    """

    def __init__(self, sums: Tensor, nodes: Tensor, others: Tensor, n_nodes: int) -> None:
        n_pairs, self.n_components, self.n_sums = sums.shape
        n_lists = self.n_components * self.n_sums
        first, order = torch.zeros(n_nodes + 1, dtype=torch.long), torch.empty_like(nodes)
        kernel("group")(n_pairs, n_nodes, *_addresses(nodes, first, order))
        n_threads = min(torch.get_num_threads(), n_pairs // _PAIRS_PER_THREAD, n_nodes)
        shares = np.arange(1, n_threads) * n_pairs // max(n_threads, 1)
        cuts = sorted({0, n_nodes, *np.searchsorted(first.numpy(), shares).tolist()})
        self._ranges = list(zip(cuts, cuts[1:], strict=False))
        given = (self.n_components, self.n_sums, *sums.stride()[:2])
        pairs = _addresses(sums, order, first)
        found = torch.empty(n_nodes, dtype=torch.long)
        self._share_out(
            lambda k: kernel("count_sums")(*self._ranges[k], *given, *pairs, found.data_ptr())
        )
        room = torch.cumsum(found + 1, 0)  # where the next node's begin
        n_entries = int(room[-1]) if n_nodes else 0
        self._starts = torch.empty(n_nodes * (n_lists + 1), dtype=torch.long)
        self._members = torch.empty(n_entries, dtype=torch.int32)
        self._terms = torch.empty(n_entries)
        room -= found + 1
        lists = _addresses(others, room, self._starts, self._members, self._terms)
        self._share_out(lambda k: kernel("list_sums")(*self._ranges[k], *given, *pairs, *lists))

    @property
    def n_entries(self) -> int:
        """How many sums are listed."""
        lists = self._starts.view(-1, self.n_components * self.n_sums + 1)
        return int((lists[:, -1] - lists[:, 0]).sum())

    def gather(self, rows: Tensor, factors: Tensor, out: Tensor) -> None:
        """Add factors[n, d, k] sum_m F[n, m, d, k] rows[m, d] to out[n, d, k].

        Args:
            rows: What the others have, shape (n_nodes, n_channels), or with the components between.
            factors: Shape (n_nodes, n_components, n_sums, n_channels), or 1 for an axis.
            out: The same; over an axis of 1 it is the sum.
        """
        *_, n_channels = rows.shape
        given = (self.n_components, self.n_sums, n_channels, rows.stride(0))
        given += (rows.stride(1) if rows.dim() == 3 else 0, *_steps(factors), *_steps(out))
        lists = _addresses(self._starts, self._members, self._terms, rows, factors)
        is_shared = out.shape[0] == 1 and len(self._ranges) > 1
        parts = [torch.zeros_like(out) if is_shared else out for _ in self._ranges]
        self._share_out(
            lambda k: kernel("gather")(*self._ranges[k], *given, *lists, parts[k].data_ptr())
        )
        if is_shared:
            for part in parts:
                out += part

    def _share_out(self, work: Callable[[int], int]) -> None:
        """Call ``work`` with the number of each range of nodes, on all threads."""
        if len(self._ranges) == 1:
            work(0)
        elif self._ranges:
            with ThreadPoolExecutor(len(self._ranges)) as pool:
                list(pool.map(work, range(len(self._ranges))))


def _addresses(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)


def _steps(tensor: Tensor) -> tuple[int, ...]:
    """Return the distances along all axes but the last, 0 where there is only one place."""
    axes = zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)
    return tuple(step if n > 1 else 0 for n, step in axes)


#: Sums of pairs, as messages read them.
Sums = Tensor | SumLists


def prepared(sums: Tensor, i: Tensor, j: Tensor, n_nodes: int) -> Sums:
    """Return sums as :func:`messages` reads them best, for several rounds of messages.

    In single precision on the CPU that is as lists, unless derivatives by the sums are wanted.

    Args:
        sums: What the pairs carry, shape (n_pairs, n_components, n_sums).
        i: Receiving node of each pair, shape (n_pairs,).
        j: Sending node of each pair, shape (n_pairs,).
        n_nodes: Number of nodes.

    Returns:
        The lists, or ``sums``.
    """
    is_single = sums.device.type == "cpu" and sums.dtype == torch.float32
    return SumLists(sums, i, j, n_nodes) if is_single and not sums.requires_grad else sums


def messages(sums: Sums, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return the messages that each node receives.

    All ways are the same to rounding; derivatives by listed sums are not to be had.

    Args:
        sums: What the pairs carry, shape (n_pairs, n_components, n_sums), or what
            :func:`prepared` made of that.
        weight: Filters, shape (n_channels, n_sums).
        states: What the nodes send, shape (n_nodes, n_channels).
        i: Receiving node of each pair, shape (n_pairs,).
        j: Sending node of each pair, shape (n_pairs,).

    Returns:
        Shape (n_nodes, n_components, n_channels).
    """
    if isinstance(sums, SumLists):
        if states.dtype == torch.float32:
            return _Messages.apply(sums, weight, states)  # type: ignore[no-any-return]
        sums = sums.sums
    return tensor_messages(sums, weight, states, i, j)


def tensor_messages(sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return what :func:`messages` does, by tensor algebra on any device."""
    message = (sums @ weight.t()) * states.index_select(0, j)[:, None]
    shape = (len(states), *message.shape[1:])
    return message.new_zeros(shape).index_add(0, i, message)


class _Messages(torch.autograd.Function):
    """The fused form: every derivative is a gathering along the same lists, or the turned ones."""

    @staticmethod
    def forward(ctx: Any, sums: SumLists, weight: Tensor, states: Tensor) -> Tensor:  # type: ignore[override]
        filters, states = weight.t().contiguous(), states.contiguous()
        ctx.sums = sums
        ctx.save_for_backward(filters, states)
        n, components, channels = sums.n_nodes, sums.sums.shape[1], len(weight)
        received = states.new_zeros(n, components, channels)
        sums.received.gather(states, filters[None, None], received[:, :, None])
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        sums, (filters, states) = ctx.sums, ctx.saved_tensors
        gradient = gradient.contiguous()
        by_weight, by_states = torch.zeros_like(filters), torch.zeros_like(states)
        sums.received.gather(states, gradient[:, :, None], by_weight[None, None])
        sums.sent.gather(gradient, filters[None, None], by_states[:, None, None])
        return None, by_weight.t(), by_states
