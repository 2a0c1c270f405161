"""Known crystals are recognised however they are written down, others are not taken for them."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from ase import spacegroup
from hypothesis import given
from hypothesis import strategies as st
from salts import rock_salt

import potnet
from potnet import Crystal, StructureError
from potnet.crystal.layers import single_layer
from potnet.known import KnownCrystals, load_known
from potnet.known.chemistry import chemistry
from potnet.known.fingerprint import SIZE, fingerprint
from potnet.known.index import INDEX, composition

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = potnet.read(ROOT / "examples" / "crystals")


@given(seed=st.integers(0, 2**32 - 1), which=st.integers(0, len(EXAMPLES) - 1))
def test_a_fingerprint_knows_nothing_of_the_cell(seed: int, which: int) -> None:
    crystal = EXAMPLES[which]
    other = rewritten(crystal, np.random.default_rng(seed), 0.0)
    np.testing.assert_allclose(fingerprint(other), fingerprint(crystal), atol=1e-9)


def test_a_fingerprint_does_not_know_the_volume_but_the_places_of_elements() -> None:
    salt = rock_salt(11, 17, 2.82)
    np.testing.assert_allclose(fingerprint(rock_salt(11, 17, 2.5)), fingerprint(salt), atol=1e-9)
    swapped = Crystal(salt.numbers[[0, 0]], salt.positions, salt.cell)
    assert abs(fingerprint(swapped)[SIZE // 2 :] - fingerprint(salt)[SIZE // 2 :]).max() > 0.1
    np.testing.assert_allclose(fingerprint(swapped)[: SIZE // 2], fingerprint(salt)[: SIZE // 2])


def test_a_fingerprint_changes_little_when_atoms_move_little() -> None:
    rng = np.random.default_rng(0)
    for crystal in EXAMPLES:
        shaken = crystal.supercell(2)
        shaken = shaken.replace(
            positions=shaken.positions + 0.001 * rng.normal(size=(shaken.n_atoms, 3))
        )
        assert abs(fingerprint(shaken) - fingerprint(crystal)).max() < 0.01


def test_a_slab_without_periods_has_no_fingerprint() -> None:
    slab = rock_salt(11, 17, 2.82).replace(pbc=[True, True, False])
    with pytest.raises(StructureError, match="must be true in all three"):
        fingerprint(slab)


@pytest.mark.parametrize("crystal", EXAMPLES, ids=lambda c: c.id)
def test_the_example_crystals_are_known(crystal: Crystal) -> None:
    found = load_known().match(crystal)
    assert found
    assert found[0].distance == 0
    assert composition(crystal) == tuple(
        sorted((potnet.crystal.NUMBERS[s], n) for s, n in parts(found[0].formula).items())
    )


def parts(formula: str) -> dict[str, int]:
    from potnet.crystal.formula import parse_formula

    return {potnet.crystal.SYMBOLS[z]: int(n) for z, n in sorted(parse_formula(formula).items())}


def test_corundum_has_its_gap() -> None:
    corundum = next(c for c in EXAMPLES if c.formula == "Al2O3")
    found = load_known().match(corundum.primitive())[0]
    assert found.gap == pytest.approx(5.85, abs=0.01)
    assert not found.is_metal
    assert found.space_group == 167
    assert found.bulk_modulus == pytest.approx(232, abs=3)
    assert found.formation_energy == pytest.approx(-3.44, abs=0.02)


def test_other_structures_of_a_formula_and_stretched_cells_are_not_the_same() -> None:
    known = load_known()
    rutile = next(c for c in EXAMPLES if "rutile" in c.id)
    found = {k.space_group for k in known.match(rutile)}
    assert 136 in found
    diamond = next(c for c in EXAMPLES if "diamond" in c.id)
    assert {k.space_group for k in known.match(diamond)} == {227}
    assert known.match(rock_salt(11, 17, 2.82))
    assert not known.match(rock_salt(11, 17, 2.82 * 4 ** (1 / 3)))
    assert not known.match(rock_salt(11, 18, 2.82))


def tilted_perovskite(angle: float) -> Crystal:
    """Return strontium titanate in the cell of PBE, its octahedra turned by ``angle`` degrees."""
    shift, edge = math.tan(math.radians(angle)) / 4, 3.945
    atoms = spacegroup.crystal(
        ["Sr", "Ti", "O", "O"],
        [(0, 0.5, 0.25), (0, 0, 0), (0, 0, 0.25), (0.25 - shift, 0.75 - shift, 0)],
        spacegroup=140,
        cellpar=[edge * math.sqrt(2), edge * math.sqrt(2), 2 * edge, 90, 90, 90],
    )
    return Crystal.from_any(atoms)


def test_a_perovskite_with_tilted_octahedra_is_not_the_cubic_one() -> None:
    known = load_known()
    assert known.match(tilted_perovskite(0))[0].space_group == 221
    for angle in (2, 3, 5, 7):
        found = known.match(tilted_perovskite(angle))
        assert {k.space_group for k in found} == {140}


def test_a_cubic_perovskite_is_known_in_any_cell_and_with_noise() -> None:
    known, rng = load_known(), np.random.default_rng(0)
    cubic = next(c for c in EXAMPLES if "SrTiO3" in c.id)
    for noise in (0.0, 0.001, 0.005, 0.04):
        other = cubic.supercell([[1, 1, 0], [1, -1, 0], [0, 0, 2]])
        moved = other.positions + noise * rng.normal(size=(other.n_atoms, 3))
        found = [k.space_group for k in known.match(other.replace(positions=moved))]
        assert 221 in found
        assert found[0] == 221 or noise == 0.04  # as much as a tilt


def rewritten(crystal: Crystal, rng: np.random.Generator, noise: float) -> Crystal:
    """Return a crystal in another cell, orientation and order, with numerical noise, in Å."""
    matrix = rng.integers(-1, 2, (3, 3))
    while not 0 < abs(round(np.linalg.det(matrix))) <= 3:
        matrix = rng.integers(-1, 2, (3, 3))
    other = crystal.supercell(matrix)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(other.n_atoms)
    positions = other.positions + noise * rng.normal(size=(other.n_atoms, 3))
    return Crystal(
        other.numbers[order],
        ((positions + rng.normal(size=3)) @ rotation)[order],
        other.cell @ rotation,
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    which=st.integers(0, len(EXAMPLES) - 1),
    noise=st.sampled_from([0.0, 1e-6, 1e-3, 0.02]),
)
def test_the_same_crystal_is_known_however_it_is_written(
    seed: int, which: int, noise: float
) -> None:
    crystal, known = EXAMPLES[which], load_known()
    other = rewritten(crystal, np.random.default_rng(seed), noise)
    assert known.match(crystal)[0].id in {found.id for found in known.match(other)}


MEASURED_LAYERS = {
    "MoS2": (194, 3.16, 12.29, ["Mo", "S"], [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.621)]),
    "WSe2": (194, 3.282, 12.96, ["W", "Se"], [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.621)]),
    "C": (194, 2.46, 6.70, ["C", "C"], [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25)]),
    "BN": (194, 2.504, 6.66, ["B", "N"], [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.75)]),
    "SnS2": (164, 3.65, 5.90, ["Sn", "S"], [(0, 0, 0), (1 / 3, 2 / 3, 0.25)]),
    "CdI2": (164, 4.24, 6.84, ["Cd", "I"], [(0, 0, 0), (1 / 3, 2 / 3, 0.25)]),
}


@pytest.mark.parametrize("formula", MEASURED_LAYERS)
def test_measured_layers_are_known_though_those_of_pbe_are_farther_apart(formula: str) -> None:
    group, a, c, symbols, places = MEASURED_LAYERS[formula]
    atoms = spacegroup.crystal(symbols, places, spacegroup=group, cellpar=[a, a, c, 90, 90, 120])
    crystal, known = Crystal.from_any(atoms), load_known()
    found = known.match(crystal)
    assert found
    assert all(k.formula == formula and k.space_group == group for k in found)
    assert all(1.05 < k.stretch < 1.4 for k in found)
    other = rewritten(crystal, np.random.default_rng(0), 1e-6)
    assert [k.id for k in known.match(other)] == [k.id for k in found]


def test_a_single_layer_is_not_taken_for_the_crystal_of_many() -> None:
    group, a, c, symbols, places = MEASURED_LAYERS["MoS2"]
    atoms = spacegroup.crystal(symbols, places, spacegroup=group, cellpar=[a, a, c, 90, 90, 120])
    assert not load_known().match(single_layer(Crystal.from_any(atoms)))


def test_salts_are_near_salts() -> None:
    near = load_known().nearest(rock_salt(11, 17, 2.82))
    assert len(near) == 5
    assert near[0].formula == "NaCl"
    assert [k.distance for k in near] == sorted(k.distance for k in near)
    salts = {"Li", "Na", "K", "Rb", "Cs", "F", "Cl", "Br", "I"}
    assert all(parts(k.formula).keys() <= salts for k in near)


def test_an_index_is_saved_and_loaded(tmp_path: Path) -> None:
    names = ("space_group", "n_atoms", "is_metal")
    table = {name: np.array([k + 1 for k in range(len(EXAMPLES))]) for name in names}
    table |= {"is_metal": np.zeros(len(EXAMPLES), dtype=int)}
    table["id"] = np.array([-5, *range(1, len(EXAMPLES))])
    for name in ("gap", "formation_energy", "bulk_modulus", "shear_modulus"):
        table[name] = np.array([math.nan, *(0.1 * np.arange(1, len(EXAMPLES)))])
    table["volume"] = np.array([c.volume / c.n_atoms for c in EXAMPLES])
    table["print"] = np.array([fingerprint(c) for c in EXAMPLES])
    found = [composition(c) for c in EXAMPLES]
    table["sizes"] = np.array([len(c) for c in found])
    table["elements"] = np.array([z for c in found for z, _ in c])
    table["counts"] = np.array([n for c in found for _, n in c])
    KnownCrystals(table).save(tmp_path / "a.npz")
    loaded = KnownCrystals.load(tmp_path / "a.npz")
    for number, crystal in enumerate(EXAMPLES):
        (same,) = loaded.match(crystal.supercell([1, 2, 1]))
        assert same.id == ("matbench_mp_gap:5" if number == 0 else f"mp-{number}")
        assert same.gap == pytest.approx(0.1 * number, abs=1e-3) or number == 0
        assert math.isnan(same.gap) == (number == 0)
        assert same.volume == pytest.approx(crystal.volume / crystal.n_atoms, rel=2e-4)


def test_the_index_is_small_and_quick() -> None:
    assert INDEX.stat().st_size < 4e6
    known, salt = load_known(), rock_salt(11, 17, 2.82)
    known.nearest(salt)
    times = []
    for _ in range(10):
        start = time.process_time()
        known.match(salt)
        known.nearest(salt)
        times.append(time.process_time() - start)
    assert min(times) < 0.02


def test_chemistry_is_mean_and_spread_over_atoms() -> None:
    salt = chemistry(np.array([11, 17]), np.array([1, 1]), np.array([0]))[0]
    assert salt[:2].tolist() == [9.0, 3.0]
    assert salt[3:5].tolist() == [8.0, 0.0]
    many = chemistry(np.array([8, 13, 29]), np.array([3, 2, 4]), np.array([0, 2]))
    assert many[0, 0] == pytest.approx((3 * 16 + 2 * 13) / 5)
    assert many[1].tolist()[:2] == [11.0, 4.0]
