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


def as_matrix(sums: Tensor, i: Tensor, j: Tensor, n_nodes: int) -> Tensor:
    """Return sums as :func:`messages` reads them best: where all pairs are a matrix, as one.

    That is for one crystal in float64 on the CPU, where its derivatives are computed.

    Args:
        sums: What the pairs carry, shape (n_pairs, n_components, n_sums).
        i: Receiving node of each pair, shape (n_pairs,).
        j: Sending node of each pair, shape (n_pairs,).
        n_nodes: Number of nodes.

    Returns:
        Shape (n_nodes, n_components, n_sums, n_nodes), the sending node last; or ``sums``.
    """
    n = n_nodes
    if sums.device.type != "cpu" or sums.dtype != torch.float64 or len(i) != n * n:
        return sums
    if not bool((i * n + j == torch.arange(n * n)).all()):
        return sums
    return sums.view(n, n, *sums.shape[1:]).permute(0, 2, 3, 1).contiguous()


def messages(sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return the messages that each node receives.

    Fused on the CPU in float32 unless a derivative by the sums is wanted; plain tensor algebra
    otherwise. All are the same to rounding.

    Args:
        sums: What the pairs carry, shape (n_pairs, n_components, n_sums), or what
            :func:`as_matrix` made of that.
        weight: Filters, shape (n_channels, n_sums).
        states: What the nodes send, shape (n_nodes, n_channels).
        i: Receiving node of each pair, ascending, shape (n_pairs,).
        j: Sending node of each pair, shape (n_pairs,).

    Returns:
        Shape (n_nodes, n_components, n_channels).
    """
    if sums.dim() == 4:
        return _MessagesOfAll.apply(sums, weight, states)  # type: ignore[no-any-return]
    tensors = (sums, weight, states)
    fused = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    if fused and not sums.requires_grad:
        return _Messages.apply(sums, weight, states, i, j)  # type: ignore[no-any-return]
    return tensor_messages(sums, weight, states, i, j)


def tensor_messages(sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return what :func:`messages` does, by tensor algebra on any device."""
    message = (sums @ weight.t()) * states.index_select(0, j)[:, None]
    shape = (len(states), *message.shape[1:])
    return message.new_zeros(shape).index_add(0, i, message)


# So many numbers of what nodes meet are worked on at a time: they stay in the cache.
_IN_CACHE = 2**17


class _MessagesOfAll(torch.autograd.Function):
    """The messages where sums are a matrix: one product of matrices forth, and two back.

    Sums meet states first, and filters what comes out, for a few receiving nodes at a time. Left to
    the tape, the way back makes filters of all pairs. Its own way has derivatives again.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, weight: Tensor, states: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(sums, weight, states)
        filters = weight.t().contiguous()
        return _joined([(_met(part, states) * filters).sum(2) for part in _parts(sums, states)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        sums, weight, states = ctx.saved_tensors
        filters, back = weight.t().contiguous(), states.t()
        by_sums, by_weight, by_states = [], [], []
        start = 0
        for part in _parts(sums, states):
            own = gradient[start : start + len(part), :, None]
            start += len(part)
            rows = (own * filters).view(-1, filters.shape[1])
            by_states.append(part.view(-1, len(states)).t() @ rows)
            if ctx.needs_input_grad[0]:
                by_sums.append((rows @ back).view(part.shape))
            if ctx.needs_input_grad[1]:
                by_weight.append((own * _met(part, states)).sum((0, 1)).t())
        return (
            _joined(by_sums) if by_sums else None,
            sum(by_weight) if by_weight else None,
            sum(by_states[1:], by_states[0]),
        )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _parts(sums: Tensor, states: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of some receiving nodes, and those of the next."""
    numbers = sums.shape[1] * sums.shape[2] * states.shape[1]
    return sums.split(max(1, _IN_CACHE // numbers))


def _met(sums: Tensor, states: Tensor) -> Tensor:
    """Return sums times what is sent, over all senders, (n, n_components, n_sums, n_channels)."""
    met = sums.view(-1, len(states)) @ states
    return met.view(*sums.shape[:3], states.shape[1])


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
