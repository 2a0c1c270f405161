"""One crystal, however it is written down: cells, orientations, orders and files."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from fingerprints import fingerprint
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from vesin import NeighborList

from potnet import io
from potnet.crystal import MIN_DISTANCE, Crystal
from potnet.errors import StructureError

DATA = Path(__file__).parents[3] / "shared" / "data"


def rotation(rng: np.random.Generator) -> np.ndarray:
    """Return a random orthogonal matrix, proper or not."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def random_crystal(rng: np.random.Generator, n_atoms: int) -> Crystal:
    """Return a crystal without symmetry, of a few elements."""
    for _ in range(200):
        cell = rng.uniform(-1, 1, (3, 3)) + np.diag(rng.uniform(2.5, 5, 3))
        numbers = rng.choice([3, 8, 26], n_atoms)
        try:
            return Crystal(numbers, rng.uniform(0, 1, (n_atoms, 3)) @ cell, cell)
        except StructureError:
            continue
    raise RuntimeError("no room for the atoms")


def rewritten(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """Return the same crystal turned, shifted, reordered and with atoms in other cells."""
    order = rng.permutation(crystal.n_atoms)
    turn = rotation(rng)
    lattice = rng.integers(-3, 4, (crystal.n_atoms, 3)) @ crystal.cell
    positions = (crystal.positions + lattice + rng.normal(size=3))[order] @ turn
    return crystal.replace(
        numbers=crystal.numbers[order], positions=positions, cell=crystal.cell @ turn
    )


seeds = st.integers(0, 2**32 - 1)
matrices = st.lists(st.lists(st.integers(-2, 3), min_size=3, max_size=3), min_size=3, max_size=3)


@settings(max_examples=60)
@given(seeds, st.integers(1, 6), matrices)
@example(0, 1, [[0, 0, 3], [1, 0, 0], [0, -2, 0]])
@example(1, 2, [[5, 0, 0], [0, 5, 0], [0, 0, 5]])
def test_primitive_cell_of_any_supercell_is_the_crystal(seed, n_atoms, matrix):
    size = abs(round(np.linalg.det(matrix)))
    assume(1 <= size <= 125)
    rng = np.random.default_rng(seed)
    crystal = random_crystal(rng, n_atoms)
    large = rewritten(crystal.supercell(matrix), rng)
    assert large.n_atoms == size * n_atoms
    assert large.volume == pytest.approx(size * crystal.volume)
    found = large.primitive()
    assert found.n_atoms == n_atoms
    assert found.volume == pytest.approx(crystal.volume, rel=1e-10)
    np.testing.assert_allclose(fingerprint(found), fingerprint(crystal), rtol=0, atol=1e-8)


@settings(max_examples=30)
@given(seeds, st.integers(1, 4))
def test_primitive_cell_of_rounded_coordinates_does_not_depend_on_order_or_orientation(seed, n):
    """Copies that differ by noise are averaged; the first in the file has no say."""
    rng = np.random.default_rng(seed)
    large = random_crystal(rng, n).supercell((2, 3, 2))
    noisy = large.replace(positions=large.positions + rng.uniform(-2e-4, 2e-4, (len(large), 3)))
    first, second = noisy.primitive(), rewritten(noisy, rng).primitive()
    assert first.n_atoms == second.n_atoms == n
    np.testing.assert_allclose(fingerprint(first), fingerprint(second), rtol=0, atol=1e-8)


@settings(max_examples=30)
@given(seeds, st.integers(1, 6))
def test_supercell_does_not_change_what_an_atom_sees(seed, n_atoms):
    rng = np.random.default_rng(seed)
    crystal = random_crystal(rng, n_atoms)
    double = crystal.supercell([[1, 1, 0], [-1, 1, 0], [0, 1, 1]])
    expected = np.repeat(fingerprint(crystal), 2, axis=0)
    np.testing.assert_allclose(fingerprint(double), expected, rtol=0, atol=1e-8)


@settings(max_examples=100)
@given(seeds, st.integers(2, 5), st.sampled_from([0.3, 1.0, 3.0]), st.booleans())
def test_crystal_is_refused_exactly_when_two_images_are_too_close(seed, n_atoms, scale, many):
    """The neighbour list of an independent library is the judge, for flat and skewed cells."""
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * scale + np.diag(rng.uniform(0.5, 4, 3))
    assume(abs(np.linalg.det(cell)) > 0.5)
    positions = rng.uniform(-9, 9, (n_atoms, 3))
    if many:  # enough atoms for the cell list
        cell, grid = cell * 8, np.indices((8, 8, 8)).reshape(3, -1).T / 8
        positions = grid @ cell + rng.uniform(-0.3, 0.3, (512, 3))
    neighbours = NeighborList(cutoff=MIN_DISTANCE, full_list=True)
    i, j, r = neighbours.compute(positions, cell, True, "ijd")
    others = r[i != j]
    refusal = pytest.raises(StructureError, match="at least 0.5 Å") if len(r) else nullcontext()
    with refusal as caught:
        Crystal(np.full(len(positions), 6), positions, cell)
    if len(r) and "apart" in str(caught.value):
        assert f"got {round(float(others.min()), 6):g} Å" in str(caught.value)


def test_orbits_do_not_depend_on_the_order_of_the_atoms():
    rng = np.random.default_rng(5)
    perovskite = Crystal(
        [38, 22, 8, 8, 8],
        np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]) * 1.95,
        np.eye(3) * 3.9,
    )
    for matrix in (1, 2, (1, 2, 3)):
        crystal = rewritten(perovskite.supercell(matrix), rng)
        orbits = crystal.orbits()
        assert len(set(orbits)) == 3
        assert (crystal.numbers[orbits] == crystal.numbers).all()
        assert all(orbits[k] == k for k in set(orbits))


@pytest.mark.parametrize("suffix", ["cif", "vasp", "extxyz", "xsf", "json", "jsonl", "cif.gz"])
@settings(max_examples=15)
@given(seed=seeds, n_atoms=st.integers(1, 6))
def test_what_is_written_is_read_back(tmp_path, suffix, seed, n_atoms):
    crystal = random_crystal(np.random.default_rng(seed), n_atoms).replace(id="some")
    path = tmp_path / f"some.{suffix}"
    io.write(crystal, path)
    (found,) = io.read(path)
    assert found.id == "some"
    assert found.formula == crystal.formula
    np.testing.assert_allclose(fingerprint(found), fingerprint(crystal), rtol=0, atol=1e-10)
    if suffix in ("extxyz", "json", "jsonl"):
        np.testing.assert_array_equal(found.positions, crystal.positions)
        np.testing.assert_array_equal(found.cell, crystal.cell)


@settings(max_examples=60)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@pytest.mark.parametrize("name", ["x.cif", "POSCAR", "x.xyz", "x.xsf", "x.json", "x.jsonl"])
def test_no_bytes_make_a_reader_fail_in_any_other_way(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    for found in io.scan(path):
        assert found.stage == "read"
        assert found.reason


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_cif_is_read_or_refused(tmp_path, data):
    """Replace or remove pieces of a good file: a crystal or one sentence, nothing else."""
    text = (Path(__file__).parents[1] / "reference" / "quartz.cif").read_text()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text) - 1))
        stop = data.draw(st.integers(start, min(start + 30, len(text))))
        text = text[:start] + data.draw(st.text("0.?_'xyz-+/,\n 1e9#;", max_size=5)) + text[stop:]
    path = tmp_path / "quartz.cif"
    path.write_text(text)
    for found in io.scan(path):
        assert isinstance(found, Crystal) or found.reason.endswith(".")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the collection of datasets")
def test_real_crystals_keep_their_primitive_cell_in_other_writings():
    rng = np.random.default_rng(3)
    with gzip.open(DATA / "mp_elastic_2015.jsonl.gz", "rt") as file:
        records = [json.loads(line) for line in file][::40]
    for record in records:
        crystal = Crystal.from_any(record)
        first = crystal.primitive()
        second = rewritten(crystal.supercell((1, 2, 1)), rng).primitive()
        assert first.n_atoms == second.n_atoms
        np.testing.assert_allclose(fingerprint(first), fingerprint(second), rtol=0, atol=1e-7)
