"""Sums within a radius: they are what is within, and grow into the complete sums."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import latticesums
from latticesums import InversePower, Shell, directed_shells, pair_sums, partial_sums

CELL = torch.tensor([[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]]).double()
POSITIONS = torch.tensor([[0.1, 0.2, 0.3], [1.4, 0.1, 0.5], [0.4, 2.2, 1.9]]).double()


def images(radius: float) -> dict[tuple[int, int], list[float]]:
    """Return the distances of all images within a radius, by brute force."""
    steps = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), -1).reshape(-1, 3)
    shifts = steps @ CELL.numpy()
    found = {}
    for i, a in enumerate(POSITIONS.numpy()):
        for j, b in enumerate(POSITIONS.numpy()):
            r = np.linalg.norm(b + shifts - a, axis=1)
            found[i, j] = r[(r > 1e-9) & (r < radius)].tolist()
    return found


@pytest.mark.parametrize("radius", [3.0, 7.5])
def test_a_partial_sum_is_that_of_its_images(radius):
    values = partial_sums(POSITIONS, CELL, ["london", "pauli"], radius=radius).view(3, 3, 2)
    for (i, j), distances in images(radius).items():
        expected = [sum(r**-6 for r in distances), sum(math.exp(-3 * r) for r in distances)]
        np.testing.assert_allclose(values[i, j].numpy(), expected, rtol=1e-12)


def test_a_partial_coulomb_sum_is_balanced_on_its_surface():
    values = partial_sums(POSITIONS, CELL, ["coulomb"], radius=6.0).view(3, 3)
    density = 1 / abs(float(torch.linalg.det(CELL)))
    background = density * quad(lambda r: 4 * math.pi * r**2 * (1 / r - 1 / 6), 0, 6)[0]
    for (i, j), distances in images(6.0).items():
        own = 1 / 6 if i == j else 0
        expected = sum(1 / r - 1 / 6 for r in distances) - own - background
        assert float(values[i, j]) == pytest.approx(expected)


def test_a_partial_coulomb_sum_does_not_jump_where_an_image_enters():
    distance = images(6.0)[0, 1][0]
    radii = (distance - 1e-7, distance + 1e-7)
    out, into = (partial_sums(POSITIONS, CELL, ["coulomb"], radius=r) for r in radii)
    torch.testing.assert_close(out, into, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("potential", "radius", "atol"),
    [
        ("london", 40.0, 1e-5),
        ("pauli", 12.0, 1e-9),
        ("coulomb", 40.0, 0.02),
        (InversePower(2.5), 40.0, 1e-4),
    ],
    ids=str,
)
def test_partial_sums_grow_into_complete_ones(potential, radius, atol):
    complete = pair_sums(POSITIONS, CELL, [potential]).values
    found = partial_sums(POSITIONS, CELL, [potential], radius=radius)
    torch.testing.assert_close(found, complete, rtol=0, atol=atol)


def test_combinations_have_the_background_of_their_terms():
    mixed = 2 * latticesums.Coulomb() - 3 * latticesums.London()
    both = partial_sums(POSITIONS, CELL, ["coulomb", "london"], radius=5.0)
    found = partial_sums(POSITIONS, CELL, [mixed], radius=5.0)
    torch.testing.assert_close(found[:, 0], 2 * both[:, 0] - 3 * both[:, 1])


def test_shells_within_a_radius_leave_out_the_rest():
    shells = [Shell(2.0, 0.8, 6.0), Shell(4.0, 0.8, 6.0)]
    near = directed_shells(POSITIONS, CELL, shells, degree=1, within=3.0)
    torch.testing.assert_close(near[:, 0], partial_sums(POSITIONS, CELL, shells, radius=3.0))
    whole = directed_shells(POSITIONS, CELL, shells, degree=1)
    torch.testing.assert_close(
        directed_shells(POSITIONS, CELL, shells, degree=1, within=9.0), whole, rtol=0, atol=0
    )
    assert (whole - near).abs().max() > 0.1
