"""A check that a potential of one's own keeps what the sums promise.

from latticesums.testing import check_potential

def test_my_potential():
    check_potential(MyPotential(1.5))
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latticesums.bounds import Lattice
from latticesums.lattice import gram_schmidt_lengths, reduce_cells
from latticesums.pairs import PairSums, pair_sums
from latticesums.potentials import Combination, Potential

Array = NDArray[np.float64]

#: A cubic cell, a skewed one and a flat one, Å; and atoms in each, in units of the vectors.
_CELLS = (
    np.diag([4.0, 4.0, 4.0]),
    np.array([[3.1, 0.2, -0.3], [1.4, 3.9, 0.5], [-0.8, 1.1, 4.6]]),
    np.array([[2.5, 0.0, 0.0], [1.2, 2.4, 0.1], [0.3, -0.4, 9.0]]),
)
_ATOMS = np.array([[0.0, 0.0, 0.0], [0.31, 0.42, 0.57], [0.83, 1.74, -0.21]])
_TOLERANCE = 1e-8
_IMAGES = 2_000_000  # a sum term by term that would need more is not made


def check_potential(potential: Potential) -> None:
    """Raise unless a potential keeps what is promised of every potential.

    Its bounds hold for its halves and for what lies beyond a radius; its sums agree with sums
    term by term, within their bound; and they do not depend on the choice of the cell, on a shift
    or on a supercell; its derivatives by positions and cell are right, first and second ones.

    Args:
        potential: The potential; its parameters are numbers.

    Raises:
        AssertionError: If a promise is broken. The message names it.
        ConfigError: If the potential cannot be summed over a crystal at all.
    """
    _check_value(potential)
    if not isinstance(potential, Combination):
        _check_direct_tail(potential)
        if potential.can_split:
            _check_halves(potential)
    for cell in _CELLS:
        found = _sums(potential, cell, _ATOMS @ cell)
        _require(bool((found.error_bound <= _TOLERANCE).all()), potential, "bound <= tolerance")
        _check_term_by_term(potential, cell, found)
        _check_invariance(potential, cell, found)
    _check_derivatives(potential)


def _require(holds: bool, potential: Potential, claim: str) -> None:
    if not holds:
        raise AssertionError(f"{potential.name}: {claim}")


def _sums(potential: Potential, cell: Array, positions: Array) -> PairSums:
    with torch.no_grad():
        return pair_sums(
            torch.from_numpy(positions), torch.from_numpy(cell), [potential], tolerance=_TOLERANCE
        )


def _check_value(potential: Potential) -> None:
    r2 = torch.linspace(0.3, 80.0, 200, dtype=torch.float64)
    value = potential.value(r2)
    _require(
        value.shape == r2.shape and value.dtype == r2.dtype and bool(value.isfinite().all()),
        potential,
        "`value` must be one finite float64 number for each squared distance",
    )
    _require(isinstance(potential.name, str) and bool(potential.name), potential, "`name` is empty")
    _require(hash(potential) == hash(potential), potential, "must be hashable")


def _check_direct_tail(potential: Potential) -> None:
    """Compare the bound of what lies beyond a radius with a shell of images out there."""
    for cell in _CELLS:
        lattice = Lattice.from_lengths(gram_schmidt_lengths(reduce_cells(cell[None])[1]))
        for radius in (4.0, 8.0, 12.0):
            bound = potential.direct_tail(lattice, np.array([radius]))
            if bound is None:
                return
            for shift in _ATOMS @ cell:
                r = _distances(cell, shift, radius + 8)
                beyond = potential.value(torch.from_numpy(r[r > radius] ** 2)).abs().sum().item()
                _require(
                    beyond <= bound[0] * (1 + 1e-12),
                    potential,
                    f"`direct_tail` beyond {radius} Å must be {beyond:.3e} or more, "
                    f"got {bound[0]:.3e}",
                )


def _check_halves(potential: Potential) -> None:
    """Check that short_bound and fourier_bound are bounds, and the value of the long half at 0."""
    for width in (0.4, 0.9, 1.7):
        alpha = max(width, potential.least_alpha)
        a = torch.tensor(alpha, dtype=torch.float64)
        r, k = np.linspace(0.5, 9.0, 120), np.linspace(0.2, 12.0, 120)
        for name, half, bound in (
            (
                "short",
                potential.short(torch.from_numpy(r * r), a),
                potential.short_bound(r, np.full_like(r, alpha)),
            ),
            (
                "fourier",
                potential.fourier(torch.from_numpy(k * k), a),
                potential.fourier_bound(k, np.full_like(k, alpha)),
            ),
        ):
            excess = half.abs().numpy() - bound * (1 + 1e-9) - 1e-14
            _require(bool((excess <= 0).all()), potential, f"`{name}_bound` must bound `{name}`")
        near = torch.tensor([1e-4], dtype=torch.float64)  # the long half is even in r
        long = float(potential.value(near) - potential.short(near, a))
        at_zero = float(potential.long_at_zero(a))
        noise = 1e-14 * abs(float(potential.value(near)))
        _require(
            abs(long - at_zero) <= 1e-3 * (abs(at_zero) + 1e-3) + noise,
            potential,
            f"`long_at_zero` must be {long:.6g} at alpha {alpha}, got {at_zero:.6g}",
        )


def _check_term_by_term(potential: Potential, cell: Array, found: PairSums) -> None:
    """Compare with the sum of all terms within a radius, where one can be named."""
    lattice = Lattice.from_lengths(gram_schmidt_lengths(reduce_cells(cell[None])[1]))
    terms = [(float(c), term) for c, term in potential.terms]
    radius = _radius(terms, lattice)
    if radius is None:
        return
    positions = _ATOMS @ cell
    for row, (i, j) in enumerate(zip(found.i.tolist(), found.j.tolist(), strict=True)):
        r = np.sort(_distances(cell, positions[j] - positions[i], radius))[::-1]
        total = math.fsum(potential.value(torch.from_numpy(r * r)).tolist())
        error = abs(total - float(found.values[row, 0]))
        _require(
            error <= float(found.error_bound[0]) + 2e-10,
            potential,
            f"the sum of atoms {i} and {j} must be {total:.12g}, "
            f"got {float(found.values[row, 0]):.12g}",
        )


def _radius(terms: list[tuple[float, Potential]], lattice: Lattice) -> float | None:
    """Return where all terms have ended to 1e-10, or None if that is too far."""
    radius = 1.0
    while lattice.most(np.array([radius]))[0] < _IMAGES:
        at = np.array([radius])
        tails = [(abs(c), term.direct_tail(lattice, at)) for c, term in terms]
        if any(tail is None for _, tail in tails):
            return None
        if sum(c * float(tail[0]) for c, tail in tails if tail is not None) < 1e-10:
            return radius
        radius *= 1.1
    return None


def _check_invariance(potential: Potential, cell: Array, found: PairSums) -> None:
    limit = 2 * float(found.error_bound[0])
    positions, n = _ATOMS @ cell, len(_ATOMS)
    for claim, new_cell, new_positions in (
        ("moves with all atoms", cell, positions + [0.3, -7.1, 2.2]),
        ("depends on the basis of the lattice", _SKEW @ cell, positions),
        ("depends on the image in which an atom is named", cell, positions + _SHIFTS @ cell),
        ("is not the same in a mirror", cell * [1, 1, -1], positions * [1, 1, -1]),
    ):
        other = _sums(potential, new_cell, new_positions)
        change = float((other.values - found.values).abs().max())
        _require(change <= limit, potential, f"the sum {claim}, by {change:.1e}")
    double = np.concatenate([positions, positions + cell[0]])
    twice = _sums(potential, np.diag([2.0, 1, 1]) @ cell, double).values.view(2 * n, 2, n)
    change = float((twice[:n].sum(1) - found.values.view(n, n)).abs().max())
    claim = f"a supercell must split the sums, off by {change:.1e}"
    _require(change <= 2 * limit, potential, claim)


def _check_derivatives(potential: Potential) -> None:
    cell = torch.from_numpy(_CELLS[1]).requires_grad_()
    positions = torch.from_numpy(_ATOMS[:2] @ _CELLS[1]).requires_grad_()

    def function(x: Tensor, c: Tensor) -> Tensor:
        return pair_sums(x, c, [potential], tolerance=1e-10).values[:2, 0]

    scale = float(function(positions, cell).detach().abs().max()) + 1
    for claim, check, atol in (
        ("first", torch.autograd.gradcheck, 2e-6),
        ("second", torch.autograd.gradgradcheck, 2e-5),
    ):
        right = check(
            function, (positions, cell), atol=atol * scale, fast_mode=True, raise_exception=False
        )
        _require(bool(right), potential, f"{claim} derivatives by positions and cell must be right")


_SKEW = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, -1]])
_SHIFTS = np.array([[0, 0, 0], [1, -2, 3], [-4, 0, 1]])


def _distances(cell: Array, vector: Array, radius: float) -> Array:
    """Return the lengths of vector + L up to ``radius``, without 0."""
    inverse = np.linalg.inv(cell)
    reach = (radius + np.linalg.norm(vector)) * np.linalg.norm(inverse, axis=0)
    found: list[Array] = []
    for plane in _planes(np.ceil(reach).astype(int), cell):
        r = np.linalg.norm(plane + vector, axis=1)
        found.append(r[(r <= radius) & (r > 1e-9)])
    return np.concatenate(found)


def _planes(box: NDArray[np.int64], cell: Array) -> Iterator[Array]:
    for a in range(-box[0], box[0] + 1):
        b, c = np.meshgrid(
            np.arange(-box[1], box[1] + 1), np.arange(-box[2], box[2] + 1), indexing="ij"
        )
        yield a * cell[0] + b.reshape(-1, 1) * cell[1] + c.reshape(-1, 1) * cell[2]
