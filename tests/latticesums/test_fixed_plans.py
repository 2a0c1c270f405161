"""With a fixed plan energies have no jumps, and the certificate holds on the way."""

import numpy as np
import pytest
import torch

from latticesums import Atoms, ConfigError, energy, fixed_plan, lattice_sums, pair_sums

CELL = np.array([[4.1, 0.3, 0.2], [0.1, 4.3, 0.7], [0.2, 0.3, 3.9]])
ATOMS = np.array([[0.0, 0, 0], [2.0, 1.9, 1.8], [0.4, 2.2, 1.1], [-5.0, 6.1, 9.9]])
CHARGES = np.array([1.0, -2.0, 0.5, 0.5])
STRAIN = np.array([[1.0, 0.2, -0.1], [0.2, -0.7, 0.3], [-0.1, 0.3, 0.6]])
STRAIN /= np.abs(np.linalg.eigvalsh(STRAIN)).max()


def strained(amount):
    deform = np.eye(3) + amount * STRAIN
    return ATOMS @ deform, CELL @ deform


def bumps(function, points):
    """Return the third differences of a function, which a jump would stand out of."""
    return np.abs(np.diff([function(x) for x in points], n=3)).max()


def test_an_energy_along_a_strained_path_has_no_jump():
    plan = fixed_plan(Atoms(ATOMS, CELL), "coulomb", charges=CHARGES, tolerance=1e-4, strain=0.05)
    points = np.linspace(-0.04, 0.04, 401)

    def with_plan(amount):
        return energy(*strained(amount), CHARGES, tolerance=1e-4, plan=plan).energy.item()

    def without(amount):
        return energy(*strained(amount), CHARGES, tolerance=1e-4).energy.item()

    step = points[1] - points[0]
    curve = 3e4 * step**3  # what the third derivative of the energy adds
    assert bumps(with_plan, points) < 1e-11 + curve
    fine = points[:41] * 1e-3  # where that is nothing beside rounding
    assert bumps(with_plan, fine) < 2e-13
    assert bumps(without, points) > 1e-8


def test_forces_and_stress_of_a_plan_are_the_derivatives_of_its_energy():
    plan = fixed_plan(Atoms(ATOMS, CELL), "coulomb", charges=CHARGES, tolerance=1e-3)
    found = energy(ATOMS, CELL, CHARGES, tolerance=1e-3, plan=plan)
    step = 1e-4
    up, down = (
        energy(*strained(s), CHARGES, tolerance=1e-3, plan=plan).energy.item()
        for s in (step, -step)
    )
    volume = abs(np.linalg.det(CELL))
    expected = (found.stress[0].numpy() * STRAIN).sum() * volume
    assert (up - down) / (2 * step) == pytest.approx(expected, abs=2e-7)
    moved = np.zeros((4, 3))
    moved[1, 2] = step
    up, down = (
        energy(ATOMS + s * moved, CELL, CHARGES, tolerance=1e-3, plan=plan).energy.item()
        for s in (1, -1)
    )
    assert (up - down) / (2 * step) == pytest.approx(-found.forces[1, 2].item(), abs=2e-7)


@pytest.mark.parametrize("potential", ["coulomb", "london", "pauli", "yukawa:0.3", "gaussian:2"])
def test_sums_by_a_plan_are_within_their_bounds(potential):
    plan = fixed_plan(Atoms(ATOMS, CELL), potential, tolerance=1e-6, strain=0.1)
    for amount in (-0.1, -0.03, 0.0, 0.1):
        atoms = Atoms(*strained(amount))
        found = lattice_sums(atoms, plan=plan)
        exact = lattice_sums(atoms, [potential], tolerance=1e-11)
        assert np.abs(found.values - exact.values).max() <= found.error_bound[0] + 1e-11
        assert found.error_bound[0] <= 1e-6


def test_pair_sums_by_a_plan_have_derivatives():
    plan = fixed_plan(Atoms(ATOMS, CELL), tolerance=1e-10)
    x, a = torch.tensor(ATOMS, requires_grad=True), torch.tensor(CELL, requires_grad=True)
    by_plan = torch.autograd.grad(pair_sums(x, a, plan=plan).values[:8].sum(), (x, a))
    plain = torch.autograd.grad(pair_sums(x, a, tolerance=1e-10).values[:8].sum(), (x, a))
    for one, other in zip(by_plan, plain, strict=True):
        assert (one - other).abs().max() < 1e-7


def test_a_plan_says_for_what_it_is_not():
    plan = fixed_plan(Atoms(ATOMS, CELL), "coulomb", charges=CHARGES, strain=0.05)
    with pytest.raises(ConfigError, match=r"within a strain of 0.05 .* got a strain of 0.06"):
        energy(*strained(0.06), CHARGES, plan=plan)
    with pytest.raises(ConfigError, match=r"must have 4 atoms .* got 2 atoms"):
        energy(ATOMS[:2], CELL, [1.0, -1.0], plan=plan)
    with pytest.raises(ConfigError, match="`potential` must be that of the plan, coulomb"):
        energy(ATOMS, CELL, CHARGES, potential="london", plan=plan)
    with pytest.raises(ConfigError, match="without gradients of torch"):
        energy(torch.tensor(ATOMS, requires_grad=True), CELL, CHARGES, plan=plan)
    with pytest.raises(ConfigError, match="`strain` must lie between 0 and 0.3, got 0.5"):
        fixed_plan(Atoms(ATOMS, CELL), strain=0.5)
    with pytest.raises(ConfigError, match="must repeat in three directions"):
        fixed_plan(Atoms(ATOMS, CELL, (True, True, False)))
    with pytest.raises(ConfigError, match="must be single ones with numbers"):
        fixed_plan(Atoms(ATOMS, CELL), "lennard-jones:0.1,2")


def test_dynamics_at_constant_energy_does_not_drift():
    """Charges that repel like r^-12, 300 steps of velocity Verlet."""
    rng = np.random.default_rng(0)
    cell = 5.6 * np.eye(3)
    x = 2.8 * np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    q = np.where(np.rint(x.sum(1) / 2.8) % 2 == 0, 1.0, -1.0)
    ones, start = np.ones(8), Atoms(x, cell)
    plans = (
        fixed_plan(start, "coulomb", charges=q, tolerance=1e-4),
        fixed_plan(start, "inverse-power:12", charges=ones, tolerance=1e-6),
    )

    def at(x):
        near = energy(x, cell, q, tolerance=1e-4, plan=plans[0])
        wall = energy(x, cell, ones, potential="inverse-power:12", tolerance=1e-6, plan=plans[1])
        strength = 2e4
        total = near.energy.item() + strength * wall.energy.item()
        return total, near.forces.numpy() + strength * wall.forces.numpy()

    v, step = 0.05 * rng.normal(size=x.shape), 0.05
    potential, force = at(x)
    energies = [potential + 0.5 * (v * v).sum()]
    for _ in range(300):
        v = v + 0.5 * step * force
        x = x + step * v
        potential, force = at(x)
        v = v + 0.5 * step * force
        energies.append(potential + 0.5 * (v * v).sum())
    drift = np.mean(energies[-50:]) - np.mean(energies[:50])
    assert np.std(energies) < 2e-3
    assert abs(drift) < 1e-4
