"""The compiled sums do not depend on how a crystal is written down."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesums.compiled import sums as fast
from latticesums.potentials import Coulomb, Exponential, London, Pauli, Shell

POTENTIALS = (Coulomb(), London(), Pauli(), Exponential(0.2), Shell(2.0, 0.5, 6.0))
TOLERANCE = 1e-8


def sums(positions, cell):
    """Return S as (n, n, n_potentials) and the bounds."""
    n = len(positions)
    values, bounds = fast.pair_sums(
        positions, cell[None], np.array([n]), POTENTIALS, tolerance=TOLERANCE
    )
    return values.reshape(n, n, -1), bounds[0]


def crystal(seed, n):
    """Return n positions, at least 1.2 Å apart, in a random, possibly very skew cell."""
    rng = np.random.default_rng(seed)
    while True:
        cell = rng.normal(size=(3, 3)) * 2 + np.eye(3) * 4
        if abs(np.linalg.det(cell)) < 15 * n:
            continue
        positions = rng.random((n, 3)) @ cell
        shifts = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3) @ cell
        r = np.linalg.norm(positions[:, None, None] - positions[:, None] + shifts, axis=-1)
        if np.sort(r.ravel())[n] > 1.2:  # the first n are the atoms themselves
            return rng, positions, cell


def unimodular(rng):
    """Return a random integer matrix of determinant 1 or -1, as skew as users write cells."""
    matrix = np.eye(3, dtype=int)[rng.permutation(3)]
    for _ in range(4):
        i, j = rng.permutation(3)[:2]
        matrix[i] += rng.integers(-2, 3) * matrix[j]
    return matrix


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 6))
def test_sums_are_invariant(seed, n):
    rng, positions, cell = crystal(seed, n)
    expected, bounds = sums(positions, cell)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(n)
    moved = positions + rng.normal(size=3) * 3 + rng.integers(-3, 4, (n, 3)) @ cell
    found, more = sums((moved @ rotation)[order], unimodular(rng) @ cell @ rotation)
    assert (np.abs(found - expected[order][:, order]) <= bounds + more).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4))
def test_copies_in_a_supercell_add_up(seed, n):
    rng, positions, cell = crystal(seed, n)
    expected, bounds = sums(positions, cell)
    copies = np.array([2, 1, 1])[rng.permutation(3)]
    shift = (copies == 2) @ cell
    found, more = sums(np.concatenate([positions, positions + shift]), copies[:, None] * cell)
    total = found[:n, :n] + found[:n, n:]
    assert (np.abs(total - expected) <= bounds + 2 * more).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6))
def test_orbit_sums_are_rows_of_pair_sums(seed, n):
    rng, positions, cell = crystal(seed, n)
    labels = rng.integers(0, n, n)
    _, first = np.unique(labels, return_index=True)
    orbits = np.array([np.flatnonzero(labels[np.sort(first)] == label)[0] for label in labels])
    found, counts = fast.orbit_sums(
        positions, cell[None], np.array([n]), orbits, POTENTIALS, tolerance=TOLERANCE
    )
    values, _ = sums(positions, cell)
    rows = values[np.sort(first)]
    expected = np.stack([rows[:, orbits == b].sum(1) for b in range(counts[0])], 1)
    assert np.abs(found - expected.reshape(found.shape)).max() < 1e-11
