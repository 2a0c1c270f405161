"""The long half where a crystal repeats in one or two directions only: wires and slabs.

A potential is a mixture of Gaussians exp(-r^2 t). Over a lattice of d < 3 vectors, Poisson's
formula turns the Gaussians of one t into waves along the lattice, each with a Gaussian of the
height h across it, so that the long half is an integral over t < alpha^2 (docs/theory.md, eq. 24).
It has no closed form in general. In u = log(alpha^2 / t) it is as smooth as can be, and the rule
of Gauss and Legendre integrates it within a bound that holds for all heights (eq. 28). All
potentials share the nodes, so that another potential costs another column of weights.

The first half of this file bounds (numpy, one entry per crystal), the second sums (torch).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.bounds import Lattice
from latticesums.errors import ConfigError
from latticesums.potentials.base import Mixture, Potential
from latticesums.potentials.powers import exponential_integral, upper_gamma_bound
from latticesums.radii import (
    Halves,
    Quadrature,
    direct_radius,
    short_tail,
    solve_alpha,
    solve_gaussian,
)

Array = NDArray[np.float64]

_MAX_NODES = 2000


def balance_lower(
    potentials: Sequence[Potential],
    lattice: Lattice,
    counts: Lattice,
    shortest: Array,
    budget: Array,
) -> Halves:
    """Return where the halves end: two fifths of the budget for each, a fifth for the nodes.

    All split potentials of a crystal share the nodes, and so the width of the split.

    Args:
        potentials: What to sum over slabs or wires.
        lattice: Counts of the lattices.
        counts: Counts of the reciprocal lattices.
        shortest: No wave vector but 0 is shorter, 1/Å, shape (n_graphs,).
        budget: What truncation may amount to, shape (n_graphs, n_potentials).
    """
    mixtures = [v.mixture and v.mixture.as_numbers for v in potentials]
    balanced = _balanced_radius(lattice, budget.min(1))
    direct = np.stack(
        [direct_radius(v, lattice, budget[:, p]) for p, v in enumerate(potentials)], 1
    )
    split = np.array([m is not None for m in mixtures]) & (direct > 1.4 * balanced[:, None])
    for p, potential in enumerate(potentials):
        if not np.isfinite(direct[~split[:, p], p]).all():
            raise ConfigError(
                f"{potential.name}: its sum over a slab or a wire must have a bound, got none. "
                "Give the class `direct_tail` or `mixture`, or sum over a crystal."
            )
    radius = np.where(split, balanced[:, None], direct).max(1)
    halved = [
        (p, v, m)
        for p, (v, m) in enumerate(zip(potentials, mixtures, strict=True))
        if m is not None and split[:, p].any()
    ]
    truncation = np.zeros(split.shape)
    for p, potential in enumerate(potentials):
        tail = potential.direct_tail(lattice, radius)
        truncation[:, p] = 0 if tail is None else tail
    if not halved:
        nothing = np.zeros(split.shape)
        return Halves(radius, np.zeros(len(radius)), nothing, None, truncation)

    waves = _Waves(counts, lattice.volume, shortest)
    alpha = np.zeros(len(radius))
    for p, potential, _ in halved:
        width = solve_alpha(potential, lattice, radius, 0.4 * budget[:, p])
        alpha = np.maximum(alpha, np.where(split[:, p], width, 0))
    whole = alpha == 0  # crystals that split nothing, for which any numbers do
    alpha = np.where(whole, 1, alpha)
    wave_radius, lowest = np.zeros(len(radius)), alpha
    for p, _, mixed in halved:
        k = waves.solve_radius(mixed, alpha, 0.4 * budget[:, p])
        wave_radius = np.maximum(wave_radius, np.where(split[:, p], k, 0))
        low = waves.solve_lowest(mixed, 0.1 * budget[:, p])
        lowest = np.where(split[:, p], np.minimum(lowest, low), lowest)
    length = np.maximum(2 * np.log(alpha / lowest), 0.5)
    lowest = alpha * np.exp(-length / 2)
    count = np.full(len(radius), 2)
    n_waves = waves.lattice.most(wave_radius)
    wave_radius = np.where(whole, 1, wave_radius)
    for p, _, mixed in halved:
        needed = _nodes_needed(mixed, waves, alpha, length, n_waves, 0.1 * budget[:, p])
        count = np.maximum(count, np.where(split[:, p], needed, 2))
    rule = Quadrature(length, count)
    for p, potential, mixed in halved:
        total = short_tail(potential, lattice, radius, alpha)
        total += waves.beyond(mixed, wave_radius, alpha) + waves.below(mixed, lowest)
        total += _rule_error(mixed, waves, alpha, rule, n_waves)
        truncation[:, p] = np.where(split[:, p], total, truncation[:, p])
    wave_radius = np.where(whole, 0, wave_radius)
    return Halves(radius, wave_radius, np.where(split, alpha[:, None], 0), rule, truncation)


def _balanced_radius(lattice: Lattice, budget: Array) -> Array:
    """Return the radius (Å) at which images and waves cost about the same.

    With N images for each pair there are b^2 (log(1 / budget) / pi)^d / (2 N) waves, b being the
    volume of the unit ball, and an image costs about as much as six waves with their nodes.
    """
    d = lattice.dimension
    ball = (2.0, math.pi)[d - 1]
    product = 0.5 * ball**2 * ((np.log(1 / budget) + 1) / math.pi) ** d
    images = np.maximum(8.0, np.sqrt(0.15 * product))  # fewer would need large, cancelling halves
    return (lattice.volume * images / ball) ** (1 / d)


@dataclass(frozen=True)
class _Waves:
    """Bounds of the long half and its nodes (docs/theory.md, "Slabs, wires and clusters").

    Attributes:
        lattice: Counts of the wave vectors.
        measure: Area or length of the cells, shape (n_graphs,).
        shortest: No wave vector but 0 is shorter, 1/Å, shape (n_graphs,).
    """

    lattice: Lattice
    measure: Array
    shortest: Array

    def one(self, mixed: Mixture, k: Array, alpha: Array) -> Array:
        """Return numbers not smaller than the wave ``k`` of the long half, at any height.

        The integral of t^(s-1) exp(-q / t) over t < alpha^2, with s = power - d/2 and
        4 q = k^2 + rate^2, is an incomplete gamma function (eq. 25).
        """
        d = self.lattice.dimension
        s = mixed.power - d / 2
        q = (k * k + mixed.rate**2) / 4
        gamma = upper_gamma_bound(-s, q / alpha**2)
        return mixed.weight * math.pi ** (d / 2) / self.measure * q**s * gamma

    def beyond(self, mixed: Mixture, k: Array, alpha: Array) -> Array:
        """Bound what wave vectors longer than ``k`` add (eq. 19 in the reciprocal lattice)."""
        return self.lattice.gaussian_tail(self.one(mixed, k, alpha), k, 1 / (4 * alpha**2))

    def below(self, mixed: Mixture, alpha: Array) -> Array:
        """Bound what t < alpha^2 adds to all waves that are integrated."""
        total = self.beyond(mixed, self.shortest, alpha)
        return total + self.one(mixed, np.zeros_like(alpha), alpha) if mixed.rate else total

    def solve_radius(self, mixed: Mixture, alpha: Array, budget: Array) -> Array:
        """Return a small wave number beyond which wave vectors add at most ``budget``."""
        y = solve_gaussian(lambda y: self.beyond(mixed, 2 * alpha * np.sqrt(y), alpha), budget)
        return 2 * alpha * np.sqrt(y)

    def solve_lowest(self, mixed: Mixture, budget: Array) -> Array:
        """Return a large alpha for which all t < alpha^2 together add at most ``budget``."""
        k = np.minimum(self.shortest, mixed.rate) if mixed.rate else self.shortest
        y = solve_gaussian(lambda y: self.below(mixed, k / (2 * np.sqrt(y))), budget)
        return k / (2 * np.sqrt(y))


def _rule_error(
    mixed: Mixture, waves: _Waves, alpha: Array, rule: Quadrature, n_waves: Array
) -> Array:
    """Bound the error of the nodes in a sum of ``n_waves`` waves (eq. 28)."""
    d = waves.lattice.dimension
    s = mixed.power - d / 2
    slope = np.pi / rule.length
    growth = slope + np.sqrt(slope**2 + 1)  # of the ellipse whose half width is pi / 2
    beyond = rule.length / 2 * (np.sqrt(slope**2 + 1) - 1)
    largest = mixed.weight * math.pi ** (d / 2) / waves.measure * alpha ** (2 * s)
    largest = largest * np.exp(s * beyond if s > 0 else -s * (rule.length + beyond))
    error = 64 / 15 * rule.length / 2 * largest * growth ** (-2.0 * rule.count)
    return n_waves * error / (1 - growth**-2.0)


def _nodes_needed(
    mixed: Mixture, waves: _Waves, alpha: Array, length: Array, n_waves: Array, budget: Array
) -> NDArray[np.int64]:
    """Return the smallest numbers of nodes whose error is within the budget, shape (n_graphs,)."""
    two = Quadrature(length, np.full(len(length), 2))
    slope = np.pi / length
    per_node = 2 * np.log(slope + np.sqrt(slope**2 + 1))
    excess = np.log(_rule_error(mixed, waves, alpha, two, n_waves) / budget)
    needed = 2 + np.ceil(np.maximum(excess / per_node, 0))
    if not (needed <= _MAX_NODES).all():
        raise ConfigError(
            "lattice sums: a potential must need at most "
            f"{_MAX_NODES} nodes over a slab or a wire, got more. Give one that decays faster, "
            "or a larger tolerance."
        )
    return needed.astype(np.int64)


@cache
def _legendre(count: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


class _Background(torch.autograd.Function):
    """The integral of u^(s-1) exp(-u x) over 0 < u < 1, continued to s = 0 by its finite part.

    Its derivative by x is minus the function of s + 1, so any order works.
    """

    @staticmethod
    def forward(ctx, x: Tensor, s: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        ctx.s = s
        low = x.clamp(max=1.0)
        if s == 0:  # minus the entire exponential integral: finite part of 1/s cut off
            term, series = torch.ones_like(low), torch.zeros_like(low)
            for n in range(1, 20):
                term = term * (-low / n)
                series = series + term / n
            high = x.clamp(min=1.0)
            entire = np.euler_gamma + high.log() + exponential_integral(high)
            return torch.where(x < 1, series, -entire)
        term = torch.full_like(low, 1 / s)
        series = term
        for n in range(1, 20):
            term = term * low / (s + n)
            series = series + term
        high = x.clamp(min=1.0)
        rest = torch.special.gammainc(torch.full_like(high, s), high)
        return torch.where(x < 1, (-low).exp() * series, math.gamma(s) * rest * high**-s)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        (x,) = ctx.saved_tensors
        return -grad_outputs[0] * _Background.apply(x, ctx.s + 1), None


def background(x: Tensor, s: float) -> Tensor:
    """Return the integral of u^(s-1) exp(-u x) over 0 < u < 1, continued in s (eq. 26).

    Args:
        x: Numbers >= 0, any shape.
        s: Larger than -1. At the pole s = 0 the finite part is returned: 1/s is left out.
    """
    if s < 0:
        return ((-x).exp() + x * background(x, s + 1)) / s
    return _Background.apply(x, s)  # pyright: ignore[reportReturnType]


def uniform_wave(mixed: Mixture, d: int, h2: Tensor, alpha: Tensor) -> Tensor:
    """Return the transform of the long half at k = 0 after continuation, for a power (eq. 26).

    Args:
        mixed: Weights of the Gaussians, with rate 0.
        d: Number of periodic directions.
        h2: Squared heights in Å^2, shape (g, p).
        alpha: Widths of the split, shape (g, 1).
    """
    s = mixed.power - d / 2
    factor = mixed.weight * math.pi ** (d / 2)
    part = background(alpha * alpha * h2, s)
    if s == 0:
        # alpha^(2s) / (s Gamma(d/2 + s)) without its pole in s
        digamma = -np.euler_gamma - (2 * math.log(2) if d == 1 else 0)
        return factor * (part + 2 * alpha.log() - digamma)
    return factor * alpha ** (2 * s) * part


def long_sums(
    mixtures: Sequence[Mixture],
    *,
    fractions: Tensor,
    h2: Tensor,
    integers: Tensor,
    k2: Tensor,
    valid: Tensor,
    alpha: Tensor,
    length: Tensor,
    count: int,
    measure: Tensor,
    working: int,
) -> tuple[Tensor, Tensor]:
    """Return the long halves of the pairs of some crystals (eq. 24).

    Args:
        mixtures: Weights of the Gaussians of the q potentials.
        fractions: Pair vectors in units of the d lattice vectors, shape (g, p, d).
        h2: Squared heights of the pairs across the lattice in Å^2, shape (g, p).
        integers: Wave vectors in the reciprocal basis, one of each +k and -k, shape (g, k, d).
        k2: Their squared lengths in 1/Å^2, shape (g, k).
        valid: Which of them are not padding, shape (g, k).
        alpha: Widths of the split in 1/Å, the same for all potentials, shape (g,).
        length: Where the integral over u ends, shape (g,).
        count: Number of nodes.
        measure: Area or length of the cells, shape (g,).
        working: Couples of a pair and a wave to be looked at together.

    Returns:
        Long halves, shape (g, p, q), and the sums of the magnitudes of their waves, (g, q).
    """
    n_graphs, n_pairs, d = fractions.shape
    nodes, widths = (torch.from_numpy(x).to(alpha) for x in _legendre(count))
    t = (alpha * alpha)[:, None] * (-length[:, None] * nodes).exp()
    gauss = (-k2[:, :, None] / (4 * t[:, None])).exp()
    waves = torch.where(valid[:, :, None], gauss * (2 / measure)[:, None, None], 0.0)
    weights = torch.stack([_weights(m, d, t) for m in mixtures], -1)
    weights = weights * (length[:, None] * widths)[:, :, None]
    # a screened potential has a wave k = 0 like the others; that of a power needs continuation
    screened = torch.tensor([bool(m.rate > 0) for m in mixtures], device=alpha.device)
    flat = torch.where(screened, weights / measure[:, None, None], 0.0)
    powers = [(q, m) for q, m in enumerate(mixtures) if m.rate == 0]
    parts = []
    step = max(1, working // max(1, n_graphs * k2.shape[1]))
    for start in range(0, n_pairs, step):
        block = slice(start, start + step)
        turns = 2 * math.pi * fractions[:, block]
        across = (-h2[:, block, None] * t[:, None]).exp()
        if d == 1:  # few waves: one after the other, in an order that no other crystal changes
            along = torch.zeros_like(across)
            for wave in range(integers.shape[1]):
                cosine = (turns * integers[:, wave, None]).cos()
                along = along + cosine * waves[:, wave, None]
            along, long = along * across, torch.zeros_like(across[..., :1])
            for node in range(count):
                each = along[..., node, None] * weights[:, node, None]
                long = long + (each + across[..., node, None] * flat[:, node, None])
            parts.append(long)
            continue
        cosines = (turns @ integers.mT).cos()
        if cosines.shape[1] == 1:  # the product of a row and a matrix has an order of its own
            along = (cosines * waves.mT).contiguous().sum(2)[:, None] * across
            long = (along * weights.mT + across * flat.mT).contiguous().sum(2)[:, None]
        else:
            long = (cosines @ waves * across) @ weights + across @ flat
        parts.append(long)
    total = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    sizes = (waves.detach().sum(1)[:, None] @ weights.detach())[:, 0] + flat.detach().sum(1)
    if powers:
        columns = list(total.unbind(-1))
        for q, mixed in powers:
            columns[q] = columns[q] + uniform_wave(mixed, d, h2, alpha[:, None]) / measure[:, None]
        total = torch.stack(columns, -1)
    return total, sizes


def _weights(mixed: Mixture, d: int, t: Tensor) -> Tensor:
    """Return pi^(d/2) t^(1 - d/2) dM / dt: what a node at u = log(alpha^2 / t) weighs."""
    factor = mixed.weight * math.pi ** (d / 2)
    return factor * t ** (mixed.power - d / 2) * (-(mixed.rate**2) / (4 * t)).exp()
