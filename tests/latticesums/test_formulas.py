"""Derivatives by formulas are those of the tape, whatever is summed and wherever it repeats."""

import numpy as np
import pytest
import torch

from latticesums import (
    CutOff,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Shell,
    Yukawa,
    differentiable,
    formulas,
    pair_sums,
    resolve,
)

POTENTIALS = (
    "coulomb", "london", "pauli", Yukawa(0.5), Yukawa(4.0), Gaussian(3.0), Gaussian(0.6),
    Exponential(0.4), InversePower(2), InversePower(2.5), InversePower(4), InversePower(5),
    InversePower(9), Shell(2.0, 0.5, 4.0), CutOff(London(), 4.0),
)  # fmt: skip


def a_batch(seed=0):
    rng = np.random.default_rng(seed)
    lengths = ([3.3, 4.1, 5.0], [8.3, 9.1, 7.0], [3.3, 4.1, 30.0])
    cells = np.stack([np.diag(x) + 0.5 * rng.normal(size=(3, 3)) for x in lengths])
    cells[1] = [[1, 2, 0], [0, 1, -3], [0, 0, -1]] @ cells[1]  # skewed, left-handed
    n_atoms = np.array([3, 14, 5])
    owner = np.repeat(np.arange(3), n_atoms)
    positions = np.einsum("ni,nij->nj", rng.uniform(-2, 3, (22, 3)), cells[owner])
    return torch.tensor(positions), torch.tensor(cells), n_atoms, torch.tensor(owner)


def both_ways(positions, cells, n_atoms, potentials, tolerance):
    """Return values, bounds and derivatives of a random loss, by formulas and by the tape."""
    found = []
    weights = torch.Generator().manual_seed(1)
    loss = torch.randn(int((n_atoms**2).sum()), len(potentials), generator=weights).double()
    for evaluate in (formulas.evaluate, differentiable.evaluate):
        x, a = positions.clone().requires_grad_(), cells.clone().requires_grad_()
        values, bounds = evaluate(x, a, n_atoms, potentials, tolerance)
        slopes = torch.autograd.grad(values, (x, a), loss)
        found.append((values.detach(), bounds, *slopes))
    return found


def agree(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=0, atol=2e-13 * (1 + float(other.abs().max())))


@pytest.mark.parametrize("potential", POTENTIALS, ids=str)
def test_formulas_give_what_the_tape_gives(potential):
    positions, cells, n_atoms, _ = a_batch()
    agree(*both_ways(positions, cells, n_atoms, resolve([potential]), 1e-8))


@pytest.mark.parametrize("tolerance", [1e-3, 1e-10])
def test_formulas_give_what_the_tape_gives_of_several_potentials(tolerance):
    positions, cells, n_atoms, _ = a_batch(1)
    potentials = resolve(["coulomb", "london", "pauli", "yukawa:0.3"])
    assert formulas.serves(positions.requires_grad_(), cells, potentials)
    agree(*both_ways(positions.detach(), cells, n_atoms, potentials, tolerance))


@pytest.mark.parametrize("n_periodic", [0, 1, 2])
def test_slabs_wires_and_clusters_have_the_derivatives_of_the_tape(n_periodic):
    positions, cells, n_atoms, owner = a_batch()
    loss = torch.randn(int((n_atoms**2).sum()), 2, generator=torch.Generator().manual_seed(1))
    slopes = []
    for evaluate in (None, differentiable.evaluate):
        x, a = positions.clone().requires_grad_(), cells.clone().requires_grad_()
        if evaluate is None:
            pbc = np.arange(3) < n_periodic
            values = pair_sums(x, a, ["coulomb", "pauli"], graph_index=owner, pbc=pbc).values
        else:
            potentials = resolve(["coulomb", "pauli"])
            values = evaluate(x, a[:, :n_periodic], n_atoms, potentials, 1e-8)[0]
        wanted = (x, a) if n_periodic else (x,)
        slopes.append((values.detach(), *torch.autograd.grad(values, wanted, loss.double())))
    agree(*slopes)


def test_a_combination_and_a_parameter_keep_their_derivatives():
    positions, cells, _, owner = a_batch()
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = positions.requires_grad_()
    kinds = [Yukawa(rate), LennardJones(0.1, 2.0)]
    values = pair_sums(x, cells, kinds, graph_index=owner, tolerance=1e-6).values
    slopes = torch.autograd.grad(values[:, 0].sum() + 1e-6 * values[:, 1].sum(), (x, rate))
    assert all(bool(s.isfinite().all()) and bool((s != 0).any()) for s in slopes)


def test_second_derivatives_go_through_the_tape():
    positions, cells, _, _ = a_batch()
    x, a = positions[:3].requires_grad_(), cells[0].requires_grad_()

    def function(x, a):
        return pair_sums(x, a, ["coulomb", "pauli"], tolerance=1e-10).values

    assert torch.autograd.gradcheck(function, (x, a), fast_mode=True, atol=1e-5)
    assert torch.autograd.gradgradcheck(function, (x, a), fast_mode=True, atol=1e-5)


def test_a_crystal_of_a_batch_has_the_derivatives_it_has_alone():
    positions, cells, n_atoms, owner = a_batch()
    x = positions.clone().requires_grad_()
    values = pair_sums(x, cells, graph_index=owner).values
    (together,) = torch.autograd.grad(values.sum(), x)
    alone = []
    for graph in range(3):
        x = positions[owner == graph].requires_grad_()
        (slope,) = torch.autograd.grad(pair_sums(x, cells[graph]).values.sum(), x)
        alone.append(slope)
    assert torch.equal(together, torch.cat(alone))


def test_atoms_far_away_have_the_derivatives_of_those_nearby():
    positions, cells, _, owner = a_batch()
    far = positions[owner == 0] + 3e7 * cells[0, 0]
    slopes = []
    for place in (positions[owner == 0], far):
        x = place.clone().requires_grad_()
        values = pair_sums(x, cells[0]).values
        slopes.append(torch.autograd.grad(values[:3].sum(), x)[0])
    assert (slopes[0] - slopes[1]).abs().max() < 1e-6


def test_a_bad_crystal_of_a_batch_is_named_and_the_others_have_derivatives():
    positions, cells, n_atoms, owner = a_batch()
    broken = positions.clone()
    broken[4] = broken[3]
    x = broken.requires_grad_()
    found = pair_sums(x, cells, graph_index=owner, on_error="skip")
    assert list(found.failures) == [1]
    assert str(found.failures[1]).startswith("crystal 1: atoms 0 and 1 must be")
    assert found.bounds[1].isnan().all()
    assert not found.bounds[[0, 2]].isnan().any()
    (slope,) = torch.autograd.grad(found.values.nan_to_num(0.0).sum(), x)
    alone = positions[owner == 2].clone().requires_grad_()
    (expected,) = torch.autograd.grad(pair_sums(alone, cells[2]).values.sum(), alone)
    assert torch.equal(slope[owner == 2], expected)


def test_waves_that_are_kept_are_those_of_the_cell():
    positions, cells, n_atoms, _ = a_batch()
    x, one, other = positions[:3], cells[:1], 1.1 * cells[:1]
    potentials = resolve(("coulomb", "london"))
    for moved, cell in ((x, one), (x, other), (x + 0.1 * torch.eye(3), one)):
        agree(*both_ways(moved, cell, n_atoms[:1], potentials, 1e-9))
