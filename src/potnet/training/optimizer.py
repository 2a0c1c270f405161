"""Which way the weights go: orthogonalised momentum for matrices, AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

# Matrices with a shorter side than this are left to AdamW. Those that read a few sums or make a few
# vectors learn worse when all their singular values count alike.
SHORTEST_SIDE = 64

# Columns of a matrix with more rows that are made orthogonal together: cost grows with the square
# of the shorter side, and what a layer reads from different places need not be weighed together.
BLOCK = 128

# Quintic polynomials, one after the other, that bring singular values from 1e-3 to 1 close to 1
# (Amsel, Persson, Musco and Gower 2025, "The Polar Express").
POLYNOMIALS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


# The calls that do the same to all tensors of a list, which torch's own optimizers use too.
foreach = SimpleNamespace(
    copy_=torch._foreach_copy_,  # pyright: ignore[reportPrivateImportUsage]
    lerp=torch._foreach_lerp,  # pyright: ignore[reportPrivateImportUsage]
    lerp_=torch._foreach_lerp_,  # pyright: ignore[reportPrivateImportUsage]
    mul_=torch._foreach_mul_,  # pyright: ignore[reportPrivateImportUsage]
    norm=torch._foreach_norm,  # pyright: ignore[reportPrivateImportUsage]
    sub_=torch._foreach_sub_,  # pyright: ignore[reportPrivateImportUsage]
)


class Muon(AdamW):
    """Muon (Jordan 2024) for the matrices of a network, and AdamW for its other parameters.

    A matrix moves along its momentum with all singular values made equal, so that no few
    directions take all the learning. The step has the root mean square of a typical one of AdamW
    (Liu et al. 2025, "Muon is scalable for LLM training"), so that both share a learning rate and
    a decay. Unlike torch's ``Muon``, which multiplies matrices one by one in bfloat16, it takes
    all of them together and keeps float32: on a CPU without bfloat16 a step of torch's takes
    seconds.

    Args:
        network: What learns.
        learning_rate: Of both.
        weight_decay: Decoupled decay; biases, norms and embeddings are left out.
        momentum: Share of the momentum that a step keeps.
        orthogonal: Whether matrices are treated differently at all; if not, this is AdamW.
        fused: Whether AdamW moves each parameter in one pass over memory.

    Attributes:
        in_one_stack: Whether matrices of all sizes are multiplied together, or on a CPU those of
            one shorter side; None is what the device likes better.
    """

    # RMS of a step of AdamW, in learning rates.
    SIZE = 0.2

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float,
        *,
        momentum: float = 0.95,
        orthogonal: bool = True,
        fused: bool = False,
    ) -> None:
        self.momentum = momentum
        self.in_one_stack: bool | None = None
        self._stacks: dict[tuple[int, ...], Tiles] = {}
        groups = _groups(network, weight_decay, orthogonal)
        super().__init__(groups, lr=learning_rate, fused=fused)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all parameters that have gradients."""
        groups = self.param_groups
        for group in groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        try:
            self.param_groups = [group for group in groups if not group["orthogonal"]]
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Move matrices along their orthogonalised momentum, all of them in few calls."""
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        gradients = [weight.grad for weight in weights]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        averages = [self.state[weight]["momentum"] for weight in weights]
        foreach.lerp_(averages, gradients, 1 - self.momentum)
        ahead = foreach.lerp(gradients, averages, self.momentum)  # as Nesterov looks ahead
        rate = group["lr"]
        foreach.mul_(weights, 1 - rate * group["weight_decay"])
        if isinstance(rate, Tensor):  # a CUDA graph, which reads it from the device
            foreach.sub_(_blocks(weights), self._orthogonalised(_blocks(ahead), rate * self.SIZE))
        else:
            moves = self._orthogonalised(_blocks(ahead))
            foreach.sub_(_blocks(weights), moves, alpha=rate * self.SIZE)

    def _orthogonalised(self, blocks: Sequence[Tensor], size: Tensor | None = None) -> list[Tensor]:
        """Return the moves of all blocks, in order, each ``size`` times as large if given."""
        # A GPU waits for launches; a CPU for products, of which columns of zeros take some too.
        together = self.in_one_stack
        if together is None:
            together = blocks[0].device.type != "cpu"
        alike: dict[int, list[int]] = {}
        for place, block in enumerate(blocks):
            alike.setdefault(0 if together else min(block.shape), []).append(place)
        moves: dict[int, Tensor] = {}
        for places in map(tuple, alike.values()):
            some = [blocks[place] for place in places]
            tiles = self._stacks.get(places)
            if tiles is None or not tiles.hold(some):
                tiles = self._stacks[places] = Tiles(some)
            moves.update(zip(places, tiles.orthogonalised(some, size), strict=True))
        return [moves[place] for place in range(len(blocks))]


def _blocks(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Return the columns of matrices that are made orthogonal together, as views."""
    widths = [BLOCK if len(matrix) > BLOCK else matrix.shape[1] for matrix in matrices]
    parts = [matrix.split(width, 1) for matrix, width in zip(matrices, widths, strict=True)]
    return [block for part in parts for block in part]


class Tiles:
    """Matrices of any shapes in one stack of square tiles, so that few calls multiply all of them.

    A matrix stands upright and is cut across into tiles as wide as the widest of all; what it does
    not fill is zero. All steps are the same for a matrix with columns of zeros at its end, and its
    square X^T X is the sum over its tiles.

    Args:
        matrices: Any number, each of shape (n_rows, n_columns).
    """

    def __init__(self, matrices: Sequence[Tensor]) -> None:
        like = matrices[0]
        self._shapes = [matrix.shape for matrix in matrices]
        self._side = side = max(min(shape) for shape in self._shapes)
        counts = [-(-max(shape) // side) for shape in self._shapes]
        self._counts = counts
        owners = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        self._owners = owners.to(like.device)
        sizes = torch.tensor([max(shape) ** 0.5 for shape in self._shapes])
        self._sizes = sizes.to(like)[:, None, None]
        self._stack = like.new_zeros(len(owners), side, side)
        self._views = self._views_of(self._stack)

    def hold(self, matrices: Sequence[Tensor]) -> bool:
        """Return whether the stack was made for such matrices."""
        like, shapes = matrices[0], [matrix.shape for matrix in matrices]
        mine = self._stack
        return (mine.device, mine.dtype, self._shapes) == (like.device, like.dtype, shapes)

    def _views_of(self, stack: Tensor) -> list[Tensor]:
        """Return the part of a stack that belongs to each matrix, in its shape."""
        views = []
        for (n_rows, n_columns), tiles in zip(self._shapes, stack.split(self._counts), strict=True):
            whole = tiles.view(-1, self._side)
            is_wide = n_rows < n_columns
            views.append(
                whole[:n_columns, :n_rows].mT if is_wide else whole[:n_rows, :n_columns]
            )  # fmt: skip
        return views

    def orthogonalised(
        self, matrices: Sequence[Tensor], size: Tensor | None = None
    ) -> list[Tensor]:
        """Return the nearest matrices whose singular values are all the same, roughly.

        Only small square matrices are multiplied again and again.

        Args:
            matrices: Of the shapes that the stack was made for.
            size: What all are multiplied with in the end, of no dimension.

        Returns:
            U V^T of each U S V^T times the root of its longer side, same shape, as views; singular
            values end up within a third of that if they are above a thousandth of the Frobenius
            norm, and below it otherwise.
        """
        # By the largest number first, whose square the norm could not hold.
        tiny = torch.finfo(self._stack.dtype).tiny
        largest = torch.stack(foreach.norm(matrices, math.inf)).clamp_min_(tiny)
        foreach.copy_(self._views, matrices)
        tiles = self._stack / largest[self._owners, None, None]
        grams = tiles.new_zeros(len(largest), *tiles.shape[1:])
        grams.index_add_(0, self._owners, tiles.mT @ tiles)
        factors = _factors(grams, self._sizes if size is None else self._sizes * size)
        return self._views_of(tiles @ factors[self._owners])


def _factors(gram: Tensor, sizes: Tensor) -> Tensor:
    """Return what each X is to be multiplied with, from X^T X of each, shape (n, side, side).

    Singular values become ``sizes``, shape (n, 1, 1).

    Each polynomial takes X to X (a + b X^T X + c (X^T X)^2). All these factors commute, so X is
    multiplied once, with their product.
    """
    square = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    square = square.clamp_min_(torch.finfo(gram.dtype).tiny)
    gram = gram / square  # as if X had the Frobenius norm 1
    factor = step = _polynomial(gram, *POLYNOMIALS[0])
    for coefficients in POLYNOMIALS[1:]:
        gram = gram @ (step @ step)
        step = _polynomial(gram, *coefficients)
        factor = factor @ step
    return factor.mul_(square.rsqrt_().mul_(sizes))


def _polynomial(x: Tensor, a: float, b: float, c: float) -> Tensor:
    """Return a I + b x + c x x of square matrices ``x``."""
    found = torch.baddbmm(x, x, x, beta=b, alpha=c)
    found.diagonal(dim1=-2, dim2=-1).add_(a)
    return found


def _groups(network: nn.Module, weight_decay: float, orthogonal: bool) -> list[dict[str, Any]]:
    """Return the parameters of ``network`` by how they are treated."""
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    matrices, decayed, kept = [], [], []
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim == 1 or id(parameter) in embeddings:
            kept.append(parameter)
        elif orthogonal and parameter.ndim == 2 and min(parameter.shape) >= SHORTEST_SIDE:
            matrices.append(parameter)
        else:
            decayed.append(parameter)
    groups = [(matrices, weight_decay, True), (decayed, weight_decay, False), (kept, 0.0, False)]
    return [
        {"params": params, "weight_decay": decay, "orthogonal": special}
        for params, decay, special in groups
        if params
    ]
