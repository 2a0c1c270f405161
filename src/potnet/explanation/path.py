"""What each sum adds to an output of a network: an integral along the way from no surroundings.

A network z takes the sums F of a crystal, one number for each pair of atoms and channel. Scaled by
t from 0 to 1 they lead from the bare composition to the crystal, and

    z(F) - z(0) = sum_n F_n int_0^1 (dz / dF_n)(t F) dt,

so that the terms are shares of the sums which add up exactly: integrated gradients (Sundararajan
et al., ICML 2017), the Aumann-Shapley prices of game theory. The integral is taken by Gauss and
Legendre's rule, with twice as many points until the terms add up and stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from potnet.features.batch import Batch, Pairs

if TYPE_CHECKING:
    from potnet.models.contract import Network

TOLERANCE = 1e-6
FEWEST, MOST = 16, 1024  # points of the rule
STEADY = 100  # how many tolerances a share may still have moved: the error is that, squared
PAIRS_AT_ONCE = 8_000  # of all points that are computed together; sets the memory


@dataclass(frozen=True)
class Slopes:
    """The output of one network, and its mean slope on the way to it.

    Attributes:
        bare: Output of the composition without surroundings.
        full: Output of the crystal.
        slopes: Mean derivative by each channel of each pair, shape (n_pairs, n_channels).
        residual: ``full - bare`` less the sum of the slopes times the sums.
        n_points: Points of the rule.
    """

    bare: float
    full: float
    slopes: Tensor
    residual: float
    n_points: int


def mean_slopes(network: Network, batch: Batch, target: int, tolerance: float) -> Slopes:
    """Return the mean slope of one output of a network, in float64.

    Args:
        network: In float64.
        batch: Features of one crystal, whose pairs are called "complete".
        target: Which output.
        tolerance: Largest residual, in standardised units.
    """
    way = _Way(network, batch, target)
    bare, full = way.outputs(0.0), way.outputs(1.0)
    before, n_points = None, FEWEST
    while True:
        slopes = way.mean_slopes(n_points)
        shares = slopes * way.sums
        residual = full - bare - float(shares.sum())
        moved = np.inf if before is None else float((shares - before).abs().max())
        is_steady = abs(residual) <= tolerance and moved <= STEADY * tolerance
        if is_steady or n_points >= MOST:
            return Slopes(bare, full, slopes, residual, n_points)
        before, n_points = shares, 2 * n_points


class _Way:
    """The way from a crystal without surroundings to the crystal."""

    def __init__(self, network: Network, batch: Batch, target: int) -> None:
        self._network, self._batch, self._target = network, batch, target
        self.sums = batch.pairs["complete"].values.double()

    def outputs(self, t: float) -> float:
        with torch.no_grad():
            return float(self._at([t])[1][0])

    def mean_slopes(self, n_points: int) -> Tensor:
        points, weights = np.polynomial.legendre.leggauss(n_points)
        ts, shares = (points + 1) / 2, torch.from_numpy(weights / 2).to(self.sums)
        total = torch.zeros_like(self.sums)
        step = max(1, PAIRS_AT_ONCE // max(len(self.sums), 1))
        for start in range(0, n_points, step):
            some = slice(start, start + step)
            scaled, outputs = self._at(ts[some].tolist())
            if not outputs.requires_grad:  # a network that looks at no surroundings
                break
            (slopes,) = torch.autograd.grad((shares[some] * outputs).sum(), scaled)
            total += slopes.view(-1, *self.sums.shape).sum(0)
        return total

    def _at(self, ts: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return the sums, scaled by each of ``ts``, and the outputs at each."""
        many = Batch.cat([self._batch] * len(ts))
        factors = self.sums.new_tensor(ts)[:, None, None]
        scaled = (factors * self.sums).flatten(0, 1).requires_grad_()
        pairs = many.pairs["complete"]
        crystals = Batch(
            many.numbers,
            many.weights.double(),
            many.node_counts,
            many.atom_counts,
            {"complete": Pairs(pairs.i, pairs.j, scaled, pairs.counts)},
        )
        return scaled, self._network(crystals)[:, self._target]
