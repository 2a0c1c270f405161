"""Messages that are linear in sums, without a row per pair in memory.

    A[i, d, c] = sum over the pairs p from i to j of (sum_k F[p, d, k] W[c, k]) s[j, c]

Written with tensors, filters and products of all pairs go through memory several times, and that,
not arithmetic, is what a training step on a CPU waits for. Here a pair is read, multiplied and
added while it is in the cache; the backward pass computes the filters again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

_OPTIONS: dict[str, Any] = dict(fastmath=True, nogil=True, error_model="numpy")
Result = TypeVar("Result")

# Fewer pairs than this are not worth a second thread.
_PAIRS_PER_THREAD = 2000


def _compiled(**options: Any) -> Any:
    """Compile a function, and store it on disk where a folder takes the compiled code."""

    def compile(function: Any) -> Any:
        found = numba.njit(**_OPTIONS, **options)(function)
        with suppress(RuntimeError):  # a read-only package without a home is no mistake
            found.enable_caching()
        return found

    return compile


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
    message = (sums @ weight.t()) * states.index_select(0, j)[:, None]
    shape = (len(states), *message.shape[1:])
    return message.new_zeros(shape).index_add(0, i, message)


class _Messages(torch.autograd.Function):
    """The fused form."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor
    ) -> Tensor:
        ctx.save_for_backward(sums, weight, states, i, j)
        received = states.new_zeros(len(states), sums.shape[1], states.shape[1])
        given = _arrays(sums, weight, states, i, j)

        receive: Any = _receive

        def work(start: int, stop: int) -> None:
            receive(start, stop, *given, received.numpy())

        _share_out(i, i, work)
        return received

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        sums, weight, states, i, j = ctx.saved_tensors
        given = _arrays(sums, weight, states, i, j)
        by_message = gradient.contiguous().numpy()
        by_states = torch.zeros_like(states, memory_format=torch.contiguous_format)

        send_back: Any = _send_back

        def work(start: int, stop: int) -> NDArray[np.float32]:
            by_weight = np.zeros(given[1].shape, np.float32)
            send_back(start, stop, *given, by_message, by_weight, by_states.numpy())
            return by_weight

        parts = _share_out(torch.minimum(i, j), torch.maximum(i, j), work)
        by_weight = torch.from_numpy(np.sum(parts, axis=0)).t()
        return None, by_weight, by_states, None, None


def _arrays(sums: Tensor, weight: Tensor, states: Tensor, i: Tensor, j: Tensor) -> list[Any]:
    """Return what the kernels read; the filters with the channels innermost."""
    return [
        sums.detach().numpy(),
        weight.detach().t().contiguous().numpy(),
        states.detach().contiguous().numpy(),
        i.contiguous().numpy(),
        j.contiguous().numpy(),
    ]


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


@_compiled(inline="always")
def _filter(row: Any, weight: Any, out: Any) -> None:
    """Write ``row @ weight``."""
    n_sums, n_channels = weight.shape
    for c in range(n_channels):
        out[c] = np.float32(0)
    k = 0
    # Four rows at a time, so that the sums stay in registers four times as long.
    while k + 4 <= n_sums:
        f0, f1, f2, f3 = row[k], row[k + 1], row[k + 2], row[k + 3]
        w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
        for c in range(n_channels):
            out[c] += f0 * w0[c] + f1 * w1[c] + f2 * w2[c] + f3 * w3[c]
        k += 4
    while k < n_sums:
        f0, w0 = row[k], weight[k]
        for c in range(n_channels):
            out[c] += f0 * w0[c]
        k += 1


@_compiled()
def _receive(
    start: int, stop: int, sums: Any, weight: Any, states: Any, i: Any, j: Any, received: Any
) -> None:
    """Add the messages of the pairs ``start`` to ``stop`` to ``received``."""
    n_channels = weight.shape[1]
    filters = np.empty(n_channels, np.float32)
    for p in range(start, stop):
        state = states[j[p]]
        for d in range(sums.shape[1]):
            _filter(sums[p, d], weight, filters)
            out = received[i[p], d]
            for c in range(n_channels):
                out[c] += filters[c] * state[c]


@_compiled()
def _send_back(
    start: int,
    stop: int,
    sums: Any,
    weight: Any,
    states: Any,
    i: Any,
    j: Any,
    by_message: Any,
    by_weight: Any,
    by_states: Any,
) -> None:
    """Add the derivatives by the filters and by the states that the pairs give."""
    n_sums, n_channels = weight.shape
    filters = np.empty(n_channels, np.float32)
    # Four pairs at a time change the derivative by the filters, which so moves four times less.
    waiting = np.zeros((4, n_channels), np.float32)
    rows = np.zeros((4, n_sums), np.float32)
    n = 0
    for p in range(start, stop):
        state, by_state = states[j[p]], by_states[j[p]]
        for d in range(sums.shape[1]):
            _filter(sums[p, d], weight, filters)
            given, product = by_message[i[p], d], waiting[n]
            for c in range(n_channels):
                by_state[c] += given[c] * filters[c]
                product[c] = given[c] * state[c]
            for k in range(n_sums):
                rows[n, k] = sums[p, d, k]
            n += 1
            if n == 4:
                _add_outer(rows, waiting, by_weight)
                n = 0
    rows[n:] = 0
    _add_outer(rows, waiting, by_weight)


@_compiled(inline="always")
def _add_outer(rows: Any, columns: Any, out: Any) -> None:
    """Add ``rows.T @ columns``, four rows each."""
    c0, c1, c2, c3 = columns[0], columns[1], columns[2], columns[3]
    for k in range(rows.shape[1]):
        r0, r1, r2, r3 = rows[0, k], rows[1, k], rows[2, k], rows[3, k]
        line = out[k]
        for c in range(columns.shape[1]):
            line[c] += r0 * c0[c] + r1 * c1[c] + r2 * c2[c] + r3 * c3[c]
