"""Messages of one crystal whose pairs are a matrix: products of matrices, forth and back.

A derivative by the sums is wanted of one crystal at a time, for forces and stress. Sums meet states
first, and filters what comes out. Derivatives by the sums are gathered over all messages that read
them, so that the tape neither keeps nor adds arrays of all pairs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# So many bytes of what nodes meet are worked on at a time: they stay in the cache.
_IN_CACHE = 2**20
_NEGLIGIBLE = 1e-20


class PairMatrix:
    """The sums of all pairs of one crystal.

    Attributes:
        sums: Shape (n_nodes, n_components, n_sums, n_nodes), the sending node last.

    Args:
        sums: Shape (n_nodes, n_nodes, n_components, n_sums), the receiving node first.
    """

    def __init__(self, sums: Tensor) -> None:
        self._gathered = _Gathered()
        self.sums: Tensor = _Source.apply(sums, self._gathered)  # type: ignore[assignment]

    def messages(self, weight: Tensor, states: Tensor) -> Tensor:
        """Return the messages of all nodes, (n_nodes, n_components, n_channels).

        Args:
            weight: Filters, shape (n_channels, n_sums).
            states: What the nodes send, shape (n_nodes, n_channels).
        """
        return _Messages.apply(self.sums, weight, states, self._gathered)  # type: ignore[no-any-return]


class _Gathered:
    """What a backward pass has found so far of the derivative by the sums.

    Attributes:
        total: Shape of the sums; None before the first.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self._task = -1

    def room(self, like: Tensor) -> Tensor:
        """Return what to add to: zeros in a pass that begins."""
        task = torch._C._current_graph_task_id()
        if self.total is None or task != self._task:
            # What another pass left behind was for nobody: it had no way to the sums.
            self.total, self._task = torch.zeros_like(like), task
        return self.total

    def taken(self) -> Tensor | None:
        """Return the derivative, and begin anew."""
        total, self.total = self.total, None
        return total


class _Source(torch.autograd.Function):
    """The sums with the sending node last; on the way back, what all messages have gathered."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, gathered: _Gathered) -> Tensor:  # type: ignore[override]
        ctx.set_materialize_grads(False)
        ctx.gathered = gathered
        matrix = sums.permute(0, 2, 3, 1).contiguous()
        if matrix.dtype == torch.float32:
            # Products with subnormal numbers, the ends of shells, are a hundred times as slow.
            matrix.masked_fill_(matrix.abs() < _NEGLIGIBLE, 0)
        return matrix

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> Any:  # type: ignore[override]
        # Messages hand over a gradient themselves only if it is to have derivatives again.
        found = ctx.gathered.taken() if gradient is None else gradient
        return None if found is None else found.permute(0, 3, 1, 2), None


class _Messages(torch.autograd.Function):
    """For a few receiving nodes at a time, one product of matrices forth, and two back.

    Left to the tape, the way back makes filters of all pairs. Its own way has derivatives again.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, sums: Tensor, weight: Tensor, states: Tensor, gathered: _Gathered
    ) -> Tensor:
        ctx.save_for_backward(sums, weight, states)
        ctx.gathered = gathered
        filters = weight.t().contiguous()
        received = states.new_empty(*sums.shape[:2], states.shape[1])
        for rows, part in _parts(sums, states):
            torch.sum(_met(part, states).mul_(filters), 2, out=received[rows])
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        sums, weight, states = ctx.saved_tensors
        by_sums, by_weight, _ = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            return *_taped(sums, weight, states, gradient), None
        filters, back = weight.t().contiguous(), states.t()
        by_states = torch.zeros_like(states)
        filtered = torch.zeros_like(filters) if by_weight else None
        total = ctx.gathered.room(sums) if by_sums else None
        for rows, part in _parts(sums, states):
            own = gradient[rows, :, None]
            given = (own * filters).view(-1, filters.shape[1])
            by_states.addmm_(part.view(-1, len(states)).t(), given)
            if total is not None:
                total[rows].view(-1, len(states)).addmm_(given, back)
            if filtered is not None:
                filtered += (own * _met(part, states)).sum((0, 1))
        return None, None if filtered is None else filtered.t(), by_states, None


def _taped(
    sums: Tensor, weight: Tensor, states: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives by sums, filters and states, which have derivatives themselves."""
    given = gradient[:, :, None] * weight.t()
    met = (sums.flatten(0, 2) @ states).view(given.shape)
    by_weight = (gradient[:, :, None] * met).sum((0, 1)).t()
    return given @ states.t(), by_weight, sums.flatten(0, 2).t() @ given.flatten(0, 2)


def _parts(sums: Tensor, states: Tensor) -> list[tuple[slice, Tensor]]:
    """Return some receiving nodes with their rows, and the next."""
    size = sums.shape[1] * sums.shape[2] * states.shape[1] * states.element_size()
    step = max(1, _IN_CACHE // size)
    some = [slice(k, k + step) for k in range(0, len(sums), step)]
    return [(rows, sums[rows]) for rows in some]


def _met(sums: Tensor, states: Tensor) -> Tensor:
    """Return sums times what is sent, over all senders, (n, n_components, n_sums, n_channels)."""
    met = sums.view(-1, len(states)) @ states
    return met.view(*sums.shape[:3], states.shape[1])
