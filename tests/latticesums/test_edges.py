"""The certificate at its edges: what is returned is within its bound, the bound within reach."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from latticesums import (
    Atoms,
    Buckingham,
    ConfigError,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LatticeSumsError,
    LennardJones,
    London,
    Morse,
    Pauli,
    Shell,
    StructureError,
    Yukawa,
    differentiable,
    lattice_sums,
    pair_sums,
    point_sums,
)

CELL = np.array([[3.1, 0.3, 0.2], [0.1, 3.3, 0.7], [0.2, 0.3, 2.9]])
PBC = {3: (True, True, True), 2: (True, True, False), 1: (True, False, False), 0: (False,) * 3}


def sums(positions, cell, potentials, **settings):
    with torch.no_grad():
        return pair_sums(torch.tensor(positions), torch.tensor(cell), potentials, **settings)


# Combinations: rounding when terms are added up is a part of the bound.


@pytest.mark.parametrize("d", PBC)
@pytest.mark.parametrize("coefficient", [1e-3, 14.399645, 12589.254])
@pytest.mark.parametrize(
    "term", [Yukawa(0.05), Yukawa(0.01), Exponential(0.2), Gaussian(20.0), London(), Coulomb()]
)
def test_combinations_keep_the_tolerance_or_are_refused(term, coefficient, d):
    positions, outcomes = np.array([[0.0, 0, 0], [1.3, 0.9, 1.4]]), set()
    for tolerance in (1e-6, 1e-9, 3e-11, 8.5e-12, 1.3e-12):
        try:
            found = sums(
                positions, CELL, [coefficient * term, term], tolerance=tolerance, pbc=PBC[d]
            )
        except ConfigError as error:
            outcomes.add("refused" if "`tolerance` must be at least" in str(error) else str(error))
            continue
        assert (found.bounds <= tolerance).all()
        error = (found.values[:, 0] - coefficient * found.values[:, 1]).abs().max()
        assert error <= found.error_bound[0] + coefficient * found.error_bound[1]
        outcomes.add("summed")
    assert outcomes in ({"summed"}, {"summed", "refused"})


def test_a_bound_that_rounding_would_break_is_tightened():
    cell = np.array([[5.46, -0.27, 0.235], [-0.417, 2.05, 0.094], [0.605, -0.142, 7.79]])
    yukawa = 14.399645 * Yukawa(0.01)
    for tolerance in (1.1e-10, 1.3e-10, 2e-10, 1e-9):
        assert sums(np.zeros((1, 3)), cell, [yukawa], tolerance=tolerance).error_bound <= tolerance
    with pytest.raises(ConfigError, match=r"`tolerance` must be at least 1\.\de-10 for"):
        sums(np.zeros((1, 3)), cell, [yukawa], tolerance=8.519544403504696e-11)


# Atoms far from the origin.


def far_and_near(offset: float, seed: int, d: int = 3):
    """Return positions far off, and the same atoms near the origin, rounded once."""
    rng = np.random.default_rng(seed)
    near = ([[0, 0, 0], [0.3, 0.6, 0.4], [0.7, 0.2, 0.8]] + 0.1 * rng.random((3, 3))) @ CELL
    far = near + np.rint(rng.uniform(-1, 1, (3, 3)) * offset / 3.0)[:, :d] @ CELL[:d]
    far[0] = near[0]
    exact = []
    for row in far.tolist():
        place = [Fraction(x) for x in row]
        for _ in range(9):
            steps = np.rint([float(x) for x in place] @ np.linalg.pinv(CELL[:d]))
            for step, vector in zip(steps.tolist(), CELL[:d].tolist(), strict=True):
                place = [x - int(step) * Fraction(a) for x, a in zip(place, vector, strict=True)]
        exact.append([float(x) for x in place])
    return far, np.array(exact)


@pytest.mark.parametrize("d", [3, 2, 1])
@pytest.mark.parametrize("offset", [1e5, 9e5, 1e7, 1e9, 3e11, 3e12, 1e13, 3e14])
def test_sums_of_atoms_far_off_are_those_of_the_same_atoms_near_by(offset, d):
    far, near = far_and_near(offset, int(math.log10(offset)) + d, d)
    potentials = [Coulomb(), London(), Pauli()]
    tolerance = 1e-10
    try:
        right = sums(near, CELL, potentials, tolerance=1e-12, pbc=PBC[d])
    except ConfigError:
        right = sums(near, CELL, potentials, tolerance=tolerance, pbc=PBC[d])
    for dtype in ("compiled", "torch"):
        x = torch.tensor(far, requires_grad=dtype == "torch")
        found = pair_sums(x, torch.tensor(CELL), potentials, tolerance=tolerance, pbc=PBC[d])
        error = (found.values - right.values).detach().abs().amax(0)
        assert (error <= found.error_bound + right.error_bound).all()
        assert (found.error_bound <= tolerance).all()


def test_the_case_that_was_off_has_its_published_value():
    far = np.array([[0.0, 0, 0], [-9397742920121.367, 7072781241693.134, -6229806413913.253]])
    for path in (True, False):
        x = torch.tensor(far, requires_grad=path)
        found = pair_sums(x, torch.tensor(CELL), ["coulomb"], tolerance=1e-11)
        assert abs(found.values[1, 0].item() - 0.353295961846113530920583166381) <= 1e-11


def test_derivatives_of_atoms_far_off_are_right():
    far, near = far_and_near(1e9, 5)
    gradients = []
    for positions in (far, near):
        x, c = torch.tensor(positions, requires_grad=True), torch.tensor(CELL, requires_grad=True)
        values = pair_sums(x, c, ["coulomb"], tolerance=1e-10).values
        gradients.append(torch.autograd.grad(values[1].sum(), x)[0])
    assert (gradients[0] - gradients[1]).abs().max() < 1e-7


# Relative errors of what float64 cannot hold.


@pytest.mark.parametrize(
    ("potential", "distance"),
    [
        (Gaussian(0.05), 5.0),
        (Exponential(300.0), 2.4755),
        (Exponential(300.0), 2.48),
        (Yukawa(300.0), 2.475),
        (Gaussian(0.2), 5.45),
        (Shell(1.0, 0.01, 5.0), 4.0),
    ],
)
@pytest.mark.parametrize("d", [0, 1, 2, 3])
def test_a_value_lost_to_underflow_has_no_relative_accuracy(potential, distance, d):
    cell, positions = np.eye(3) * 2.1 * distance, np.array([[0.0, 0, 0], [distance, 0, 0]])
    with pytest.raises(ConfigError, match="`tolerance` must not be relative"):
        sums(positions, cell, [potential], tolerance=1e-6, relative=True, pbc=PBC[d])


def test_a_power_lost_to_underflow_has_no_relative_accuracy():
    apart = np.array([[0.0, 0, 0], [1.6e8, 0, 0]])
    with pytest.raises(ConfigError, match="`tolerance` must not be relative"):
        sums(apart, CELL, [InversePower(40)], tolerance=1e-6, relative=True, pbc=False)


def test_an_atom_alone_has_a_sum_of_0_exactly():
    own = sums(np.zeros((1, 3)), CELL, ["london"], tolerance=1e-6, relative=True, pbc=False)
    assert own.values.item() == 0 == own.error_bound.item()


# Cells that are long in one direction.


@pytest.mark.parametrize("length", [100.0, 1e4, 1e5])
@pytest.mark.parametrize("potential", [Yukawa(0.5), Pauli(), Exponential(0.5)])
def test_needles_have_the_same_sums_on_both_paths(potential, length):
    cell, positions = np.diag([3.0, 3.0, length]), np.array([[0.0, 0, 0], [1.5, 1.5, length / 3]])
    without = sums(positions, cell, [potential], tolerance=1e-6)
    x = torch.tensor(positions, requires_grad=True)
    with_gradients = pair_sums(x, torch.tensor(cell), [potential], tolerance=1e-6)
    assert (without.values - with_gradients.values).abs().max() <= 2e-6
    if isinstance(potential, Yukawa) and length == 1e5:
        assert without.values[0].item() == pytest.approx(0.512351307271600507, abs=1e-6)
        assert abs(without.values[1].item()) <= 1e-6


def test_too_many_vectors_are_refused_in_one_sentence_on_both_paths():
    cell, positions = np.diag([1e-4, 1e4, 1e4]), np.zeros((1, 3))
    for needs_gradient in (False, True):
        x = torch.tensor(positions, requires_grad=needs_gradient)
        with pytest.raises(LatticeSumsError, match="^crystal 0: `(cell|tolerance)` must"):
            pair_sums(x, torch.tensor(cell), ["coulomb"])


# Batches.


def random_crystals(n: int, seed: int = 3):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        n_atoms = int(rng.integers(1, 12))
        edge = (18.0 * n_atoms) ** (1 / 3)
        cell = np.eye(3) * edge * rng.uniform(0.7, 1.4, 3) + rng.normal(size=(3, 3)) * 0.3
        fractions = (np.arange(n_atoms)[:, None] * [0.38, 0.61, 0.83] + rng.random(3)) % 1
        yield Atoms(fractions @ cell, cell)


@pytest.mark.parametrize("d", [3, 2, 1])
def test_nothing_depends_on_what_else_is_in_the_batch(d):
    crystals = list(random_crystals(25))
    n_atoms = np.array([len(c.positions) for c in crystals])
    cells = torch.tensor(np.stack([c.cell for c in crystals]))[:, :d]
    potentials = (Coulomb(), London(), Pauli(), Yukawa(0.3), InversePower(4))
    x = [torch.tensor(c.positions) for c in crystals]
    values, bounds = differentiable.evaluate(torch.cat(x), cells, n_atoms, potentials, 1e-6)
    for graph, end in enumerate(np.cumsum(n_atoms**2)):
        own = slice(graph, graph + 1)
        alone, bound = differentiable.evaluate(x[graph], cells[own], n_atoms[own], potentials, 1e-6)
        assert torch.equal(alone, values[end - n_atoms[graph] ** 2 : end])
        assert torch.equal(bound, bounds[own])


def test_a_small_cell_beside_it_does_not_change_a_large_one():
    large = torch.diag(torch.tensor([100.0, 101.0, 102.0], dtype=torch.float64))
    small = torch.diag(torch.tensor([0.9, 0.95, 1.0], dtype=torch.float64))
    x = torch.tensor(
        [
            [63.69616873214543, 26.97867138637703, 4.0973523936194685],
            [60.663577576717984, 72.94965609839984, 54.362499146542284],
            [0.0, 0.0, 0.0],
        ],
        dtype=torch.float64,
    )
    alone = pair_sums(x[:2], large, [InversePower(4)], tolerance=1e-6)
    index = torch.tensor([0, 0, 1])
    both = pair_sums(
        x, torch.stack([large, small]), [InversePower(4)], tolerance=1e-6, graph_index=index
    )
    assert torch.equal(alone.values, both.values[:4])
    assert torch.equal(alone.bounds, both.bounds[:1])


@pytest.mark.parametrize("potentials", [["coulomb", "pauli"], ["coulomb", 2 * London()]])
@pytest.mark.parametrize("relative", [False, True])
def test_a_bad_crystal_is_named_and_the_others_are_summed(potentials, relative):
    good, other = list(random_crystals(2, 8))
    bad = Atoms(np.zeros((2, 3)), good.cell)
    flat = Atoms(np.zeros((1, 3)), np.ones((3, 3)))
    nowhere = Atoms(np.array([[0.0, 0, 0], [0, np.nan, 1]]), good.cell)
    given = [good, bad, other, flat, nowhere]
    found = lattice_sums(given, potentials, on_error="skip", relative=relative, tolerance=1e-7)
    assert [result.failure is None for result in found] == [True, False, True, False, False]
    assert isinstance(found[1].failure, StructureError)
    assert str(found[1].failure).startswith("crystal 1: atoms 0 and 1 must be")
    assert str(found[3].failure).startswith("crystal 3: `cell` must hold three independent")
    assert str(found[4].failure).startswith("crystal 4: `positions` must be finite, got [0.0, nan")
    assert "for atom 1." in str(found[4].failure)
    assert np.isnan(found[1].values).all()
    assert np.isnan(found[3].error_bound).all()
    for result, crystal in ((found[0], good), (found[2], other)):
        alone = lattice_sums(crystal, potentials, relative=relative, tolerance=1e-7)
        assert np.array_equal(result.values, alone.values)
        assert np.array_equal(result.error_bound, alone.error_bound)
    with pytest.raises(StructureError, match="^crystal [134]: "):
        lattice_sums(given, potentials, relative=relative, tolerance=1e-7)


def test_bounds_are_those_of_each_crystal():
    crystals = list(random_crystals(4, 11))
    together = lattice_sums(crystals, tolerance=1e-8)
    for crystal, result in zip(crystals, together, strict=True):
        alone = lattice_sums(crystal, tolerance=1e-8)
        assert np.array_equal(alone.error_bound, result.error_bound)
        assert np.array_equal(alone.values, result.values)


# Numbers of other kinds, and absurd ones.


@pytest.mark.parametrize(
    "tolerance", [np.float32(1e-6), torch.tensor(1e-6), torch.tensor([1e-6]), np.array(1e-6)]
)
def test_a_tolerance_may_be_any_number_and_arrays_may_be_read_only(tolerance):
    crystal = Atoms(np.array([[0.0, 0, 0], [1.5, 1.4, 1.6]]), CELL)
    expected = lattice_sums(crystal, tolerance=float(tolerance)).values
    assert np.array_equal(lattice_sums(crystal, tolerance=tolerance).values, expected)
    for array in crystal[:2]:
        array.flags.writeable = False
    assert np.array_equal(lattice_sums(crystal, tolerance=tolerance).values, expected)


@pytest.mark.parametrize("tolerance", ["small", None, [1e-6, 1e-7], math.nan, torch.ones(2)])
def test_what_is_no_tolerance_is_refused(tolerance):
    with pytest.raises(ConfigError, match="`tolerance` must lie between"):
        lattice_sums(Atoms(np.zeros((1, 3)), CELL), tolerance=tolerance)


ABSURD = {
    "slow": lambda: Exponential(1e-300),
    "slower than any cell": lambda: Exponential(1e-20),
    "fast": lambda: Exponential(1e300),
    "unscreened": lambda: Yukawa(1e-29),
    "screened": lambda: Yukawa(1e29),
    "narrow": lambda: Gaussian(1e-29),
    "narrower": lambda: Gaussian(1e-200),
    "wide": lambda: Gaussian(1e29),
    "wider": lambda: Gaussian(1e200),
    "flat": lambda: InversePower(1e-9),
    "steep": lambda: InversePower(400),
    "stiff": lambda: Morse(1, 500.0, 3.0),
    "stiffer": lambda: Morse(1e30, 2.0, 300.0),
    "large atoms": lambda: LennardJones(1.0, 1e29),
    "deep": lambda: LennardJones(1e29, 1e3),
    "strong": lambda: Buckingham(1e90, 1e-5, 1e90),
    "stronger": lambda: 1e308 * Coulomb(),
    "thin shell": lambda: Shell(1e80, 1e-29, 5.0),
    "small shell": lambda: Shell(0.0, 1e29, 1e-3),
}


@pytest.mark.parametrize("make", ABSURD.values(), ids=ABSURD.keys())
@pytest.mark.parametrize("d", PBC)
def test_absurd_parameters_are_summed_or_refused_in_one_sentence(make, d):
    positions = np.array([[0.0, 0, 0], [1.3, 0.9, 1.4]])
    message = ""
    try:
        found = sums(positions, CELL, [make()], tolerance=1e-6, pbc=PBC[d])
    except LatticeSumsError as error:
        message = str(error)
    if message:
        assert " must " in message
    else:
        assert found.values.isfinite().all()
        assert (found.error_bound <= 1e-6).all()


def test_points_may_be_asked_of_plain_arrays():
    found = point_sums(Atoms([[0.0, 0, 0]], np.eye(3) * 3), np.full((1, 3), 1.5), ["pauli"])
    assert found.values.shape == (1, 1)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev, torch.vmap])
def test_transforms_of_torch_func_are_refused_in_one_sentence(transform):
    cell = torch.tensor(CELL)

    def total(x):
        return pair_sums(x, cell, ["coulomb"], tolerance=1e-6).values.sum()

    x = torch.zeros(1, 1, 3).double() if transform is torch.vmap else torch.zeros(1, 3).double()
    with pytest.raises(ConfigError, match=r"got those of a torch\.func transform"):
        transform(total)(x)
