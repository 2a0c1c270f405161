"""Which way the weights go: orthogonalised momentum for matrices, AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
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
    those of one shape together and keeps float32: on a CPU without bfloat16 a step of torch's takes
    seconds.

    Args:
        network: What learns.
        learning_rate: Of both.
        weight_decay: Decoupled decay; biases, norms and embeddings are left out.
        momentum: Share of the momentum that a step keeps.
        orthogonal: Whether matrices are treated differently at all; if not, this is AdamW.
        fused: Whether AdamW moves each parameter in one pass over memory.
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
        widths = [BLOCK if len(weight) > BLOCK else weight.shape[1] for weight in weights]
        blocks = [part.split(width, 1) for part, width in zip(ahead, widths, strict=True)]
        sizes = [
            group["lr"] * self.SIZE * max(block.shape) ** 0.5 for part in blocks for block in part
        ]
        moved = iter(orthogonalised([block for part in blocks for block in part], sizes))
        moves = [
            next(moved) if len(part) == 1 else torch.cat([next(moved) for _ in part], 1)
            for part in blocks
        ]
        foreach.mul_(weights, 1 - group["lr"] * group["weight_decay"])
        foreach.sub_(weights, moves)


def orthogonalised(matrices: Sequence[Tensor], sizes: Sequence[float]) -> list[Tensor]:
    """Return the nearest matrices whose singular values are all the same, roughly.

    Only small square matrices are multiplied again and again, and those of all matrices with
    equally many rows or columns, whichever are fewer, together.

    Args:
        matrices: Any number, of any shapes (n_rows, n_columns).
        sizes: What the singular values of each are to be.

    Returns:
        size U V^T of each U S V^T, same shape; singular values end up within a third of their size
        if they are above a thousandth of the Frobenius norm, and below it otherwise.
    """
    tall = [matrix.mT if matrix.shape[0] < matrix.shape[1] else matrix for matrix in matrices]
    # Those of one shape, and those of one shorter side, stand together: parts of them are views.
    order = sorted(range(len(tall)), key=lambda k: tall[k].shape[::-1])
    groups = [list(places) for _, places in groupby(order, key=lambda k: tall[k].shape)]
    # By the largest number first, whose square the norm could not hold.
    tiny = torch.finfo(tall[0].dtype).tiny
    largest = torch.stack(foreach.norm([tall[k] for k in order], math.inf)).clamp_min_(tiny)
    scales = largest[:, None, None].split([len(places) for places in groups])
    stacks = [
        torch.stack([tall[k] for k in places]) / scale
        for places, scale in zip(groups, scales, strict=True)
    ]
    moves: list[Tensor] = []
    for _, alike in groupby(stacks, key=lambda stack: stack.shape[-1]):
        parts = list(alike)
        factors = _factors(torch.cat([stack.mT @ stack for stack in parts]))
        shares = factors.split([len(stack) for stack in parts])
        for stack, factor in zip(parts, shares, strict=True):
            moves += (stack @ factor).unbind()
    foreach.mul_(moves, [sizes[k] for k in order])
    found = dict(zip(order, moves, strict=True))
    return [
        found[k].mT if found[k].shape != matrix.shape else found[k]
        for k, matrix in enumerate(matrices)
    ]


def _factors(gram: Tensor) -> Tensor:
    """Return what each X is to be multiplied with, from X^T X of each, shape (n, side, side).

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
    return factor.mul_(square.rsqrt_())


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
