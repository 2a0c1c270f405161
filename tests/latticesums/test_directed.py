"""Sums with a direction, against sums of terms, derivatives of plain sums and each other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from latticesums import (
    Coulomb,
    Exponential,
    Gaussian,
    InversePower,
    London,
    Pauli,
    Shell,
    Yukawa,
    directed_sums,
    pair_sums,
)
from latticesums.compiled import sums as fast
from latticesums.errors import ConfigError, StructureError
from latticesums.shells import directed_shells

SHELLS = (Shell(1.0, 0.5, 5.0), Shell(2.5, 0.4, 5.0), Shell(3.0, 1.0, 6.0))
FAR = (Coulomb(), London(), Pauli(), Yukawa(0.7))
REFERENCES = Path(__file__).parent / "lattice_sums.json"
CELL = np.array([[4.1, 0.2, -0.3], [-1.5, 4.6, 0.4], [0.5, 1.1, 5.0]])
POSITIONS = np.array([[0.1, 0.2, 0.3], [1.9, 2.2, 2.6], [3.0, -1.2, 9.5]])
ROOT = np.sqrt(3)


def harmonics(r, degree):
    """Return the harmonics of one degree of unit vectors, shape (..., 2 degree + 1)."""
    x, y, z = np.moveaxis(r / np.linalg.norm(r, axis=-1, keepdims=True), -1, 0)
    if degree == 0:
        return np.ones_like(x)[..., None]
    if degree == 1:
        return np.stack([x, y, z], -1)
    last = ROOT / 2 * (x * x - y * y)
    return np.stack([ROOT * x * y, ROOT * y * z, 1.5 * z * z - 0.5, ROOT * x * z, last], -1)


def images(reach=9):
    """Return all vectors from atoms i to images of atoms j, shape (n_images, n, n, 3)."""
    span = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(span, span, span, indexing="ij"), -1).reshape(-1, 3) @ CELL
    return steps[:, None, None] + POSITIONS[None, None] - POSITIONS[None, :, None]


def added(radial, degree):
    """Return the sums of radial(r) Y over the images, shape (n * n, 2 degree + 1)."""
    r = images()
    length = np.linalg.norm(r, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = radial(length)[..., None] * harmonics(r, degree)
    terms[length < 1e-6] = 0
    return terms.sum(0).reshape(9, -1)


def tensors(values):
    """Return components of degree 2 as traceless symmetric matrices, shape (..., 3, 3)."""
    xy, yz, zz, xz, square = np.moveaxis(np.asarray(values), -1, 0)
    xy, yz, xz, square, zz = xy / ROOT, yz / ROOT, xz / ROOT, 2 * square / ROOT, zz * 2 / 3
    rows = [[(square - zz) / 2, xy, xz], [xy, (-square - zz) / 2, yz], [xz, yz, zz]]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def directed(positions, cell, degree, potentials=(*SHELLS, *FAR), tolerance=1e-9):
    x, a = torch.as_tensor(positions), torch.as_tensor(cell)
    return directed_sums(x, a, potentials, degree=degree, tolerance=tolerance)


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_compiled_shells_equal_the_sum_of_their_terms(degree):
    orbits = np.arange(3)
    values, n_orbits = fast.orbit_shells(
        POSITIONS, CELL[None], np.array([3]), orbits, SHELLS, degree=degree
    )
    assert n_orbits.tolist() == [3]
    for k, shell in enumerate(SHELLS):

        def radial(r, s=shell):
            edge = np.maximum(1 - (r / s.cutoff) ** 2, 0) ** 3
            return np.exp(-(((r - s.center) / s.width) ** 2)) * edge

        for d in range(degree + 1):
            found = values[:, d * d : (d + 1) ** 2, k]
            assert np.abs(found - added(radial, d)).max() < 1e-13


def test_shells_of_orbits_are_shells_of_pairs_added_up():
    rng = np.random.default_rng(3)
    counts = np.array([4, 1, 6])
    cells = np.stack([CELL, 0.8 * CELL, CELL * [1, 1, 6]])  # the last one is ten times as long
    positions = np.concatenate(
        [rng.random((n, 3)) @ cell for n, cell in zip(counts, cells, strict=True)]
    )
    orbits = np.array([0, 1, 0, 1, 0, 0, 1, 1, 2, 0, 2])
    found, n_orbits = fast.orbit_shells(positions, cells, counts, orbits, SHELLS, degree=2)
    alone = np.concatenate([np.arange(n) for n in counts])
    pairs, _ = fast.orbit_shells(positions, cells, counts, alone, SHELLS, degree=2)
    assert n_orbits.tolist() == [2, 1, 3]
    expected, pair, atom = [], 0, 0
    for n in counts:
        labels, block = orbits[atom : atom + n], pairs[pair : pair + n * n].reshape(n, n, 9, 3)
        for a in range(labels.max() + 1):
            row = block[np.argmax(labels == a)]
            expected.extend(row[labels == b].sum(0) for b in range(labels.max() + 1))
        pair, atom = pair + n * n, atom + n
    assert np.abs(found - np.array(expected)).max() < 1e-12
    threaded, _ = fast.orbit_shells(positions, cells, counts, orbits, SHELLS, degree=2, n_threads=2)
    assert (threaded == found).all()


def test_torch_shells_are_the_compiled_ones():
    compiled, _ = fast.orbit_shells(
        POSITIONS, CELL[None], np.array([3]), np.arange(3), SHELLS, degree=2
    )
    x, a = torch.tensor(POSITIONS), torch.tensor(CELL)
    assert np.abs(directed_shells(x, a, SHELLS, degree=2).numpy() - compiled).max() < 1e-12
    for degree in (1, 2):
        part = compiled[:, degree**2 : (degree + 1) ** 2].transpose(0, 2, 1)
        found = directed(POSITIONS, CELL, degree, SHELLS)
        assert (np.abs(found.values.numpy() - part).max((0, 2)) <= found.error_bound.numpy()).all()


@pytest.mark.parametrize("a", [1.2, 3.0])
def test_split_exponential_equals_the_sum_of_its_terms(a):
    first = directed(POSITIONS, CELL, 1, (Exponential(a),))
    expected = added(lambda r: -a * np.exp(-a * r), 1)
    assert np.abs(first.values[:, 0].numpy() - expected).max() <= first.error_bound[0] + 1e-12
    second = directed(POSITIONS, CELL, 2, (Exponential(a),))
    expected = added(lambda r: a * (a + 1 / r) * np.exp(-a * r), 2)
    assert np.abs(second.values[:, 0].numpy() - expected).max() <= second.error_bound[0] + 1e-12


def test_far_sums_are_the_gradient_and_the_hessian_of_plain_sums():
    x, a = torch.tensor(POSITIONS), torch.tensor(CELL)
    first, second = (directed(POSITIONS, CELL, degree, FAR).values for degree in (1, 2))
    for p, potential in enumerate(FAR):
        for i, j in ((0, 1), (2, 0)):

            def value(r, i=i, j=j, potential=potential):
                moved = torch.cat([x[:j], r[None], x[j + 1 :]])
                sums = pair_sums(moved, a, [potential], tolerance=1e-11)
                return sums.values[3 * i + j, 0]

            gradient = torch.autograd.functional.jacobian(value, x[j])
            assert torch.allclose(first[3 * i + j, p], gradient, rtol=0, atol=2e-9)
            hessian = torch.autograd.functional.hessian(value, x[j])
            hessian -= torch.eye(3, dtype=torch.float64) * hessian.trace() / 3
            assert np.abs(tensors(second[3 * i + j, p]) - hessian.numpy()).max() < 5e-9


@pytest.mark.parametrize("degree", [1, 2])
def test_error_is_below_the_bound_and_the_bound_below_the_tolerance(degree):
    cells = json.loads(REFERENCES.read_text())["cells"]
    chosen = [c for c in cells.values() if len(c["positions"]) <= 4][::32]
    assert len(chosen) > 3
    for crystal in chosen:
        x, a = np.array(crystal["positions"], float), np.array(crystal["cell"], float)
        rough = directed(x, a, degree, FAR, tolerance=1e-4)
        fine = directed(x, a, degree, FAR, tolerance=1e-7)
        assert (rough.error_bound <= 1e-4).all()
        assert (fine.error_bound <= 1e-7).all()
        error = (rough.values - fine.values).abs().amax((0, 2))
        assert (error <= rough.error_bound + fine.error_bound).all()


def test_sums_turn_with_the_crystal():
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))  # may be a reflection
    moved = (POSITIONS + np.array([[1, -2, 0], [0, 0, 3], [2, 2, -1]]) @ CELL) @ turn.T
    skew = np.array([[1, 0, 0], [2, 1, 0], [-3, 1, -1]]) @ CELL @ turn.T
    first, turned = (directed(*c, 1).values.numpy() for c in ((POSITIONS, CELL), (moved, skew)))
    assert np.abs(turned - first @ turn.T).max() < 3e-9
    first, turned = (directed(*c, 2).values for c in ((POSITIONS, CELL), (moved, skew)))
    assert np.abs(tensors(turned) - turn @ tensors(first) @ turn.T).max() < 5e-9


@pytest.mark.parametrize("degree", [1, 2])
def test_copies_in_a_supercell_add_up(degree):
    double = np.diag([1, 2, 1]) @ CELL
    both = np.concatenate([POSITIONS, POSITIONS + CELL[1]])
    whole = directed(both, double, degree).values.view(6, 6, 7, -1)[:3]
    small = directed(POSITIONS, CELL, degree).values.view(3, 3, 7, -1)
    assert torch.allclose(whole[:, :3] + whole[:, 3:], small, rtol=0, atol=4e-9)


@pytest.mark.parametrize("degree", [1, 2])
def test_derivatives_pass_gradcheck(degree):
    x = torch.tensor(POSITIONS[:2], requires_grad=True)
    a = torch.tensor(CELL, requires_grad=True)

    def values(x, a):
        potentials = (SHELLS[1], Coulomb(), London(), Pauli())
        return directed(x, a, degree, potentials, tolerance=1e-8).values

    assert torch.autograd.gradcheck(values, (x, a), eps=1e-5, atol=1e-4, fast_mode=True)


def test_batch_is_its_crystals_one_by_one():
    x, index = torch.tensor(np.tile(POSITIONS, (2, 1))), torch.tensor([0, 0, 0, 1, 1, 1])
    a = torch.tensor(np.stack([CELL, 1.1 * CELL]))
    both = directed_sums(x, a, ["coulomb"], degree=1, graph_index=index)
    assert both.i.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    alone = directed_sums(x[:3], a[1], ["coulomb"], degree=1)
    assert (both.values[9:] == alone.values).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"degree": 3}, ConfigError, "`degree` must be 1 or 2"),
        ({"tolerance": 1e-20}, ConfigError, "`tolerance` must lie between"),
        ({"potentials": [InversePower(40)]}, ConfigError, "must be shells or have a Fourier"),
        ({"cell": torch.ones(3, 3)}, StructureError, "crystal 0: `cell` must hold three"),
        ({"positions": torch.zeros(2, 3)}, StructureError, "crystal 0: atoms 0 and 1 must be"),
        ({"positions": torch.full((2, 3), torch.nan)}, StructureError, "must be finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_summed_is_refused(change, error, message):
    arguments = {
        "positions": torch.tensor(POSITIONS), "cell": torch.tensor(CELL), "potentials": ["coulomb"],
        "degree": 1,
    } | change  # fmt: skip
    with pytest.raises(error, match=message):
        directed_sums(**arguments)


def test_compiled_degree_is_checked():
    with pytest.raises(ConfigError, match="`degree` must be 0, 1 or 2"):
        fast.orbit_shells(POSITIONS, CELL[None], np.array([3]), np.arange(3), SHELLS, degree=3)


@pytest.mark.parametrize("width", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("degree", [1, 2])
def test_gaussians_have_a_direction_too(width, degree):
    cell = torch.diag(torch.tensor([3.0, 3.2, 3.4], dtype=torch.float64))
    x = torch.tensor([[0.0, 0, 0], [1.1, 1.2, 1.3]], dtype=torch.float64)
    found = directed_sums(x, cell, [Gaussian(width)], degree=degree, tolerance=1e-9)
    images = torch.cartesian_prod(*[torch.arange(-9.0, 10)] * 3).double() @ cell + x[1]
    r2 = (images**2).sum(1)
    value = (-r2 / width**2).exp()
    if degree == 1:
        expected = (-2 / width**2 * value[:, None] * images).sum(0)
        known = [-0.0277724736017117890, -0.0316875919214812910, -0.0355896089036534986]
        if width == 1.0:
            assert expected.tolist() == pytest.approx(known, abs=1e-13)
    else:
        x0, y, z = images.T
        root = 3**0.5
        parts = (root * x0 * y, root * y * z, z * z - (x0 * x0 + y * y) / 2, root * x0 * z)
        harmonics = torch.stack([*parts, root / 2 * (x0 * x0 - y * y)], 1)
        expected = (4 / width**4 * value[:, None] * harmonics).sum(0)
    assert (found.values[1, 0] - expected).abs().max() <= found.error_bound[0]
    assert (found.error_bound <= 1e-9).all()


def test_combinations_have_the_directions_of_their_terms():
    x, cell = torch.tensor(POSITIONS), torch.tensor(CELL)
    terms = directed_sums(x, cell, ["coulomb", "london", SHELLS[0]], degree=1)
    both = directed_sums(x, cell, [2 * Coulomb() - London(), 3 * SHELLS[0]], degree=1)
    a, b, c = terms.values.unbind(1)
    assert (both.values[:, 0] - (2 * a - b)).abs().max() < 6e-8
    assert (both.values[:, 1] - 3 * c).abs().max() < 1e-12
    assert (both.error_bound <= 1e-8).all()
