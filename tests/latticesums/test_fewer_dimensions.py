"""Slabs, wires and clusters: what must not matter does not, limits and derivatives are right."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latticesums import (
    Atoms,
    Buckingham,
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    LennardJones,
    London,
    Morse,
    Pauli,
    Potential,
    Shell,
    Yukawa,
    differentiable,
    lattice_sums,
    pair_sums,
    point_sums,
)
from latticesums.errors import ConfigError, StructureError

POTENTIALS = (
    Coulomb(),
    London(),
    Pauli(),
    Exponential(0.3),
    InversePower(2),
    InversePower(0.7),
    InversePower(2.6),
    Yukawa(0.4),
    Shell(2.0, 0.8, 5.0),
)
COMPOSED = (
    Gaussian(1.5),
    LennardJones(0.1, 2.0),
    Morse(0.5, 1.2, 2.0),
    Buckingham(1000.0, 3.0, 20.0),
    2 * Coulomb() - London(),
)
TOLERANCE = 1e-9
NEAR = 2.5 * TOLERANCE
SLAB, WIRE, CLUSTER = (True, True, False), (True, False, False), (False, False, False)
EVERY = pytest.mark.parametrize("pbc", [SLAB, WIRE, CLUSTER], ids=["slab", "wire", "cluster"])

seeds = st.integers(0, 10**6)


def structure(seed: int, n_atoms: int = 3):
    """Return a cell that is not too flat, and atoms at least 1 Å apart with all their images."""
    rng = np.random.default_rng(seed)
    images = np.array(list(np.ndindex(5, 5, 5))) - 2
    while True:
        cell = rng.normal(size=(3, 3)) * rng.uniform(2, 5, (3, 1)) * n_atoms ** (1 / 3)
        positions = rng.normal(size=(n_atoms, 3)) * 2 * n_atoms ** (1 / 3)
        offsets = positions[:, None] - positions - (images @ cell)[:, None, None]
        r = np.sort(np.linalg.norm(offsets, axis=-1).ravel())
        if r[n_atoms] > 1 and abs(np.linalg.det(cell)) > 12 * n_atoms:
            return cell, positions


def evaluate(cell, positions, pbc, potentials=POTENTIALS, tolerance=TOLERANCE):
    sums = pair_sums(
        torch.tensor(positions), torch.tensor(cell), potentials, tolerance=tolerance, pbc=pbc
    )
    assert (sums.error_bound <= tolerance).all()
    return sums.values.view(len(positions), len(positions), -1).numpy()


@EVERY
@settings(max_examples=5)
@given(seeds)
def test_what_lies_across_the_lattice_does_not_matter(pbc, seed):
    cell, positions = structure(seed)
    other = cell.copy()
    other[~np.array(pbc)] = np.random.default_rng(seed).normal(size=(3 - sum(pbc), 3)) * 1e3
    assert np.array_equal(evaluate(cell, positions, pbc), evaluate(other, positions, pbc))


@EVERY
@settings(max_examples=5)
@given(seeds)
def test_the_order_of_the_directions_does_not_matter(pbc, seed):
    cell, positions = structure(seed)
    order = np.random.default_rng(seed).permutation(3)
    found = evaluate(cell[order], positions, np.array(pbc)[order])
    assert np.abs(found - evaluate(cell, positions, pbc)).max() < NEAR


@EVERY
@settings(max_examples=5)
@given(seeds)
def test_rotation_reflection_and_translation_do_not_matter(pbc, seed):
    cell, positions = structure(seed)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    moved = positions @ turn + rng.normal(size=3) * 20
    found = evaluate(cell @ turn, moved, pbc)
    assert np.abs(found - evaluate(cell, positions, pbc)).max() < NEAR


@settings(max_examples=5)
@given(seeds, st.sampled_from([SLAB, WIRE]))
def test_the_basis_and_the_images_of_the_atoms_do_not_matter(seed, pbc):
    cell, positions = structure(seed)
    rng = np.random.default_rng(seed)
    other, d = cell.copy(), sum(pbc)
    other[0] *= rng.choice([-1, 1])
    if d == 2:
        other[1] += rng.integers(-7, 8) * other[0]
        other[0] += rng.integers(-3, 4) * other[1]
    shifts = rng.integers(-4, 5, (3, d)) @ cell[:d]
    found = evaluate(other, positions + shifts, pbc)
    assert np.abs(found - evaluate(cell, positions, pbc)).max() < NEAR


@EVERY
@settings(max_examples=5)
@given(seeds)
def test_sums_are_symmetric_and_own_sums_are_equal(pbc, seed):
    values = evaluate(*structure(seed, 4), pbc)
    assert np.abs(values - values.transpose(1, 0, 2)).max() < 1e-12
    own = values[np.arange(4), np.arange(4)]
    assert np.abs(own - own[0]).max() < 1e-12


@settings(max_examples=5)
@given(seeds, st.sampled_from([SLAB, WIRE]))
def test_a_supercell_splits_each_sum(seed, pbc):
    cell, positions = structure(seed, 2)
    repeats = np.random.default_rng(seed).integers(1, 4, 3) * pbc + np.logical_not(pbc)
    images = np.array(list(np.ndindex(*repeats))) @ cell
    many = (positions[:, None] + images[None]).reshape(-1, 3)
    large = evaluate(cell * repeats[:, None], many, pbc)
    together = large.reshape(2, len(images), 2, len(images), -1)[:, 0].sum(2)
    assert np.abs(together - evaluate(cell, positions, pbc)).max() < NEAR * len(images)


def test_a_cluster_has_plain_sums():
    _, positions = structure(4, 5)
    values = evaluate(np.zeros((3, 3)), positions, CLUSTER)
    r = np.linalg.norm(positions[:, None] - positions, axis=2) + np.eye(5)
    plain = (1 / r, r**-6.0, np.exp(-3 * r), np.exp(-0.3 * r), r**-2, r**-0.7, r**-2.6)
    shell = np.exp(-(((r - 2) / 0.8) ** 2)) * np.clip(1 - r**2 / 25, 0, 1) ** 3
    plain = (*plain, np.exp(-0.4 * r) / r, shell)
    expected = np.stack(plain, -1) * (1 - np.eye(5))[:, :, None]
    assert np.abs(values - expected).max() < 1e-14


def coulomb(cell, positions, pbc):
    return evaluate(cell, positions, pbc, (Coulomb(),), 1e-11)[..., 0]


def test_a_slab_is_the_limit_of_crystals_with_much_vacuum():
    """Planes of charge and background: 2 pi / A (z^2 / c + c / 6) is all that a period c adds."""
    cell, positions = structure(12)
    normal = np.cross(cell[0], cell[1])
    area = np.linalg.norm(normal)
    z = (positions[:, None] - positions) @ (normal / area)
    for period in (60.0, 90.0):
        crystal = np.vstack([cell[:2], period * normal / area])
        expected = coulomb(cell, positions, SLAB) + 2 * np.pi / area * (z**2 / period + period / 6)
        assert np.abs(coulomb(crystal, positions, (True,) * 3) - expected).max() < 3e-11
        # so neutral slabs differ by the energy of the planes of dipoles alone
        charges = np.array([1.0, 1.0, -2.0])
        moment = charges @ positions @ (normal / area)
        slab, full = (
            0.5 * charges @ coulomb(c, positions, p) @ charges
            for c, p in ((cell, SLAB), (crystal, (True,) * 3))
        )
        assert full - slab == pytest.approx(-2 * np.pi * moment**2 / (area * period), abs=1e-9)


def test_a_wire_is_the_limit_of_slabs_of_distant_rows():
    """Lines at distance (y, z): rows of period b make the logarithm periodic in y."""
    a, positions = 3.3, np.array([[0.1, 0.2, 0.3], [1.2, 1.9, -0.8], [2.2, -1.1, 0.4]])
    y, z = (positions[:, None, k] - positions[:, k] for k in (1, 2))
    near = np.where(np.eye(3), 1, y**2 + z**2)
    for b in (25.0, 40.0):
        slab = coulomb(np.diag([a, b, 1.0]), positions, SLAB)
        wire = coulomb(np.diag([a, 1.0, 1.0]), positions, WIRE)
        rows = 2 * (np.cosh(2 * np.pi * z / b) - np.cos(2 * np.pi * y / b))
        rows = np.where(np.eye(3), (2 * np.pi / b) ** 2, rows)
        assert np.abs(slab - wire + np.log(4 * rows / near) / a).max() < 3e-11


def test_a_cluster_is_the_limit_of_wires_of_distant_images():
    _, positions = structure(7)
    charges = np.array([1.0, -2.0, 1.0])
    for length in (200.0, 2000.0):
        wire = coulomb(np.diag([length, 1.0, 1.0]), positions, WIRE)
        cluster = coulomb(np.eye(3), positions, CLUSTER)
        constant = 2 * (np.euler_gamma - np.log(length)) / length
        reach = np.abs(positions[:, None] - positions).max()
        assert np.abs(wire - cluster - constant).max() < 8 * reach**2 / length**3
        assert abs(charges @ (wire - cluster) @ charges) < 60 * reach**2 / length**3


def test_a_wire_of_charges_is_the_sum_without_its_logarithm():
    a, h = 2.5, 1.3
    values = coulomb(np.diag([a, 9, 9]), np.array([[0, 0, 0], [0.7, h, 0]]), WIRE)
    n = 200_000
    for k, x in enumerate((0.0, 0.7)):
        images = x + a * np.arange(-n, n + 1)
        r = np.hypot(images, h * k)
        # the ends of the sum lie half a period beyond the last images
        plain = (1 / r[r > 0]).sum() - 2 / a * np.log(a * (n + 0.5))
        assert values[0, k] == pytest.approx(plain, abs=1e-9)


def test_madelung_constants_of_rows_and_squares():
    for pbc, constant in ((WIRE, 2 * np.log(2)), (SLAB, 1.6155426267128247)):
        d = sum(pbc)
        sites = np.array(list(np.ndindex(*([2] * d + [1] * (3 - d)))), dtype=float)
        charges = (-1.0) ** sites.sum(1)
        values = evaluate(2 * np.eye(3), sites, pbc, (Coulomb(),), 1e-12)[..., 0]
        assert -charges[0] * (values[0] @ charges) == pytest.approx(constant, abs=2e-12)


def test_crystals_of_all_kinds_share_a_batch():
    kinds = [
        SLAB,
        (True,) * 3,
        CLUSTER,
        WIRE,
        (False, True, True),
        (True,) * 3,
        (False, True, False),
    ]
    parts = [structure(seed, n) for seed, n in enumerate((3, 2, 5, 1, 4, 3, 2))]
    n_atoms = [len(x) for _, x in parts]
    index = torch.repeat_interleave(torch.arange(7), torch.tensor(n_atoms))
    positions = torch.tensor(np.concatenate([x for _, x in parts]), requires_grad=True)
    cells = torch.tensor(np.stack([c for c, _ in parts]), requires_grad=True)
    potentials = POTENTIALS[:4]
    sums = pair_sums(
        positions,
        cells,
        potentials,
        tolerance=TOLERANCE,
        graph_index=index,
        pbc=torch.tensor(kinds),
    )
    single = [
        evaluate(c, x, p, potentials).reshape(-1, 4) for (c, x), p in zip(parts, kinds, strict=True)
    ]
    assert np.abs(sums.values.detach().numpy() - np.concatenate(single)).max() < NEAR
    _, slope = torch.autograd.grad(sums.values.sum(), (positions, cells))
    assert not slope[~torch.tensor(kinds)].any()
    assert slope[torch.tensor(kinds)].any(1).all()


def test_errors_of_a_mixed_batch_name_the_crystal():
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=torch.float64)
    cells = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1) * 4
    kinds = np.array([(True,) * 3, CLUSTER])
    index = torch.tensor([0, 1, 1])
    with pytest.raises(StructureError, match="crystal 1: atoms 0 and 1 must be"):
        pair_sums(positions, cells, graph_index=index, pbc=kinds)


@pytest.mark.parametrize("pbc", [[True, False], [1, 1, 0], "yes", np.ones((2, 3), bool)])
def test_other_forms_of_pbc_are_refused(pbc):
    one = torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="`pbc` must be one bool, three, or three for each of"):
        pair_sums(one, torch.eye(3) * 4, pbc=pbc)


@pytest.mark.parametrize("pbc", [SLAB, WIRE], ids=["slab", "wire"])
def test_bad_vectors_are_refused_where_they_repeat(pbc):
    one = torch.zeros(1, 3)
    for value, message in ((np.nan, "hold"), (np.inf, "hold"), (0.0, "hold"), (1e-8, "keep")):
        cell = torch.eye(3) * value
        with pytest.raises(StructureError, match=f"`cell` must {message}"):
            pair_sums(one, cell, pbc=pbc)
        assert pair_sums(one, cell, pbc=CLUSTER).values.eq(0).all()


def test_vectors_of_a_slab_must_be_independent():
    one, cell = torch.zeros(1, 3), torch.tensor([[4.0, 0, 0], [8, 0, 0], [0, 0, 4]])
    with pytest.raises(StructureError, match="must hold two independent periodic vectors"):
        pair_sums(one, cell, pbc=SLAB)
    assert pair_sums(one, cell, pbc=(True, False, True)).values.isfinite().all()


def test_potentials_at_points_follow_the_crystal():
    cell, positions = structure(3)
    points = positions.mean(0) + np.array([[0, 0, 0], [0.3, -0.2, 6.0], [4.0, 1.0, -9.0]])
    for pbc in (SLAB, WIRE, CLUSTER):
        found = point_sums(Atoms(positions, cell, pbc), points, tolerance=1e-8)
        for point, values in zip(points, found.values, strict=True):
            one = evaluate(cell, np.vstack([positions, point]), pbc, (Coulomb(), London(), Pauli()))
            assert np.abs(one[3, :3].sum(0) - values).max() < 1e-8 + 3 * TOLERANCE


def test_a_potential_without_a_bound_is_refused():
    class Unbounded(Potential):
        name = "unbounded"

        def value(self, r2):
            return r2**-0.5

    with pytest.raises(ConfigError, match="unbounded: its sum over a slab or a wire must have a"):
        evaluate(*structure(3), WIRE, (Unbounded(),))


def test_lattice_sums_follow_the_crystal():
    cell, positions = structure(3)
    for pbc in (SLAB, WIRE, CLUSTER):
        found = lattice_sums(Atoms(positions, cell, pbc), tolerance=TOLERANCE)
        expected = evaluate(cell, positions, pbc, (Coulomb(), London(), Pauli()))
        assert np.array_equal(found.values, expected)


@pytest.mark.parametrize("pbc", [SLAB, (False, True, False), CLUSTER], ids=str)
@pytest.mark.parametrize("potential", [*POTENTIALS, *COMPOSED], ids=lambda p: p.name)
def test_first_and_second_derivatives_are_right(potential, pbc):
    cell, positions = structure(11, 2)

    def function(x, c):
        return pair_sums(x, c, (potential,), tolerance=1e-10, pbc=pbc).values[:2, 0]

    inputs = (torch.tensor(positions, requires_grad=True), torch.tensor(cell, requires_grad=True))
    assert torch.autograd.gradcheck(function, inputs, atol=2e-6)
    assert torch.autograd.gradgradcheck(function, inputs, atol=2e-5, fast_mode=True)


@pytest.mark.parametrize("pbc", [SLAB, WIRE], ids=["slab", "wire"])
def test_derivatives_by_the_parameters_of_split_potentials_are_right(pbc):
    cell, positions = (torch.tensor(a) for a in structure(11, 2))
    numbers = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.15, 0.2, 1.3)]

    def function(rate, screening, factor):
        potential = Exponential(rate) + factor * Yukawa(screening) - 2 * Coulomb()
        return pair_sums(positions, cell, [potential], tolerance=1e-10, pbc=pbc).values[:2]

    assert torch.autograd.gradcheck(function, numbers, atol=1e-6)
    assert torch.autograd.gradgradcheck(function, numbers, atol=1e-5, fast_mode=True)


def test_derivatives_are_right_where_all_atoms_lie_in_the_plane():
    cell = torch.tensor([[2.5, 0, 0], [-1.25, 2.2, 0], [0, 0, 9]], dtype=torch.float64)
    flat = torch.tensor([[0.0, 0, 0], [1.25, 0.7, 0]], dtype=torch.float64, requires_grad=True)
    for pbc in (SLAB, (True, False, False)):

        def function(x, pbc=pbc):
            return pair_sums(x, cell, POTENTIALS[:6], tolerance=1e-10, pbc=pbc).values[1:2]

        assert torch.autograd.gradcheck(function, (flat,), atol=2e-6)
        assert torch.autograd.gradgradcheck(function, (flat,), atol=2e-5, fast_mode=True)


def test_little_memory_gives_the_same_numbers(monkeypatch):
    cell, positions = structure(3, 12)
    for pbc in (SLAB, WIRE):
        expected = evaluate(cell, positions, pbc)
        with monkeypatch.context() as patch:
            patch.setattr(differentiable, "CHUNK", 500)
            assert np.abs(evaluate(cell, positions, pbc) - expected).max() < 1e-12
