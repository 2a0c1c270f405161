"""Cells that are long in one direction, whose images the compiled sums search in layers."""

import numpy as np
import pytest
import torch
from oracle import power_sum

from latticesums import Atoms, Coulomb, Exponential, London, Pauli, Shell, lattice_sums, pair_sums
from latticesums.compiled import sums as compiled
from latticesums.errors import StructureError

POTENTIALS = (Coulomb(), London(), Pauli(), Exponential(0.4), Shell(4.0, 0.7, 9.0))


def long_cell(seed: int, length: float, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return positions, anywhere, and a long cell of some shape, not reduced."""
    rng = np.random.default_rng(seed)
    cell = np.diag([*rng.uniform(2.5, 3.5, 2), length]) + rng.normal(size=(3, 3)) * 0.3
    cell[2, :2] += rng.uniform(-2, 2, 2)
    heights = (np.arange(n_atoms) + rng.uniform(0.1, 0.6, n_atoms)) / n_atoms
    places = np.column_stack([rng.random((n_atoms, 2)), rng.permutation(heights)])
    wraps = rng.integers(-3, 4, (n_atoms, 3))
    skewed = np.array([[1, 0, 0], [2, 1, 0], [-1, 3, 1]]) @ cell
    return (places + wraps) @ cell, skewed[rng.permutation(3)]


def both_paths(positions, cell, potentials, tolerance):
    n = len(positions)
    values, bounds = compiled.pair_sums(
        positions, cell[None], np.array([n]), potentials, tolerance=tolerance
    )
    x = torch.tensor(positions, requires_grad=True)
    other = pair_sums(x, torch.tensor(cell), potentials, tolerance=tolerance)
    return values, bounds[0], other.values.detach().numpy(), other.error_bound.numpy()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-8, 1e-10])
@pytest.mark.parametrize("length", [15.0, 31.0, 60.0, 200.0])
@pytest.mark.parametrize("n_atoms", [1, 3, 22])
def test_sums_of_long_cells_are_those_of_the_other_path(length, n_atoms, tolerance):
    positions, cell = long_cell(int(length) + n_atoms, length, n_atoms)
    values, bound, other, other_bound = both_paths(positions, cell, POTENTIALS, tolerance)
    assert (bound <= tolerance).all()
    assert (np.abs(values - other).max(0) <= bound + other_bound).all()


@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
def test_each_potential_reaches_its_images_in_layers(potential):
    positions, cell = long_cell(9, 40.0, 9)
    values, bound, other, other_bound = both_paths(positions, cell, [potential], 1e-10)
    assert np.abs(values - other).max() <= bound[0] + other_bound[0]


@pytest.mark.parametrize("length", [24.0, 90.0])
def test_sums_of_long_cells_have_their_digits(length):
    positions, cell = np.array([[0.1, 0.2, 0.3], [1.4, 2.2, length / 3]]), np.diag([3, 3.2, length])
    found = lattice_sums(Atoms(positions, cell), ["coulomb", "london"], tolerance=1e-10)
    for column, exponent in enumerate((1, 6)):
        truth = power_sum(cell, positions[1] - positions[0], exponent, digits=16)
        error = abs(float(truth - found.values[0, 1, column]))
        assert error <= found.error_bound[column] <= 1e-10


def test_the_order_of_atoms_does_not_matter_in_long_cells():
    positions, cell = long_cell(4, 70.0, 21)
    order = np.random.default_rng(1).permutation(21)
    values = lattice_sums(Atoms(positions, cell), POTENTIALS, tolerance=1e-9).values
    moved = lattice_sums(Atoms(positions[order], cell), POTENTIALS, tolerance=1e-9).values
    assert np.abs(moved - values[order][:, order]).max() < 1e-11
    assert np.array_equal(values, values.transpose(1, 0, 2))


@pytest.mark.parametrize("length", [30.0, 80.0])
def test_orbits_add_up_in_long_cells(length):
    positions, cell = long_cell(2, length, 13)
    orbits = np.array([0, 1, 0, 2, 1, 3, 0, 2, 4, 4, 1, 0, 3])
    found, n_orbits = compiled.orbit_sums(
        positions, cell[None], np.array([13]), orbits, POTENTIALS, tolerance=1e-9
    )
    assert n_orbits.tolist() == [5]
    pairs = lattice_sums(Atoms(positions, cell), POTENTIALS, tolerance=1e-9).values
    firsts = [int(np.argmax(orbits == k)) for k in range(5)]
    expected = np.array([[pairs[i, orbits == k].sum(0) for k in range(5)] for i in firsts])
    assert np.abs(found.reshape(5, 5, -1) - expected).max() < 3e-9


def test_a_needle_takes_no_detour_through_torch():
    cell, positions = np.diag([3.0, 3.0, 1e5]), np.array([[0.0, 0, 0], [1.5, 1.5, 3e4]])
    found = compiled.all_pair_sums(
        positions, cell[None], np.array([2]), [Pauli(), Exponential(0.5)], tolerance=1e-6
    )
    assert not found.failures.any()
    plain = lattice_sums(Atoms(positions[:1], cell), [Exponential(0.5)], tolerance=1e-6)
    squares = np.add.outer((3.0 * np.arange(-40, 41)) ** 2, (3.0 * np.arange(-40, 41)) ** 2)
    truth = np.exp(-0.5 * np.sqrt(squares)).sum() - 1
    assert abs(plain.values.item() - truth) <= 1e-6


def test_atoms_on_one_spot_of_a_long_cell_are_named():
    positions, cell = long_cell(6, 50.0, 12)
    positions[9] = positions[4] + cell[0] - 2 * cell[2]
    with pytest.raises(StructureError, match="atoms 4 and 9 must be"):
        lattice_sums(Atoms(positions, cell))


def test_long_cells_do_not_depend_on_their_batch():
    crystals = [Atoms(*long_cell(s, length, 5)) for s, length in enumerate((5.0, 40.0, 6.0, 300.0))]
    together = lattice_sums(crystals, POTENTIALS, tolerance=1e-7)
    for crystal, found in zip(crystals, together, strict=True):
        alone = lattice_sums(crystal, POTENTIALS, tolerance=1e-7)
        assert np.array_equal(alone.values, found.values)
