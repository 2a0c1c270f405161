"""Messages that are linear in sums, without a row per pair in memory.

    A[i, d, c] = sum over the pairs p from i to j of (sum_k F[p, d, k] W[c, k]) s[j, c]

Written with tensors, filters and products of all pairs go through memory several times, and that,
not arithmetic, is what a training step on a CPU waits for. Here a pair is read, multiplied and
added while it is in the cache; the backward pass computes the filters again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from latticesums.compiled.machine_code import as_function, shipped

HERE = Path(__file__).parent
SHIPPED = HERE / "shipped"
#: The compiled functions: a letter for each argument, as :class:`latticesums` compiled kernels.
KERNELS = {"receive": "iiiiiiiiFFFIIFF", "send_back": "iiiiiiiiFFFIIFFFFF"}
Result = TypeVar("Result")

# Fewer pairs than this are not worth a second thread.
_PAIRS_PER_THREAD = 2000


def fingerprint() -> str:
    """Return a fingerprint of the source of the compiled functions."""
    return hashlib.sha256((HERE / "message_kernels.py").read_bytes()).hexdigest()


@cache
def _kernel(name: str) -> Callable[..., int]:
    """Return a compiled function: what is shipped, or else what numba makes here."""
    address = shipped(name, SHIPPED, fingerprint(), package="potnet")
    if address is None:
        from potnet.models.message_kernels import compiled  # imports numba

        address = compiled(name, KERNELS[name])
    return as_function(address, KERNELS[name])


def messages(sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return the messages that each node receives.

    Fused on the CPU in float32 unless a derivative by the sums is wanted; plain tensor algebra
    otherwise. Both are the same to rounding.

    Args:
        sums: What the pairs carry, shape (n_pairs, n_components, n_sums).
        weight: Filters, shape (n_channels, n_sums).
        states: What the nodes send, shape (n_nodes, n_channels).
        i: Receiving node of each pair, ascending, shape (n_pairs,).
        j: Sending node of each pair, shape (n_pairs,).

    Returns:
        Shape (n_nodes, n_components, n_channels).
    """
    tensors = (sums, weight, states)
    fused = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    if fused and not sums.requires_grad:
        return _Messages.apply(sums, weight, states, i, j)  # type: ignore[no-any-return]
    return tensor_messages(sums, weight, states, i, j)


def tensor_messages(sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return what :func:`messages` does, by tensor algebra on any device."""
    if states.device.type == "cpu" and states.dtype == torch.float64:
        n = len(states)
        if len(i) == n * n and _are_all_pairs(i, j, n):
            return _messages_of_all(sums.view(n, n, *sums.shape[1:]), weight, states)
    message = (sums @ weight.t()) * states.index_select(0, j)[:, None]
    shape = (len(states), *message.shape[1:])
    return message.new_zeros(shape).index_add(0, i, message)


def _are_all_pairs(i: Tensor, j: Tensor, n: int) -> bool:
    """Return whether pairs are those of one crystal, row by row."""
    number = torch.arange(n * n, device=i.device)
    return bool((i * n + j == number).all())


def _messages_of_all(sums: Tensor, weight: Tensor, states: Tensor) -> Tensor:
    """Return the messages in one crystal, where pairs are a matrix, (n, n, n_components, n_sums).

    Products of matrices, of sums with states and of what comes out with the filters, take less
    time than the filters of all pairs, forth and back.
    """
    n, _, n_components, n_sums = sums.shape
    flat = sums.reshape(n, n, n_components * n_sums)
    met = torch.bmm(flat.transpose(1, 2), states.expand(n, -1, -1))
    met = met.view(n, n_components, n_sums, states.shape[1])
    return (met * weight.t()).sum(2)


class _Messages(torch.autograd.Function):
    """The fused form."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor
    ) -> Tensor:
        ctx.save_for_backward(sums, weight, states, i, j)
        received = states.new_zeros(len(states), sums.shape[1], states.shape[1])
        receive, given = _kernel("receive"), _Given(sums, weight, states, i, j)

        def work(start: int, stop: int) -> None:
            filters = np.empty(given.n_channels, np.float32)
            receive(start, stop, *given.arguments, received.data_ptr(), filters.ctypes.data)

        _share_out(i, i, work)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        sums, weight, states, i, j = ctx.saved_tensors
        send_back, given = _kernel("send_back"), _Given(sums, weight, states, i, j)
        gradient = gradient.contiguous()
        by_states = torch.zeros_like(states, memory_format=torch.contiguous_format)

        def work(start: int, stop: int) -> NDArray[np.float32]:
            by_weight = np.zeros((given.n_sums, given.n_channels), np.float32)
            room = np.zeros((5, given.n_channels), np.float32)
            rows = np.zeros((4, given.n_sums), np.float32)
            places = (gradient.data_ptr(), by_weight.ctypes.data, by_states.data_ptr())
            send_back(
                start, stop, *given.arguments, *places, room.ctypes.data, rows.ctypes.data
            )  # fmt: skip
            return by_weight

        parts = _share_out(torch.minimum(i, j), torch.maximum(i, j), work)
        by_weight = torch.from_numpy(np.sum(parts, axis=0)).t()
        return None, by_weight, by_states, None, None


class _Given:
    """What the kernels read: the filters with the channels innermost.

    Attributes:
        n_sums: Sums of a pair.
        n_channels: Channels of a message.
        arguments: Numbers and addresses in the kernels' order; they are good while this is kept.
    """

    def __init__(self, sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> None:
        if sums.stride(2) != 1:
            sums = sums.contiguous()
        self._kept = (sums, weight.t().contiguous(), states.contiguous())
        self._kept += (i.contiguous(), j.contiguous())
        self.n_channels, self.n_sums = weight.shape
        numbers = (len(states), sums.shape[1], self.n_sums, self.n_channels, *sums.stride()[:2])
        self.arguments = (*numbers, *(tensor.data_ptr() for tensor in self._kept))


def _share_out(low: Tensor, high: Tensor, work: Callable[[int, int], Result]) -> list[Result]:
    """Call ``work(start, stop)`` for ranges of pairs that share no node, on all threads.

    Args:
        low: Lowest node that each pair changes, shape (n_pairs,).
        high: Highest one, shape (n_pairs,).
        work: What is to be done.

    Returns:
        What the calls returned, in the order of the pairs.
    """
    n_pairs = len(low)
    n_parts = max(1, min(torch.get_num_threads(), n_pairs // _PAIRS_PER_THREAD))
    if n_parts == 1:
        return [work(0, n_pairs)]
    # A cut is clean where everything before it touches lower nodes than everything after it.
    before = high.cummax(0).values[:-1]
    after = low.flip(0).cummin(0).values.flip(0)[1:]
    clean = (before < after).nonzero().squeeze(1).numpy() + 1
    wanted = np.arange(1, n_parts) * n_pairs // n_parts
    places = np.searchsorted(clean, wanted)
    cuts = sorted({0, n_pairs, *clean[places[places < len(clean)]].tolist()})
    with ThreadPoolExecutor(len(cuts) - 1) as pool:
        return list(pool.map(work, cuts[:-1], cuts[1:]))
