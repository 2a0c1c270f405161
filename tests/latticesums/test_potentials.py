"""Potentials as values: arithmetic, names, parameters that are tensors, and what is refused."""

import math

import numpy as np
import pytest
import torch

from latticesums import (
    Buckingham,
    Coulomb,
    CutOff,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Morse,
    Pauli,
    Shell,
    Yukawa,
    pair_sums,
)
from latticesums.errors import ConfigError

CELL = torch.tensor([[3.1, 0.2, -0.3], [1.4, 3.9, 0.5], [-0.8, 1.1, 4.6]], dtype=torch.float64)
ATOMS = torch.tensor([[0.0, 0.0, 0.0], [0.9, -0.4, 1.7]], dtype=torch.float64)


def number(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    ("potential", "name"),
    [
        (2 * Coulomb() - London(), "2 coulomb - london"),
        (Coulomb() + 0.5 * (Pauli() - London()), "coulomb + 0.5 (pauli - london)"),
        (-Gaussian(1.5) * 3, "3 (- gaussian(1.5))"),
        (sum([Coulomb(), London()]), "coulomb + london"),
        (np.float64(2) * Yukawa(0.5), "2 exp(-0.5 r)/r"),
        (LennardJones(0.01, 3.4), "lennard-jones(0.01, 3.4)"),
        (Morse(1, 2, 3), "morse(1, 2, 3)"),
        (Buckingham(1000, 3, 30) + Coulomb(), "buckingham(1000, 3, 30) + coulomb"),
        (Exponential(number(2.5)), "exp(-2.5 r)"),
        (CutOff(London(), 6), "london to 6"),
    ],
)
def test_potentials_are_named_as_they_are_written(potential, name):
    assert potential.name == name


def test_combinations_compare_by_value_and_tensors_by_identity():
    assert 2 * Coulomb() - London() == 2 * Coulomb() - London()
    assert 2 * Coulomb() != 3 * Coulomb()
    assert len({LennardJones(1, 2), LennardJones(1.0, 2), Morse(1, 2, 3)}) == 2
    width = number(1.0)
    assert Gaussian(width) == Gaussian(width)
    assert Gaussian(width) != Gaussian(number(1.0))
    assert hash(width * Gaussian(width)) is not None


@pytest.mark.parametrize(
    ("potential", "value"),
    [
        (Gaussian(2.0), math.exp(-0.5625)),
        (2 * Coulomb() - London(), 2 / 1.5 - 1.5**-6),
        (LennardJones(2.0, 1.5), 0.0),
        (Morse(0.7, 2.0, 1.5), -0.7),
        (Buckingham(10, 2, 3), 10 * math.exp(-3) - 3 / 1.5**6),
    ],
)
def test_values_of_a_pair_are_those_of_the_definition(potential, value):
    assert potential.value(torch.tensor(2.25, dtype=torch.float64)).item() == pytest.approx(value)


PARAMETERS = [
    (Gaussian, (0.8,)),
    (Gaussian, (3.5,)),
    (Exponential, (3.0,)),
    (Exponential, (0.4,)),
    (Yukawa, (2.5,)),
    (Yukawa, (0.4,)),
    (Shell, (2.0, 0.8, 5.0)),
    (LennardJones, (0.3, 1.2)),
    (Morse, (0.7, 1.2, 1.5)),
    (Buckingham, (50.0, 2.5, 7.0)),
    (lambda c, rate: c * Coulomb() - London() * 2 + Yukawa(rate) * c, (1.5, 0.7)),
]


@pytest.mark.parametrize(("make", "values"), PARAMETERS)
def test_derivatives_in_parameters_positions_and_cell_are_right(make, values):
    def function(x, c, *parameters):
        return pair_sums(x, c, [make(*parameters)], tolerance=1e-10).values[:2, 0]

    inputs = (
        ATOMS.clone().requires_grad_(),
        CELL.clone().requires_grad_(),
        *(number(v) for v in values),
    )
    assert torch.autograd.gradcheck(function, inputs, atol=2e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, atol=2e-5, fast_mode=True)


@pytest.mark.parametrize(("make", "values"), PARAMETERS)
def test_tensors_give_the_sums_of_their_numbers(make, values):
    with_numbers = pair_sums(ATOMS, CELL, [make(*values)], tolerance=1e-9).values
    potential = make(*(number(v) for v in values))
    with_tensors = pair_sums(ATOMS, CELL, [potential], tolerance=1e-9).values
    assert with_tensors.requires_grad
    assert (with_tensors - with_numbers).abs().max() < 2e-9
    with torch.no_grad():
        without = pair_sums(ATOMS, CELL, [potential], tolerance=1e-9).values
    assert torch.equal(without, with_numbers)


def test_a_parameter_can_be_trained_in_place():
    rate = torch.nn.Parameter(torch.tensor(1.0))
    potential = Exponential(rate)
    target = pair_sums(ATOMS, CELL, [Exponential(1.7)]).values
    optimizer = torch.optim.LBFGS([rate], line_search_fn="strong_wolfe", max_iter=15)

    def loss():
        optimizer.zero_grad()
        error = (pair_sums(ATOMS, CELL, [potential]).values - target).pow(2).sum()
        error.backward()
        return error

    optimizer.step(loss)
    assert rate.item() == pytest.approx(1.7, abs=1e-4)
    assert rate.grad is not None
    assert rate.dtype == torch.float32


def test_a_parameter_that_left_its_range_is_refused_when_it_is_used():
    rate = torch.nn.Parameter(torch.tensor(1.0))
    potential = Exponential(rate)
    with torch.no_grad():
        rate.sub_(2.0)
    with pytest.raises(ConfigError, match="Exponential: `rate` must be a number larger than 0"):
        pair_sums(ATOMS, CELL, [potential])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0), "Gaussian: `width` must be a number larger than 0"),
        (lambda: Gaussian(torch.ones(2)), "a tensor without dimensions, got one of shape"),
        (lambda: Gaussian("wide"), "Gaussian: `width` must be a finite number, got wide"),
        (lambda: LennardJones(1, -1), "LennardJones: `sigma` must be"),
        (lambda: Morse(0, 1, 1), "Morse: `depth` must be"),
        (lambda: Morse(1, 1, -1), "Morse: `r0` must be a number not below 0, got -1"),
        (lambda: Buckingham(1, 0, 1), "Buckingham: `B` must be"),
        (lambda: math.inf * Coulomb(), "`coefficient` must be a finite number"),
        (lambda: "2" * Coulomb(), "`coefficient` must be a finite number"),
    ],
)
def test_what_makes_no_potential_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_potentials_do_not_add_to_numbers():
    for wrong in (lambda: Coulomb() + 1, lambda: 1 + Coulomb(), lambda: Coulomb() - 1):
        with pytest.raises(TypeError):
            wrong()


def test_a_tolerance_that_a_combination_cannot_keep_is_refused():
    with pytest.raises(ConfigError, match="`tolerance` must be at least .* got 1e-10"):
        pair_sums(ATOMS, CELL, [1e12 * London()], tolerance=1e-10)


def test_a_power_without_derivative_says_so():
    with pytest.raises(ConfigError, match="no derivative with respect to it is offered"):
        InversePower(number(4.0))


@pytest.mark.parametrize("n_periodic", [0, 1, 2])
@pytest.mark.parametrize(
    ("make", "values"),
    [
        (LennardJones, (0.3, 1.2)),
        (Morse, (0.7, 0.6, 1.5)),
        (lambda c, rate, width: c * Coulomb() + Yukawa(rate) - Gaussian(width), (1.5, 0.4, 1.1)),
    ],
)
def test_combinations_and_parameters_hold_where_fewer_directions_repeat(n_periodic, make, values):
    pbc = [True] * n_periodic + [False] * (3 - n_periodic)

    def function(*parameters):
        sums = pair_sums(ATOMS, CELL, [make(*parameters)], tolerance=1e-10, pbc=pbc)
        assert (sums.error_bound <= 1e-10).all()
        return sums.values[:2, 0]

    parameters = tuple(number(v) for v in values)
    assert torch.autograd.gradcheck(function, parameters, atol=2e-6, fast_mode=True)
    apart = [
        (c, pair_sums(ATOMS, CELL, [term], tolerance=1e-11, pbc=pbc).values[:2, 0])
        for c, term in make(*values).terms
    ]
    expected = sum(c * v for c, v in apart)
    assert (function(*parameters) - expected).abs().max() < 2e-10


@pytest.mark.parametrize("n_periodic", [3, 2])
@pytest.mark.parametrize(
    ("make", "parameter"),
    [(Exponential, 0.02), (Exponential, 0.5), (Yukawa, 0.02), (Yukawa, 0.6), (Gaussian, 8.0)],
)
def test_derivatives_by_parameters_keep_about_the_tolerance(make, parameter, n_periodic):
    slopes = []
    for tolerance in (1e-6, 1e-9):
        x = number(parameter)
        values = pair_sums(
            ATOMS, CELL, [make(x)], tolerance=tolerance, pbc=[k < n_periodic for k in range(3)]
        ).values
        slopes.append(torch.autograd.grad(values[1, 0], x)[0].item())
    assert abs(slopes[0] - slopes[1]) < 3e-6
