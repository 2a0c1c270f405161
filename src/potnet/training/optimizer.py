"""Which way the weights go: orthogonalised momentum for matrices, AdamW for all else."""

from __future__ import annotations

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
        """Move matrices along their orthogonalised momentum."""
        directions: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            average = state["momentum"].lerp_(weight.grad, 1 - self.momentum)
            ahead = weight.grad.lerp(average, self.momentum)  # as Nesterov looks ahead
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            width = BLOCK if len(weight) > BLOCK else weight.shape[1]
            for block, direction in zip(weight.split(width, 1), ahead.split(width, 1), strict=True):
                directions.setdefault(block.shape, []).append((block, direction))
        for shape, pairs in directions.items():
            size = group["lr"] * self.SIZE * max(shape) ** 0.5
            moves = orthogonalised(torch.stack([direction for _, direction in pairs]))
            for (block, _), move in zip(pairs, moves, strict=True):
                block.sub_(move, alpha=size)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return the nearest matrices whose singular values are all 1, roughly.

    Args:
        matrices: Shape (..., n_rows, n_columns).

    Returns:
        U V^T of each U S V^T, same shape; singular values end up within a third of 1 if they are
        above a thousandth of the Frobenius norm, and below 1 otherwise.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        return orthogonalised(matrices.mT).mT
    tiny = torch.finfo(matrices.dtype).tiny
    # By the largest number first, whose square the norm could not hold.
    largest = torch.maximum(matrices.amax((-2, -1)), -matrices.amin((-2, -1)))[..., None, None]
    x = matrices / largest.clamp_min(tiny)
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(tiny)
    # Each polynomial takes X to X (a + b X^T X + c (X^T X)^2). All these factors commute, so only
    # small square matrices are multiplied, and X once.
    gram = x.mT @ x
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor = step = _polynomial(gram, identity, *POLYNOMIALS[0])
    for coefficients in POLYNOMIALS[1:]:
        gram = gram @ (step @ step)
        step = _polynomial(gram, identity, *coefficients)
        factor = factor @ step
    return x @ factor


def _polynomial(x: Tensor, identity: Tensor, a: float, b: float, c: float) -> Tensor:
    """Return a I + b x + c x x of square matrices ``x``."""
    return a * identity + b * x + (c * x) @ x


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
