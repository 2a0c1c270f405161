"""What must not matter does not matter, and derivatives are right, by the torch path."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesums import (
    Coulomb,
    Exponential,
    InversePower,
    London,
    Pauli,
    Shell,
    Yukawa,
    differentiable,
    pair_sums,
)

POTENTIALS = (
    Coulomb(),
    London(),
    Pauli(),
    Exponential(0.6),
    InversePower(4),
    InversePower(2.6),
    Yukawa(0.5),
    Shell(2.0, 0.8, 5.0),
)
TOLERANCE = 1e-9
NEAR = 2.5 * TOLERANCE


def crystal(seed: int, n_atoms: int = 3):
    """Return a skewed cell and atoms at least 1 Å apart, some of them outside the cell."""
    rng = np.random.default_rng(seed)
    while True:
        cell = rng.normal(size=(3, 3)) * rng.uniform(2, 5, (3, 1)) * n_atoms ** (1 / 3)
        images = np.array(list(np.ndindex(7, 7, 7))) - 3
        lengths = np.linalg.norm(images @ cell, axis=1)
        if abs(np.linalg.det(cell)) > 12 * n_atoms and np.sort(lengths)[1] > 1:
            break
    positions = np.empty((0, 3))
    while len(positions) < n_atoms:
        new = rng.normal(size=3) * 6
        offsets = (positions - new)[:, None] + images @ cell
        wrapped = np.linalg.norm(offsets - np.rint(offsets @ np.linalg.inv(cell)) @ cell, axis=2)
        if wrapped.min(initial=9) > 1 and np.linalg.norm(offsets, axis=2).min(initial=9) > 1:
            positions = np.vstack([positions, new])
    return cell, positions


def evaluate(cell, positions, potentials=POTENTIALS):
    values, _ = differentiable.evaluate(
        torch.tensor(positions),
        torch.tensor(cell)[None],
        np.array([len(positions)]),
        potentials,
        TOLERANCE,
    )
    return values.view(len(positions), len(positions), -1).numpy()


def unimodular(rng):
    """Return a random integer matrix with determinant +1 or -1."""
    matrix = np.eye(3)
    for _ in range(6):
        i, j = rng.choice(3, 2, replace=False)
        matrix[i] += rng.integers(-3, 4) * matrix[j]
    return matrix[rng.permutation(3)] * rng.choice([-1.0, 1.0], (3, 1))


seeds = st.integers(0, 10**6)


@settings(max_examples=25)
@given(seeds)
def test_the_choice_of_basis_does_not_matter(seed):
    cell, positions = crystal(seed)
    other = unimodular(np.random.default_rng(seed)) @ cell
    assert np.abs(evaluate(cell, positions) - evaluate(other, positions)).max() < NEAR


@settings(max_examples=15)
@given(seeds)
def test_rotation_reflection_and_translation_do_not_matter(seed):
    cell, positions = crystal(seed)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    moved = positions @ turn + rng.normal(size=3) * 20
    assert np.abs(evaluate(cell, positions) - evaluate(cell @ turn, moved)).max() < NEAR


@settings(max_examples=15)
@given(seeds)
def test_atoms_may_lie_in_any_image_of_the_cell(seed):
    cell, positions = crystal(seed)
    shifts = np.random.default_rng(seed).integers(-4, 5, positions.shape) @ cell
    assert np.abs(evaluate(cell, positions) - evaluate(cell, positions + shifts)).max() < NEAR


@settings(max_examples=10)
@given(seeds)
def test_the_order_of_atoms_only_reorders_the_sums(seed):
    cell, positions = crystal(seed, 4)
    order = np.random.default_rng(seed).permutation(4)
    expected = evaluate(cell, positions)[np.ix_(order, order)]
    assert np.abs(evaluate(cell, positions[order]) - expected).max() < NEAR


@settings(max_examples=10)
@given(seeds)
def test_sums_are_symmetric_and_own_sums_are_equal(seed):
    values = evaluate(*crystal(seed, 4))
    assert np.abs(values - values.transpose(1, 0, 2)).max() < 1e-12
    own = values[np.arange(4), np.arange(4)]
    assert np.abs(own - own[0]).max() < 1e-12


@settings(max_examples=10)
@given(seeds)
def test_a_supercell_splits_each_sum(seed):
    cell, positions = crystal(seed, 2)
    rng = np.random.default_rng(seed)
    repeats = np.ones(3, dtype=int)
    repeats[rng.integers(3)] = 2
    repeats[rng.integers(3)] *= 2
    images = np.array(list(np.ndindex(*repeats))) @ cell
    many = (positions[:, None] + images[None]).reshape(-1, 3)
    values = evaluate(cell * repeats[:, None], many).reshape(2, len(images), 2, len(images), -1)
    # one atom of the supercell sees all copies of another as the small cell's images
    together = values[:, 0].sum(2)
    # 1/r keeps its zero mean, so its background adds up like all the others
    assert np.abs(together - evaluate(cell, positions)).max() < NEAR * len(images)


def test_a_batch_gives_the_numbers_of_its_crystals():
    crystals = [crystal(seed, n) for seed, n in enumerate((1, 5, 2, 18, 17, 5, 9, 1))]
    n_atoms = [len(x) for _, x in crystals]
    positions = torch.tensor(np.concatenate([x for _, x in crystals]))
    cells = torch.tensor(np.stack([c for c, _ in crystals]))
    index = torch.repeat_interleave(torch.arange(len(crystals)), torch.tensor(n_atoms))
    positions.requires_grad_()  # the torch path
    sums = pair_sums(positions, cells, POTENTIALS, tolerance=TOLERANCE, graph_index=index)
    single = [evaluate(c, x).reshape(-1, len(POTENTIALS)) for c, x in crystals]
    assert np.abs(sums.values.detach().numpy() - np.concatenate(single)).max() < NEAR
    assert torch.equal(index[sums.i], index[sums.j])
    first = np.cumsum(n_atoms) - n_atoms
    expected = [f + np.indices((n, n)).reshape(2, -1) for f, n in zip(first, n_atoms, strict=True)]
    assert np.array_equal(torch.stack([sums.i, sums.j]).numpy(), np.concatenate(expected, 1))


def test_little_memory_gives_the_same_numbers(monkeypatch):
    cell, positions = crystal(3, 12)
    expected = evaluate(cell, positions)
    monkeypatch.setattr(differentiable, "CHUNK", 500)
    assert np.abs(evaluate(cell, positions) - expected).max() < 1e-13


DIFFERENTIATED = (
    *POTENTIALS,
    InversePower(2),
    InversePower(5),
    InversePower(12),
    Exponential(0.1),
    Yukawa(0.3),
    Yukawa(2.5),
)


@pytest.mark.parametrize("potential", DIFFERENTIATED, ids=lambda p: p.name)
def test_first_and_second_derivatives_are_right(potential):
    cell, positions = crystal(11, 2)

    def function(x, c):
        values, _ = differentiable.evaluate(x, c[None], np.array([2]), (potential,), 1e-10)
        return values[:2, 0]  # S(0, 0) and S(0, 1)

    inputs = (torch.tensor(positions, requires_grad=True), torch.tensor(cell, requires_grad=True))
    assert torch.autograd.gradcheck(function, inputs, atol=2e-6)
    assert torch.autograd.gradgradcheck(function, inputs, atol=2e-5, fast_mode=True)


def test_the_strain_derivative_is_right_and_symmetric():
    cell, positions = (torch.tensor(a) for a in crystal(5))
    charges = torch.tensor([2.0, -1.0, -1.0], dtype=torch.float64)

    def energy(strain):
        deformed = torch.eye(3, dtype=torch.float64) + strain
        x, c = positions @ deformed, cell @ deformed
        values, _ = differentiable.evaluate(x, c[None], np.array([3]), (Coulomb(),), 1e-10)
        return charges @ values.view(3, 3) @ charges / 2

    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(energy, (strain,), atol=1e-6)
    (stress,) = torch.autograd.grad(energy(strain), strain)
    assert torch.allclose(stress, stress.T, atol=1e-8)  # no torque on a crystal
    # 1/r scales with the length, so the virial is minus the energy
    assert stress.trace().item() == pytest.approx(-energy(strain).item(), abs=1e-8)


def test_forces_add_up_to_nothing():
    cell, positions = crystal(8, 4)
    x = torch.tensor(positions, requires_grad=True)
    values, _ = differentiable.evaluate(
        x, torch.tensor(cell)[None], np.array([4]), POTENTIALS, TOLERANCE
    )
    (force,) = torch.autograd.grad(values.sum(), x)
    assert force.sum(0).abs().max() < 1e-10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_numbers_of_the_cpu():
    crystals = [crystal(seed, n) for seed, n in enumerate((1, 5, 2, 18, 9))]
    index = torch.repeat_interleave(torch.arange(5), torch.tensor([len(x) for _, x in crystals]))
    positions = torch.tensor(np.concatenate([x for _, x in crystals]), requires_grad=True)
    cells = torch.tensor(np.stack([c for c, _ in crystals]))
    here = pair_sums(positions, cells, POTENTIALS, tolerance=TOLERANCE, graph_index=index)
    far = positions.detach().cuda().requires_grad_()
    there = pair_sums(far, cells.cuda(), POTENTIALS, tolerance=TOLERANCE, graph_index=index.cuda())
    assert there.values.is_cuda
    assert (there.values.cpu() - here.values).abs().max() < 1e-12
    (force,) = torch.autograd.grad(there.values.sum(), far)
    (expected,) = torch.autograd.grad(here.values.sum(), positions)
    assert (force.cpu() - expected).abs().max() < 1e-11


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_gpu_is_not_waited_for_once_per_crystal(dtype):
    def n_waits(n_graphs: int) -> int:
        cell, positions = (torch.tensor(a).cuda() for a in crystal(4, 3))
        index = torch.arange(n_graphs).repeat_interleave(3).cuda()
        x, cells = positions.repeat(n_graphs, 1), cell.expand(n_graphs, 3, 3)
        try:
            with warnings.catch_warnings(record=True) as waits:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")  # warns that it is a prototype
                waits.clear()
                pair_sums(x, cells, tolerance=1e-4, graph_index=index, dtype=dtype)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return len(waits)

    for n_graphs in (2, 200):  # the first use of a library may wait
        n_waits(n_graphs)
    assert n_waits(200) == n_waits(2)
