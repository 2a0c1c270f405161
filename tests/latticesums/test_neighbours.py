"""The images within a distance: all of them, once, and with their derivatives."""

import itertools

import numpy as np
import pytest
import torch

import latticesums
from latticesums import neighbours
from latticesums.neighbours import images_within

CELL = np.array([[3.1, 0.3, 0.2], [0.1, 3.3, 0.7], [0.2, 0.3, 2.9]])


def crystal(n_atoms, skew):
    """Return atoms inside and outside a cell, which is written down with longer vectors."""
    cell = CELL @ np.diag([1.0, 1.2, 2.0])
    cell[2] += skew * cell[0]
    x = np.random.default_rng(n_atoms).uniform(-2, 3, (n_atoms, 3)) @ cell
    return torch.from_numpy(x), torch.from_numpy(cell)


def brute_force(x, cell, cutoff):
    """Return pairs and vectors from the vectors of a large box."""
    shifts = np.array(list(itertools.product(range(-20, 21), repeat=3)))
    found = []
    for i, j in itertools.product(range(len(x)), repeat=2):
        vectors = x[j] - x[i] + shifts @ cell
        near = ((vectors**2).sum(1) < cutoff**2) & ((i != j) | shifts.any(1))
        found += [(i * len(x) + j, *vector) for vector in vectors[near].round(9).tolist()]
    return sorted(found)


def as_rows(pair, vectors):
    rows = vectors.numpy().round(9).tolist()
    return sorted((p, *row) for p, row in zip(pair.tolist(), rows, strict=True))


@pytest.mark.parametrize(("n_atoms", "skew", "cutoff"), [(1, 0, 7.0), (2, 3, 4.0), (2, -2, 5.5)])
def test_every_image_is_found_once(n_atoms, skew, cutoff):
    x, cell = crystal(n_atoms, skew)
    found = as_rows(*images_within(x, cell, cutoff))
    assert np.allclose(found, brute_force(x.numpy(), cell.numpy(), cutoff), atol=1e-8)


def test_half_of_the_images_are_those_of_i_up_to_j():
    x, cell = crystal(5, 1)
    pair, vectors = images_within(x, cell, 6.0)
    half = images_within(x, cell, 6.0, both=False)
    kept = pair // 5 <= pair % 5
    assert torch.equal(half[0], pair[kept])
    assert torch.equal(half[1], vectors[kept])


def test_shifts_lead_to_the_images():
    x, cell = crystal(5, 1)
    i, j, shifts = latticesums.images(x, cell, 6.0)
    pair, vectors = images_within(x, cell, 6.0, both=False)
    assert torch.equal(5 * i + j, pair)
    assert torch.equal(shifts, shifts.round())
    torch.testing.assert_close(x[j] - x[i] + shifts @ cell, vectors)


def test_a_list_that_is_too_short_is_made_again(monkeypatch):
    x, cell = crystal(3, 0)
    expected = images_within(x, cell, 9.0)
    monkeypatch.setattr(neighbours, "_expected", lambda *_: 1)
    found = images_within(x, cell, 9.0)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_vectors_follow_atoms_and_cell():
    x, cell = crystal(2, 2)
    x.requires_grad_()
    cell.requires_grad_()
    pair, vectors = images_within(x, cell, 5.0)
    strain = torch.tensor([[0.0, 1, 0], [0, 0, 2], [1, 0, 0]]).double()
    by_x, by_cell = torch.autograd.grad(vectors[:, 0].sum(), (x, cell))
    slope = (by_x * (x @ strain)).sum() + (by_cell * (cell @ strain)).sum()
    assert torch.allclose(slope, (vectors @ strain)[:, 0].sum())


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("positions", torch.zeros(2, 2)),
        ("positions", torch.zeros(0, 3)),
        ("positions", torch.tensor([[0.0, torch.nan, 0.0]])),
        ("positions", [[0.0, 0.0, 0.0]]),
        ("cell", torch.eye(2)),
        ("cell", torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])),
        ("cell", torch.tensor([[1.0, 0.0, 0.0], [1.0, 1e-11, 0.0], [0.0, 0.0, 1.0]])),
        ("cutoff", -1.0),
        ("cutoff", torch.inf),
        ("cutoff", True),
    ],
)
def test_what_has_no_images_is_named(name, given):
    right = {"positions": torch.zeros(1, 3), "cell": torch.eye(3), "cutoff": 1.0}
    with pytest.raises(
        (latticesums.StructureError, latticesums.ConfigError), match=f"images: `{name}` must"
    ):
        latticesums.images(**(right | {name: given}))
