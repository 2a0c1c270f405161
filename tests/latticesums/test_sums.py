"""Input that cannot be summed is refused with one sentence; small parts do what they say."""

import math

import numpy as np
import pytest
import torch

from latticesums import (
    Atoms,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Pauli,
    Shell,
    Yukawa,
    differentiable,
    lattice_sums,
    pair_sums,
)
from latticesums.bounds import Lattice
from latticesums.errors import ConfigError, StructureError
from latticesums.lattice import gram_schmidt_lengths, reduce_cells
from latticesums.plan import make_plan
from latticesums.potentials.powers import exponential_integral, upper_gamma_bound

CELL = torch.eye(3, dtype=torch.float64) * 4
ATOMS = torch.tensor([[0.0, 0.0, 0.0], [1.5, 0.7, 2.2]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("positions", "cell", "error", "message"),
    [
        (ATOMS[:, :2], CELL, ConfigError, r"`positions` must have shape \(n_atoms, 3\)"),
        (ATOMS, CELL[:2], ConfigError, "`cell` must have shape"),
        (ATOMS, CELL.expand(2, 3, 3), ConfigError, "`graph_index` must be given for 2"),
        (ATOMS[:0], CELL, StructureError, "must hold at least one atom"),
        (ATOMS * math.nan, CELL, StructureError, "`positions` must be finite"),
        (ATOMS, CELL * math.inf, StructureError, "`cell` must hold finite numbers"),
        (ATOMS, CELL * 0, StructureError, "must hold three independent vectors"),
        (ATOMS, torch.ones(3, 3), StructureError, "must hold three independent vectors"),
        (ATOMS[:1], CELL * 1e-8, StructureError, "keep an atom and its images"),
        (ATOMS[[0, 1, 0]], CELL, StructureError, "atoms 0 and 2 must be 1e-06 Å apart"),
        (ATOMS[[0, 1, 1]] + CELL[[0, 1, 2]], CELL, StructureError, "atoms 1 and 2 must be"),
    ],
)
@pytest.mark.parametrize("path", ["torch", "any"])
def test_bad_structures_are_refused_by_name(positions, cell, error, message, path):
    positions = positions.clone().requires_grad_(path == "torch")
    with pytest.raises(error, match=message):
        pair_sums(positions, cell, ["coulomb", "pauli"])


@pytest.mark.parametrize("grad", [False, True])
def test_a_cell_too_small_for_a_cutoff_is_refused(grad):
    positions = ATOMS[:1].clone().requires_grad_(grad)
    with pytest.raises(StructureError, match="`cell` must need at most"):
        pair_sums(positions, CELL * 1e-2, [Shell(2, 1, 20)])


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([1, 0], "`graph_index` must be ascending, got 1 before 0"),
        ([0, 2], "must lie between 0 and 1"),
        ([-1, 0], "must lie between 0 and 1"),
        ([0, 1, 1], "one integer for each of the 2 atoms"),
        ([0.0, 1.0], "one integer for each of the 2 atoms"),
    ],
)
def test_bad_graph_index_is_refused(index, message):
    with pytest.raises(ConfigError, match=message):
        pair_sums(ATOMS, CELL.expand(2, 3, 3), graph_index=torch.tensor(index))


def test_a_crystal_without_atoms_is_named():
    index = torch.tensor([0, 2])
    with pytest.raises(StructureError, match="crystal 1: `positions` must hold at least one atom"):
        pair_sums(ATOMS, CELL.expand(3, 3, 3), graph_index=index)


@pytest.mark.parametrize("tolerance", [0.0, -1e-6, 1e-13, 0.5, math.nan])
def test_tolerances_out_of_range_are_refused(tolerance):
    for positions in (ATOMS, ATOMS.clone().requires_grad_()):
        with pytest.raises(ConfigError, match="`tolerance` must lie between 1e-12 and 0.01"):
            pair_sums(positions, CELL, tolerance=tolerance)


def test_a_tolerance_that_float64_cannot_keep_is_refused():
    close = torch.tensor([[0.0, 0, 0], [0.01, 0, 0]], dtype=torch.float64, requires_grad=True)
    with pytest.raises(ConfigError, match="`tolerance` must be at least .* for london"):
        pair_sums(close, CELL, ["london"], tolerance=1e-8)


@pytest.mark.parametrize("pbc", [True, [True, True, False], False])
def test_a_relative_error_is_refused_where_a_value_may_be_zero(pbc):
    zero = Coulomb() - Coulomb() * (1 + 1e-17)
    sums = pair_sums(ATOMS, CELL, [zero], tolerance=1e-6, relative=True, pbc=pbc)
    assert not sums.values.any()  # nothing is exactly nothing
    tuned = pair_sums(ATOMS, CELL, ["coulomb", "london"], tolerance=1e-12, pbc=pbc).values[1]
    crossing = Coulomb() - London() * float(tuned[0] / tuned[1])
    with pytest.raises(ConfigError, match="crystal 0: `tolerance` must .* of atoms 0 and 1, which"):
        pair_sums(ATOMS, CELL, [London(), crossing], tolerance=1e-6, relative=True, pbc=pbc)


def test_relative_tolerances_hold_in_batches_of_all_dimensions():
    index = torch.tensor([0, 0, 1, 1, 2, 2])
    pbc = [[True] * 3, [False] * 3, [True, False, True]]
    potentials = (London(), Pauli(), Coulomb() - 0.5 * London())
    x = ATOMS.repeat(3, 1).requires_grad_()
    cells = CELL.expand(3, 3, 3)
    loose = pair_sums(
        x, cells, potentials, tolerance=1e-5, relative=True, graph_index=index, pbc=pbc
    )
    tight = pair_sums(x, cells, potentials, tolerance=1e-12, graph_index=index, pbc=pbc)
    assert (loose.error_bound <= 1e-5).all()
    assert ((loose.values - tight.values).abs() <= 1e-5 * tight.values.abs() + 1e-12).all()
    assert loose.values.requires_grad


SINGLE = (Coulomb(), London(), Pauli(), Exponential(0.5), Yukawa(0.4), InversePower(2.5))
SINGLE += (Gaussian(0.7), Gaussian(4.0), Shell(2.0, 0.8, 5.0), LennardJones(0.1, 1.2))


@pytest.mark.parametrize("pbc", [True, [True, True, False]])
@pytest.mark.parametrize("relative", [False, True])
def test_single_precision_keeps_its_tolerance_with_derivatives(pbc, relative):
    x = ATOMS.clone().requires_grad_()
    tolerance = 1e-4
    low = pair_sums(
        x, CELL, SINGLE, dtype=torch.float32, tolerance=tolerance, relative=relative, pbc=pbc
    )
    high = pair_sums(x, CELL, SINGLE, tolerance=1e-10, pbc=pbc).values
    assert low.values.dtype == torch.float32
    assert (low.error_bound <= tolerance).all()
    error = (low.values - high).abs() / (high.abs() if relative else 1)
    assert (error.amax(0) <= low.error_bound).all()
    (found,) = torch.autograd.grad(low.values[1].sum(), x)
    (expected,) = torch.autograd.grad(high[1].sum(), x)
    assert (found - expected).abs().max() < 1e-3
    with torch.no_grad():  # the compiled sums, cast
        cast = pair_sums(ATOMS, CELL, ["coulomb"], dtype=torch.float32, tolerance=1e-5)
    assert cast.values.dtype == torch.float32


def test_what_single_precision_cannot_keep_is_refused():
    with pytest.raises(ConfigError, match="`tolerance` must be at least 1e-05 in float32"):
        pair_sums(ATOMS, CELL, dtype=torch.float32, tolerance=1e-6)
    with pytest.raises(ConfigError, match="`dtype` must be torch.float64 or torch.float32"):
        pair_sums(ATOMS, CELL, dtype=torch.float16, tolerance=1e-3)
    slow = InversePower(3.0001)  # its sums are large
    with pytest.raises(ConfigError, match="as large as .* to be kept in float32"):
        pair_sums(ATOMS, CELL, [slow], dtype=torch.float32, tolerance=1e-5)
    close = torch.tensor([[0.0, 0, 0], [0.4, 0, 0]], requires_grad=True)
    with pytest.raises(ConfigError, match="for london to be kept in float32.* or use float64"):
        pair_sums(close, CELL, ["london"], dtype=torch.float32, tolerance=1e-5)
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ConfigError, match='precision must be "highest"'):
            pair_sums(ATOMS, CELL, dtype=torch.float32, tolerance=1e-4)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_mixed_precision_of_a_network_does_not_reach_the_sums():
    x = ATOMS.clone().requires_grad_()
    plain = pair_sums(x, CELL, dtype=torch.float32, tolerance=1e-4).values
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = pair_sums(x, CELL, dtype=torch.float32, tolerance=1e-4).values
    assert torch.equal(plain, within)


def test_unknown_potentials_are_refused():
    with pytest.raises(ConfigError, match="got 'gravity'"):
        pair_sums(ATOMS, CELL, ["gravity"])
    with pytest.raises(ConfigError, match="must hold at least one potential"):
        pair_sums(ATOMS, CELL, [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: pair_sums(ATOMS, CELL, [InversePower(3)]),
            "must not be 3, where the sum .* has a",
        ),
        (lambda: InversePower(0), "`exponent` must be a number larger than 0"),
        (lambda: InversePower(math.nan), "`exponent` must be a finite number"),
        (lambda: InversePower(torch.tensor(4.0)), "no derivative with respect to it"),
        (lambda: Exponential(-1), "`rate` must be a number larger than 0"),
        (lambda: Yukawa(0), "`rate` must be a number larger than 0"),
        (lambda: Shell(-1, 1, 5), "`center` must be"),
        (lambda: Shell(1, 0, 5), "`width` must be"),
        (lambda: Shell(1, 1, math.inf), "`cutoff` must be"),
    ],
)
def test_potentials_check_their_numbers(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_potentials_compare_by_value():
    assert Coulomb() == Coulomb()
    assert InversePower(4) == InversePower(4.0)
    assert Shell(1, 2, 3) != Shell(1, 2, 4)
    assert len({London(), London(), Pauli()}) == 2


def test_no_crystal_gives_no_pair():
    none = torch.zeros(0, dtype=torch.long)
    sums = pair_sums(ATOMS[:0], CELL.expand(0, 3, 3), graph_index=none)
    assert sums.values.shape == (0, 3)
    assert sums.i.shape == sums.j.shape == (0,)


def test_single_precision_input_is_summed_in_double_precision():
    sums = pair_sums(ATOMS.float(), CELL.float(), tolerance=1e-10)
    assert sums.values.dtype == torch.float64
    expected = pair_sums(ATOMS.float().double(), CELL, tolerance=1e-10)
    assert torch.equal(sums.values, expected.values)


def test_both_paths_agree():
    potentials = (Coulomb(), London(), Pauli(), Shell(2, 0.5, 6))
    quick = pair_sums(ATOMS, CELL, potentials, tolerance=1e-9)
    slow = pair_sums(ATOMS.clone().requires_grad_(), CELL, potentials, tolerance=1e-9)
    assert not quick.values.requires_grad
    assert slow.values.requires_grad
    assert (quick.values - slow.values).abs().max() < 2e-9


def test_lattice_sums_of_a_crystal_are_matrices():
    crystal = Atoms(ATOMS.numpy(), CELL.numpy())
    sums = lattice_sums(crystal, ("coulomb", Shell(2, 0.5, 6)))
    assert sums.values.shape == (2, 2, 2)
    assert sums.potentials == ("coulomb", "shell(2, 0.5, 6)")
    assert (sums.error_bound <= 1e-8).all()
    expected = pair_sums(ATOMS, CELL, ("coulomb", Shell(2, 0.5, 6))).values
    assert np.array_equal(sums.values.reshape(4, 2), expected.numpy())


def test_reduction_finds_the_short_basis_of_a_skewed_cell():
    rng = np.random.default_rng(0)
    short = np.eye(3) * [2.0, 3.0, 4.0]
    skewed = []
    for _ in range(50):
        matrix = np.eye(3)
        for _ in range(8):
            i, j = rng.choice(3, 2, replace=False)
            matrix[i] += rng.integers(-5, 6) * matrix[j]
        skewed.append(matrix @ short)
    transform, basis = reduce_cells(np.array(skewed))
    assert np.array_equal(transform, np.rint(transform))
    assert np.allclose(np.abs(np.linalg.det(transform)), 1)
    assert np.allclose(np.linalg.norm(basis, axis=2), [2, 3, 4], atol=1e-7)


def test_lattice_points_are_counted_from_both_sides():
    rng = np.random.default_rng(1)
    _, basis = reduce_cells(rng.normal(size=(1, 3, 3)) * 2)
    lattice = Lattice.from_lengths(gram_schmidt_lengths(basis))
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3), -1).reshape(-1, 3) @ basis[0]
    for radius in (0.5, 2.0, 5.0):
        for shift in rng.normal(size=(20, 3)):
            count = (np.linalg.norm(grid + shift, axis=1) <= radius).sum()
            r = np.array([radius])
            assert lattice.least(r)[0] <= count <= lattice.most(r)[0]


@pytest.mark.parametrize("s", [-4.5, -1.5, 0.0, 0.5, 1.0, 2.5, 6.0])
def test_gamma_bounds_are_close_from_above(s):
    mp = pytest.importorskip("mpmath")
    for y in (7.0, 14.0, 30.0):
        exact = float(mp.gammainc(s, y))
        bound = float(upper_gamma_bound(s, np.array(y)))
        assert exact <= bound < 4 * exact


def test_the_exponential_integral_has_full_precision():
    mp = pytest.importorskip("mpmath")
    y = torch.logspace(-6, 2, 60, dtype=torch.float64)
    expected = [float(mp.e1(x)) for x in y.tolist()]
    assert exponential_integral(y).tolist() == pytest.approx(expected, rel=1e-13)
    assert torch.autograd.gradcheck(exponential_integral, (y[20:40].requires_grad_(),))


def test_a_plan_balances_both_halves_and_keeps_the_tolerance():
    cells = np.eye(3)[None] * np.array([3.0, 8.0, 20.0])[:, None, None]
    plan = make_plan(cells, np.array([2, 30, 300]), (Coulomb(), London()), 1e-8)
    assert (plan.truncation <= 0.99e-8).all()
    assert (plan.truncation > 1e-10).any(0).all()  # no more work than needed
    assert (np.diff(plan.radius) > 0).all()


def test_the_working_memory_of_a_chunk_is_limited(monkeypatch):
    sizes = []
    gather = differentiable._Chunk.gather

    def record(*args):
        chunk = gather(*args)
        sizes.append(len(chunk.graphs) * chunk.n_pairs)
        return chunk

    monkeypatch.setattr(differentiable, "CHUNK", 3000)
    monkeypatch.setattr(differentiable._Chunk, "gather", staticmethod(record))
    x = ATOMS.repeat(64, 1)
    differentiable.evaluate(x, CELL.repeat(64, 1, 1), np.full(64, 2), (Coulomb(),), 1e-6)
    assert len(sizes) > 1
    assert sum(sizes) == 128


def test_arrays_may_be_read_only_in_another_order_or_lists():
    positions = np.array([[0.1, 0.2, 0.3], [1.9, 0.1, 2.5], [0.4, 2.2, 1.9]])
    cell = np.array([[4.1, 0.3, 0.2], [-1.1, 4.9, 0.4], [0.6, -1.7, 5.3]])
    expected = lattice_sums(Atoms(positions, cell))
    frozen, turned = positions.copy(), np.asfortranarray(positions)
    frozen.setflags(write=False)
    wide = np.concatenate([positions, positions], 1)[:, :3]
    for given in (frozen, turned, wide, positions.tolist()):
        for box in (cell, cell.tolist(), np.asfortranarray(cell)):
            found = lattice_sums(Atoms(given, box))
            np.testing.assert_array_equal(found.values, expected.values)
            np.testing.assert_array_equal(found.error_bound, expected.error_bound)


def test_a_refused_crystal_leaves_nothing_to_the_next():
    good, bad = Atoms(ATOMS.numpy(), CELL.numpy()), Atoms(ATOMS.numpy() * 0, CELL.numpy())
    expected = lattice_sums(good).values
    for _ in range(2):
        with pytest.raises(StructureError, match="atoms 0 and 1"):
            lattice_sums(bad)
        np.testing.assert_array_equal(lattice_sums(good).values, expected)
