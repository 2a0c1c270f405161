"""Energies of charges: against sums of pairs, published constants, and derivatives."""

import numpy as np
import pytest
import torch

from latticesums import COULOMB_CONSTANT, ConfigError, StructureError, energies, energy, pair_sums

CELL = np.array([[4.1, 0.3, 0.2], [0.1, 4.3, 0.7], [0.2, 0.3, 3.9]])
ATOMS = np.array([[0.0, 0, 0], [2.0, 1.9, 1.8], [0.4, 2.2, 1.1], [-5.0, 6.1, 9.9]])
CHARGES = np.array([1.0, -2.0, 0.5, 0.5])


def by_pairs(cell, atoms, charges, potential="coulomb", **settings):
    s = pair_sums(
        torch.tensor(atoms), torch.tensor(cell), [potential], tolerance=1e-11, **settings
    ).values.view(len(atoms), -1)
    q = torch.tensor(np.asarray(charges, float))
    return 0.5 * q @ s @ q, s @ q


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
@pytest.mark.parametrize("potential", ["coulomb", "london", "inverse-power:4", "yukawa:0.3"])
def test_energies_are_those_of_the_pairs(potential, tolerance):
    expected, sites = by_pairs(CELL, ATOMS, CHARGES, potential)
    found = energy(ATOMS, CELL, CHARGES, potential=potential, tolerance=tolerance)
    assert abs(found.energy.item() - expected.item()) <= found.error_bound.item() <= tolerance
    assert (found.potentials - sites).abs().max() <= tolerance


@pytest.mark.parametrize("pbc", [(True, True, False), (True, False, False), (False,) * 3])
def test_slabs_wires_and_clusters_have_energies_too(pbc):
    expected, _ = by_pairs(CELL, ATOMS, CHARGES, pbc=pbc)
    found = energy(ATOMS, CELL, CHARGES, pbc=pbc)
    assert abs(found.energy.item() - expected.item()) <= found.error_bound.item() <= 1e-6
    assert found.stress is None
    assert found.forces.sum(0).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("cell", "second", "charge", "madelung"),
    [
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [1, 1, 1], 1.0, 1.747564594633182),
        (np.eye(3) * 2 / 3**0.5, [3**-0.5] * 3, 1.0, 1.762674773070988),
        (
            np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2 / 3**0.5,
            [3**-0.5] * 3,
            1.0,
            1.638055053388790,
        ),
    ],
    ids=["rock salt", "caesium chloride", "zinc blende"],
)
def test_madelung_constants_are_the_published_ones(cell, second, charge, madelung):
    found = energy([[0.0, 0, 0], second], cell, [charge, -charge], tolerance=1e-10)
    assert found.energy.item() == pytest.approx(-madelung, abs=1e-10)


def test_forces_and_stress_are_derivatives_and_differentiable():
    x = torch.tensor(ATOMS, requires_grad=True)
    a, q = torch.tensor(CELL, requires_grad=True), torch.tensor(CHARGES, requires_grad=True)

    def function(x, a, q):
        return energy(x, a, q, tolerance=1e-8, charged="background").energy

    assert torch.autograd.gradcheck(function, (x, a, q), atol=1e-5, fast_mode=True)
    found = energy(x, a, q, tolerance=1e-8)
    (slope,) = torch.autograd.grad(found.energy, x, retain_graph=True)
    assert (found.forces + slope).abs().max() < 1e-10
    torch.autograd.grad((found.forces**2).sum(), x)
    step, strain = 1e-4, np.diag([0.3, -0.2, 0.5]) + 0.1
    up, down = (
        energy(ATOMS @ (np.eye(3) + s * strain), CELL @ (np.eye(3) + s * strain), CHARGES,
               tolerance=1e-9).energy.item()
        for s in (step, -step)
    )  # fmt: skip
    volume = abs(np.linalg.det(CELL))
    expected = (found.stress[0].detach().numpy() * strain).sum() * volume
    assert (up - down) / (2 * step) == pytest.approx(expected, abs=1e-5)


def test_a_batch_is_the_crystals_one_by_one():
    index = np.array([0] * 4 + [1] * 2)
    atoms = np.vstack([ATOMS, ATOMS[:2]])
    charges = np.concatenate([CHARGES, [1, -1]])
    both = energy(atoms, np.stack([CELL, 2 * CELL]), charges, graph_index=index)
    first, second = energy(ATOMS, CELL, CHARGES), energy(ATOMS[:2], 2 * CELL, [1, -1])
    assert both.energy.tolist() == [first.energy.item(), second.energy.item()]
    assert torch.equal(both.forces, torch.cat([first.forces, second.forces]))
    assert both.stress.shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"charges": [1.0, 1.0]}, ConfigError, "^crystal 1: `charges` must add up to 0, got 2"),
        ({"charges": [np.nan, 1.0]}, ConfigError, "^crystal 1: `charges` must be one finite"),
        ({"positions": np.full((2, 3), np.nan)}, StructureError, "^crystal 1: `positions` must be"),
        ({"positions": np.zeros((2, 3))}, StructureError, "^crystal 1: atoms 0 and 1 must be"),
        ({"cell": np.zeros((3, 3))}, StructureError, "^crystal 1: `cell` must"),
    ],
)
def test_a_bad_crystal_of_a_batch_is_named_and_the_others_have_energies(change, error, message):
    bad = {"positions": ATOMS[:2], "cell": CELL, "charges": [1.0, -1.0]} | change
    batch = {
        "positions": np.concatenate([ATOMS, bad["positions"], ATOMS[:2]]),
        "cell": np.stack([CELL, bad["cell"], 2 * CELL]),
        "charges": np.concatenate([CHARGES, bad["charges"], [1, -1]]),
        "graph_index": np.array([0] * 4 + [1, 1, 2, 2]),
    }
    found = energy(**batch, on_error="skip")
    assert found.failures.keys() == {1}
    with pytest.raises(error, match=message):
        raise found.failures[1]
    with pytest.raises(error, match=message):
        energy(**batch)
    first, last = energy(ATOMS, CELL, CHARGES), energy(ATOMS[:2], 2 * CELL, [1, -1])
    for name in ("energy", "potentials", "forces", "stress", "error_bound"):
        part, one, other = (getattr(result, name) for result in (found, first, last))
        assert torch.equal(part[: len(one)], one)
        assert torch.equal(part[-len(other) :], other)
        assert part[len(one) : -len(other)].isnan().all()


def test_charged_crystals_are_refused_or_neutralised():
    charges = [1.0, -2.0, 0.5, 0.6]
    with pytest.raises(ConfigError, match=r"^crystal 0: `charges` must add up to 0, got 0\.1"):
        energy(ATOMS, CELL, charges)
    expected, _ = by_pairs(CELL, ATOMS, charges)
    found = energy(ATOMS, CELL, charges, charged="background")
    assert abs(found.energy.item() - expected.item()) <= found.error_bound.item()


def test_a_sphere_in_vacuum_costs_the_field_of_its_dipole():
    inside = energy(ATOMS, CELL, CHARGES, tolerance=1e-8)
    outside = energy(ATOMS, CELL, CHARGES, tolerance=1e-8, boundary="vacuum")
    dipole = CHARGES @ ATOMS
    expected = 2 * np.pi / 3 * (dipole @ dipole) / abs(np.linalg.det(CELL))
    assert (outside.energy - inside.energy).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"charges": [1.0]}, ConfigError, "`charges` must be one finite number for each of 4"),
        ({"charges": CHARGES * np.nan}, ConfigError, "`charges` must be one finite number"),
        ({"boundary": "air"}, ConfigError, "`boundary` must be tin-foil or vacuum"),
        ({"on_error": "ignore"}, ConfigError, "`on_error` must be raise or skip"),
        ({"boundary": "vacuum", "pbc": False}, ConfigError, "unless all directions repeat"),
        ({"boundary": "vacuum", "potential": "london"}, ConfigError, "must be tin-foil for london"),
        ({"positions": np.zeros((4, 3))}, StructureError, "^crystal 0: atoms 0 and 1 must be"),
        ({"charges": CHARGES * 1e9}, ConfigError, "^crystal 0: `tolerance` must be at least"),
    ],
)  # fmt: skip
def test_what_has_no_energy_is_refused(change, error, message):
    given = {"positions": ATOMS, "cell": CELL, "charges": CHARGES} | change
    with pytest.raises(error, match=message):
        energy(**given)


def test_energies_agree_with_pymatgen():
    pytest.importorskip("pymatgen.analysis.ewald")
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Lattice, Structure

    structure = Structure(Lattice(CELL), ["Na", "Cl", "K", "Li"], ATOMS, coords_are_cartesian=True)
    structure.add_site_property("charge", CHARGES.tolist())
    structure.add_oxidation_state_by_site(CHARGES.tolist())
    expected = EwaldSummation(structure, acc_factor=12).total_energy
    found = energy(ATOMS, CELL, CHARGES, tolerance=1e-9).energy.item() * COULOMB_CONSTANT
    assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    ("potential", "boundary"),
    [
        ("coulomb", "tin-foil"),
        ("coulomb", "vacuum"),
        ("london", "tin-foil"),
        ("yukawa:0.4", "tin-foil"),
        ("gaussian:3", "tin-foil"),
        ("gaussian:0.5", "tin-foil"),
        ("inverse-power:4", "tin-foil"),
        ("exponential:6", "tin-foil"),
    ],
)
def test_derivatives_by_formula_are_those_by_autograd(potential, boundary):
    settings = {"potential": potential, "boundary": boundary, "tolerance": 1e-6}
    plain = energy(ATOMS, CELL, CHARGES, **settings)
    x, a, q = (torch.tensor(v, dtype=torch.float64) for v in (ATOMS, CELL, CHARGES))
    with_tape = energy(x.requires_grad_(), a, q, **settings)
    for name in ("energy", "potentials", "forces", "stress"):
        found, expected = getattr(plain, name), getattr(with_tape, name).detach()
        assert not found.requires_grad
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
    assert torch.equal(plain.error_bound, with_tape.error_bound)


def test_energies_of_atoms_that_move_in_a_cell_are_those_of_a_new_call():
    energy(ATOMS, CELL, CHARGES)
    moved = np.asarray(ATOMS) + 0.01 * np.arange(3)
    again = energy(moved, CELL, CHARGES, tolerance=1e-9).energy
    energies._planned.cache_clear()
    assert torch.equal(energy(moved, CELL, CHARGES, tolerance=1e-9).energy, again)
