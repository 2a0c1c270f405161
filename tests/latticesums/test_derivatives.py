"""First derivatives are within their bounds."""

import numpy as np
import pytest
import torch

from latticesums import (
    ConfigError,
    Coulomb,
    CutOff,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Shell,
    Yukawa,
    pair_sums,
)

POTENTIALS = (
    Coulomb(),
    London(),
    InversePower(4),
    Exponential(3.0),
    Exponential(0.2),
    Yukawa(2.0),
    Yukawa(0.1),
    Gaussian(0.8),
    Gaussian(6.0),
    Shell(2.0, 0.8, 5.0),
    CutOff(London(), 5.0),
    LennardJones(0.1, 2.0),
)


def derivatives(cell, positions, potential, tolerance):
    x = torch.tensor(positions, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + strain
    sums = pair_sums(
        x @ deform, torch.tensor(cell) @ deform, [potential], tolerance=tolerance,
        bound_derivatives=True,
    )  # fmt: skip
    found = [torch.autograd.grad(v, (x, strain), retain_graph=True) for v in sums.values[:, 0]]
    gradients = torch.stack([g for g, _ in found]).numpy()
    return gradients, torch.stack([s for _, s in found]).numpy(), sums.derivative_bounds


@pytest.mark.parametrize("potential", POTENTIALS, ids=lambda p: p.name)
@pytest.mark.parametrize("seed", range(3))
def test_derivatives_are_within_their_bounds(potential, seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([3.3, 4.1, 5.0 + 9 * (seed == 2)]) + rng.normal(size=(3, 3)) * 0.5
    positions = np.array([[0, 0, 0], [0.4, 0.5, 0.6], [0.8, 0.1, 0.3]]) @ cell
    exact = derivatives(cell, positions, potential, 3e-11)
    for tolerance in (1e-4, 1e-7):
        found = derivatives(cell, positions, potential, tolerance)
        bounds = found[2]
        gradient = np.linalg.norm(found[0] - exact[0], axis=-1).max()
        strain = np.abs(found[1] - exact[1]).max()
        assert gradient <= bounds.positions[0, 0] + exact[2].positions[0, 0]
        assert strain <= bounds.strain[0, 0] + exact[2].strain[0, 0]
        assert bounds.positions[0, 0] < 100 * tolerance
        assert bounds.strain[0, 0] < 3000 * tolerance


def test_derivatives_of_slabs_have_no_bound():
    with pytest.raises(ConfigError, match="`bound_derivatives` must be False"):
        pair_sums(torch.zeros(1, 3), torch.eye(3) * 4, pbc=[True, True, False],
                  bound_derivatives=True)  # fmt: skip


def test_rounding_is_allowed_for_where_a_shell_is_steep_and_not_where_the_nearest_atom_is():
    cell, positions = np.diag([4.0, 4.3, 4.6]), torch.tensor([[0.0, 0, 0], [0.5, 0.2, 0.3]])
    far = (positions.double() + torch.tensor(cell[2]) * torch.tensor([[0.0], [200.0]])).numpy()
    near = (positions.double()).numpy()
    shell = Shell(2.7, 0.3, 4.7)  # next to nothing at the nearest atom
    strains, bounds = [], []
    for place in (near, far):
        x = torch.tensor(place, requires_grad=True)
        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        deform = torch.eye(3, dtype=torch.float64) + strain
        sums = pair_sums(
            x @ deform, torch.tensor(cell) @ deform, [shell], tolerance=1e-9, bound_derivatives=True
        )
        strains.append(torch.autograd.grad(sums.values[1, 0], strain)[0])
        bounds.append(float(sums.derivative_bounds.strain[0, 0]))
    error = float((strains[0] - strains[1]).abs().max())
    assert 0 < error <= sum(bounds)
    assert max(bounds) < 1e-10
