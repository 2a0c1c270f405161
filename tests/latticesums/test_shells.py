"""Derivatives of directed shells by formulas, against the tape of torch and differences."""

import numpy as np
import pytest
import torch

from latticesums import Shell, StructureError, directed_shells, shells

SHELLS = (Shell(1.0, 0.5, 5.0), Shell(2.5, 0.4, 5.0), Shell(3.0, 1.0, 6.0))
CELL = torch.tensor([[4.1, 0.2, -0.3], [-1.5, 4.6, 0.4], [0.5, 1.1, 5.0]], dtype=torch.float64)
POSITIONS = torch.tensor([[0.1, 0.2, 0.3], [1.9, 2.2, 2.6], [3.0, -1.2, 9.5]], dtype=torch.float64)


def slopes(function, loss, positions=POSITIONS, cell=CELL):
    x, a = positions.clone().requires_grad_(), cell.clone().requires_grad_()
    return torch.autograd.grad((function(x, a) * loss).sum(), (x, a))


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("cells_away", [0, 20])
def test_slopes_by_formulas_are_those_of_the_tape(degree, cells_away):
    rng = np.random.default_rng(degree)
    loss = torch.from_numpy(rng.normal(size=(9, (degree + 1) ** 2, 3)))
    steps = rng.integers(-cells_away, cells_away, (3, 3), endpoint=True).astype(float)
    far = POSITIONS + torch.from_numpy(steps) @ CELL
    found = slopes(lambda x, a: directed_shells(x, a, SHELLS, degree=degree), loss, far)
    tape = slopes(lambda x, a: shells._taped(x, a, SHELLS, degree, 6.0), loss, far)
    for one, other in zip(found, tape, strict=True):
        assert (one - other).abs().max() < 1e-12 * other.abs().max()


def test_shells_have_second_derivatives():
    def values(x, a):
        return directed_shells(x, a, SHELLS, degree=2)

    x, a = POSITIONS.clone().requires_grad_(), CELL.clone().requires_grad_()
    assert torch.autograd.gradcheck(values, (x, a))
    assert torch.autograd.gradgradcheck(lambda x, a: values(x, a).square().sum(), (x, a))


def test_only_what_is_asked_for_is_differentiated():
    x = POSITIONS.clone().requires_grad_()
    (alone,) = torch.autograd.grad(directed_shells(x, CELL, SHELLS, degree=1).sum(), x)
    together = slopes(lambda x, a: directed_shells(x, a, SHELLS, degree=1), 1.0)[0]
    assert torch.equal(alone, together)


def test_two_atoms_on_one_spot_are_refused():
    x = torch.cat([POSITIONS, POSITIONS[:1] + CELL[1]]).requires_grad_()
    with pytest.raises(StructureError, match="atoms 0 and 3 must be"):
        directed_shells(x, CELL, SHELLS, degree=1)


def test_a_width_that_is_a_tensor_has_a_derivative():
    width = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x = POSITIONS.clone().requires_grad_()
    found = directed_shells(x, CELL, [Shell(1.0, width, 5.0)], degree=1)
    by_width, _ = torch.autograd.grad(found[:, 0].sum(), (width, x))
    assert by_width > 0
