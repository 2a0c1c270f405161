"""The compiled sums against 30-digit references, the torch path and each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latticesums import differentiable
from latticesums.compiled import kernels, machine_code
from latticesums.compiled import sums as fast
from latticesums.compiled.support import supports
from latticesums.errors import ConfigError, StructureError
from latticesums.potentials import Coulomb, Exponential, InversePower, London, Pauli, Shell

SUMS = (Coulomb(), London(), Pauli())
SHELLS = tuple(Shell(0.5 * (s + 1), 0.5, 8.0) for s in range(16))
REFERENCES = Path(__file__).parent / "lattice_sums.json"
REFUSED = {1e-11: 3, 1e-12: 13}  # of 270 random cells: atoms almost touch, r^-6 is in the thousands


def batch(seed: int = 0, sizes=(1, 3, 6, 14), spread: float = 0.6):
    """Return positions, cells and counts of random crystals of about 20 Å^3 per atom."""
    rng = np.random.default_rng(seed)
    cells, positions = [], []
    for n in sizes:
        edge = (20.0 * n) ** (1 / 3)
        while True:
            cell = np.eye(3) * edge + rng.normal(size=(3, 3)) * spread
            fractions = rng.random((n, 3))
            d = fractions[:, None] - fractions[None]
            d = (d - np.round(d)) @ cell
            distances = np.linalg.norm(d, axis=2) + 9 * np.eye(n)
            if distances.min() > 1.0:
                break
        cells.append(cell)
        positions.append((fractions + rng.integers(-2, 3, (n, 3))) @ cell)
    return np.concatenate(positions), np.array(cells), np.array(sizes)


def summed_over_orbits(values, counts, orbits):
    """Return what orbit_sums must give, from all pairs."""
    parts, pair, atom = [], 0, 0
    for n in counts:
        labels = orbits[atom : atom + n]
        sums = values[pair : pair + n * n].reshape(n, n, -1)
        for a in range(labels.max() + 1):
            row = sums[np.argmax(labels == a)]
            parts.extend(row[labels == b].sum(0) for b in range(labels.max() + 1))
        pair, atom = pair + n * n, atom + n
    return np.array(parts)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12])
def test_true_error_is_below_the_bound_and_the_bound_below_the_tolerance(tolerance):
    refused = 0
    crystals = list(json.loads(REFERENCES.read_text())["cells"].values())
    assert len(crystals) == 279
    for crystal in crystals:
        positions = np.array(crystal["positions"], dtype=float)
        n = len(positions)
        cells = np.array([crystal["cell"]], dtype=float)
        try:
            values, bounds = fast.pair_sums(
                positions, cells, np.array([n]), SUMS, tolerance=tolerance
            )
        except ConfigError:
            refused += 1
            continue
        assert (bounds <= tolerance).all()
        for i, j, *expected in crystal["pairs"]:
            assert (np.abs(values[i * n + j] - expected) <= bounds[0]).all()
    assert refused <= REFUSED.get(tolerance, 0)


@pytest.mark.parametrize("sums", ["fast", "torch"])
def test_a_close_pair_far_away_keeps_its_digits(sums):
    # The input is exact in binary, so the answer is known: the same pair at the origin.
    cell = np.array([[4.0, 0, 0], [1, 4, 0], [-1, 2, 4]])
    near = np.array([[0, 0, 0], [0.375, 0, 0]])
    far = near + np.array([[0.0, 0, 0], [3, -5, 7]]) @ cell + 1024.25
    skewed = np.array([[1.0, 0, 0], [13, 1, 0], [-21, 8, 1]]) @ cell
    values = []
    for x, a in ((near, cell), (far, skewed)):
        if sums == "fast":
            found, bounds = fast.pair_sums(x, a[None], np.array([2]), SUMS, tolerance=1e-11)
        else:
            x, a = torch.tensor(x), torch.tensor(a[None])
            found, bounds = (
                v.numpy() for v in differentiable.evaluate(x, a, np.array([2]), SUMS, 1e-11)
            )
        assert (bounds <= 1e-11).all()
        values.append(found)
    assert np.abs(values[1] - values[0]).max() < 3e-12


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-8])
def test_agrees_with_the_torch_path(tolerance):
    positions, cells, counts = batch()
    potentials = (*SUMS, *(Exponential(a) for a in (0.05, 0.3, 1.0, 8.0)), *SHELLS[::3])
    values, bounds = fast.pair_sums(positions, cells, counts, potentials, tolerance=tolerance)
    expected, expected_bound = differentiable.evaluate(
        torch.tensor(positions), torch.tensor(cells), counts, potentials, 1e-10
    )
    error = np.abs(values - expected.numpy()).max(0)
    assert (error <= bounds.max(0) + expected_bound.numpy()).all()
    assert (bounds <= tolerance).all()


def test_slow_exponential_uses_few_images():
    # Alone it would take 800 Å, and more lattice vectors than are allowed.
    positions, cells, counts = batch(sizes=(6,))
    values, bounds = fast.pair_sums(positions, cells, counts, (Exponential(0.02),), tolerance=1e-6)
    expected, _ = differentiable.evaluate(
        torch.tensor(positions), torch.tensor(cells), counts, (Exponential(0.02),), 1e-9
    )
    assert np.abs(values - expected.numpy()).max() <= bounds.max() + 1e-9


def test_shells_equal_a_direct_sum():
    positions, cells, counts = batch(sizes=(3,))
    values, bounds = fast.pair_sums(positions, cells, counts, SHELLS, tolerance=1e-8)
    span = np.arange(-9, 10)
    images = np.stack(np.meshgrid(span, span, span, indexing="ij"), -1).reshape(-1, 3) @ cells[0]
    for i in range(3):
        for j in range(3):
            r = np.linalg.norm(positions[j] - positions[i] + images, axis=1)
            r = r[(r > 1e-6) & (r < 8.0)]
            for s, shell in enumerate(SHELLS):
                terms = np.exp(-(((r - shell.center) / shell.width) ** 2)) * (1 - r**2 / 64) ** 3
                assert abs(values[3 * i + j, s] - terms.sum()) < bounds[0, s]
    assert (bounds < 1e-11).all()


def test_shell_cut_below_the_nearest_atom_is_zero():
    positions, cells, counts = batch(sizes=(3,))
    values, _ = fast.pair_sums(positions, cells, counts, (Shell(0.5, 0.3, 0.9),), tolerance=1e-8)
    assert (values == 0).all()


def test_threads_give_the_same_bits():
    positions, cells, counts = batch(sizes=(1, 2, 3, 5, 8, 9, 4, 2, 7))
    one = fast.pair_sums(positions, cells, counts, (*SUMS, *SHELLS), tolerance=1e-6)
    for n_threads in (2, 3, 16):
        more = fast.pair_sums(
            positions, cells, counts, (*SUMS, *SHELLS), tolerance=1e-6, n_threads=n_threads
        )
        assert all((a == b).all() for a, b in zip(one, more, strict=True))


def test_a_crystal_gives_the_same_bits_alone_and_in_a_batch():
    positions, cells, counts = batch(sizes=(2, 9, 40, 5))
    together, _ = fast.pair_sums(positions, cells, counts, SUMS, tolerance=1e-8)
    atoms, pairs = np.cumsum([0, *counts]), np.cumsum([0, *counts**2])
    for c in range(len(counts)):
        alone, _ = fast.pair_sums(
            positions[atoms[c] : atoms[c + 1]], cells[c : c + 1], counts[c : c + 1], SUMS,
            tolerance=1e-8,
        )  # fmt: skip
        assert (alone == together[pairs[c] : pairs[c + 1]]).all()


@pytest.mark.parametrize("potentials", [SUMS, SHELLS, (*SUMS, *SHELLS), (Exponential(0.1),)])
def test_orbit_sums_are_pair_sums_added_up(potentials):
    positions, cells, counts = batch()
    orbits = np.array([0, 0, 1, 0, 0, 1, 1, 2, 0, 3, *np.minimum(np.arange(14), 5)])
    tolerance = 1e-8
    values, n_orbits = fast.orbit_sums(
        positions, cells, counts, orbits, potentials, tolerance=tolerance
    )
    pairs, _ = fast.pair_sums(positions, cells, counts, potentials, tolerance=tolerance)
    assert n_orbits.tolist() == [1, 2, 4, 6]
    expected = summed_over_orbits(pairs, counts, orbits)
    assert values.shape == expected.shape
    assert np.abs(values - expected).max() < 1e-12


def test_supports_what_it_sums():
    assert supports((*SUMS, Exponential(0.01), *SHELLS, InversePower(6)))
    assert not supports((Coulomb(), InversePower(4)))
    with pytest.raises(ConfigError, match="Coulomb, London, exponentials or shells"):
        fast.pair_sums(np.zeros((1, 3)), np.eye(3)[None], np.array([1]), (InversePower(4),),
                       tolerance=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positions": [[0, 0, 0], [3.0, 0, 0]]}, StructureError, "atoms 0 and 1 must be"),
        ({"positions": [[0, 0, 0], [0, 0, np.nan]]}, StructureError, "`positions` must be finite"),
        ({"positions": [[0, 0, 0]]}, ConfigError, "must have shapes"),
        ({"cells": np.full((1, 3, 3), np.inf)}, StructureError, "must hold finite numbers"),
        ({"cells": np.ones((1, 3, 3))}, StructureError, "three independent vectors"),
        ({"cells": np.diag([1e-7, 3, 3])[None]}, StructureError, "an atom and its images"),
        ({"cells": np.diag([1e-4, 1e4, 1e4])[None]}, StructureError, "at most"),
        ({"positions": [[0, 0, 0], [0, 0, 1e-4]]}, ConfigError, "`tolerance` must be one"),
        ({"tolerance": 1e-13}, ConfigError, "`tolerance` must lie between"),
        ({"tolerance": 1.0}, ConfigError, "`tolerance` must lie between"),
    ],
)
def test_what_cannot_be_summed_is_refused(change, error, message):
    given = {
        "positions": [[0, 0, 0], [1.5, 1.5, 1.5]], "cells": 3 * np.eye(3)[None], "tolerance": 1e-6
    } | change  # fmt: skip
    with pytest.raises(error, match=message):
        fast.pair_sums(
            np.array(given["positions"], dtype=float), given["cells"], np.array([2]), SUMS,
            tolerance=given["tolerance"],
        )  # fmt: skip


def test_coincident_atoms_are_named_wherever_they_are():
    positions, cells, counts = batch(sizes=(6, 14))
    positions[17] = positions[9] + cells[1, 0] - 2 * cells[1, 2] + 1e-9
    for potentials in (SUMS, SHELLS):
        with pytest.raises(StructureError, match="crystal 1: atoms 3 and 11"):
            fast.pair_sums(positions, cells, counts, potentials, tolerance=1e-6)


@pytest.mark.parametrize("orbits", [[0, 2], [1, 0], [0], [-1, 0]])
def test_labels_out_of_order_are_refused(orbits):
    positions, cells, counts = batch(sizes=(2,))
    with pytest.raises(ConfigError, match="`orbits` must"):
        fast.orbit_sums(positions, cells, counts, np.array(orbits), SUMS, tolerance=1e-6)


def test_importing_compiles_nothing():
    code = (
        "from latticesums.compiled import evaluate, images, lattice, plan, waves\n"
        "rooms = [vars(room).values() for room in (evaluate, images, lattice, plan, waves)]\n"
        "jitted = [f for room in rooms for f in room if hasattr(f, 'signatures')]\n"
        "assert len(jitted) > 10 and not any(f.signatures for f in jitted)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_changed_source_is_compiled_again(tmp_path, monkeypatch):
    # numba looks at the file of the function it stores only: the fingerprint covers the others.
    (tmp_path / "compiled").mkdir()
    names = ("compiled/jit.py", "compiled/room.py", "bounds.py", "lattice.py")
    for name in names:
        (tmp_path / name).write_text("")
    monkeypatch.setattr(kernels, "HERE", tmp_path / "compiled")
    found = {kernels.sources()}
    for name in names:
        (tmp_path / name).write_text("changed = True")
        found.add(kernels.sources())
    assert len(found) == 1 + len(names)
    for kernel in kernels.KERNELS.values():
        cells = kernel.python("fingerprint").__closure__ or ()
        assert [cell.cell_contents for cell in cells] == ["fingerprint"]


def test_what_is_shipped_was_made_of_these_sources():
    made = json.loads((machine_code.SHIPPED / "made.json").read_text())
    assert made["sources"] == kernels.sources(), "run scripts/make_kernels.py"
    assert {path.name for path in machine_code.SHIPPED.glob("*.xz")} == {
        f"{name}.bc.xz" for name in kernels.KERNELS
    }


def test_what_is_shipped_is_passed_over_where_it_does_not_fit(monkeypatch):
    for name, other in (("sources", lambda: "others"), ("FEATURES", ("no such feature",))):
        with monkeypatch.context() as changed:
            changed.setattr(machine_code, name, other)
            assert machine_code._shipped("evaluate") is None


@pytest.mark.skipif(
    machine_code._shipped("evaluate") is None, reason="nothing shipped for this machine"
)
def test_shipped_sums_need_neither_numba_nor_a_folder(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from latticesums import Atoms, lattice_sums\n"
        "found = lattice_sums(Atoms(np.zeros((1, 3)), 2 * np.eye(3)), tolerance=1e-10)\n"
        "print(found.values[0, 0, 0], 'numba' in sys.modules)\n"
    )
    (tmp_path / "no folder").write_text("")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "no folder")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    value, numba = done.stdout.split()
    assert abs(float(value) + 2.8372974794806 / 2) < 1e-10  # of a cubic lattice of charges
    assert numba == "False"


@pytest.mark.slow
def test_shipped_sums_are_those_of_numba_to_the_last_bit(monkeypatch):
    positions, cells, counts = batch()
    results = []
    for shipped in (machine_code._shipped, lambda name: None):
        machine_code.kernel.cache_clear()
        monkeypatch.setattr(machine_code, "_shipped", shipped)
        sums = fast.pair_sums(positions, cells, counts, (*SUMS, *SHELLS), tolerance=1e-9)
        near = fast.orbit_shells(
            positions, cells, counts, np.concatenate([np.arange(n) for n in counts]), SHELLS,
            degree=2,
        )  # fmt: skip
        results.append((*sums, *near))
    machine_code.kernel.cache_clear()
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_a_crystal_with_more_images_than_there_is_memory_kept_is_summed():
    cell = np.diag([2.0, 2.0, 900.0])
    found = fast.pair_sums(np.zeros((1, 3)), cell[None], np.array([1]), SUMS, tolerance=1e-9)[0]
    again = fast.pair_sums(np.zeros((1, 3)), cell[None], np.array([1]), SUMS, tolerance=1e-9)[0]
    assert np.array_equal(found, again)


def test_compiling_is_announced_once(caplog):
    from numba.core import event

    from latticesums.compiled import evaluate, jit

    data = {"dispatcher": jit.part(evaluate.kernel(""))}
    notice = jit._Notice()
    with caplog.at_level("INFO", logger="latticesums"):
        for _ in range(2):
            notice.on_start(event.Event("numba:compile", event.EventStatus.START, data))
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "Compiling the lattice sums for this machine"
    ]


SEARCH = """
import numba as nb, numpy as np
from latticesums.compiled import simd

@nb.njit
def run(atoms, basis, images, starts, slots, squares, codes, nearest, vectors, out):
    n = simd.gather(atoms, 8, 0, 0, 2, 0, basis, 5.0, images, 3, starts, 1.0, slots, 0, squares,
                    codes, nearest, vectors, 0)
    simd.polynomial(np.array([1.0, 2.0, 3.0]), 0, 2, squares, n, out)
    return n

atoms = np.zeros((9, 8))
atoms[3, 1] = 1.0  # 1 Å from the first atom, with images at 3 Å on both sides
images = np.array([[0.0, 3.0, -3.0], [0.0, 0, 0], [0.0, 0, 0]])
squares, out = np.zeros(96), np.zeros(96)
n = run(atoms, np.zeros((2, 3, 3)), images, np.full(simd.BINS, 3), np.zeros(8, np.int64), squares,
        np.zeros(96, np.int64), np.full(4, 1e18), np.zeros((3, 32)), out)
print(squares[:n].tolist(), out[:n].tolist())
"""


@pytest.mark.parametrize("typed", ["0", "1"])
def test_the_innermost_loops_are_written_for_pointers_with_and_without_a_type(typed):
    done = subprocess.run(
        [sys.executable, "-c", SEARCH],
        env={**os.environ, "LLVMLITE_ENABLE_IR_LAYER_TYPED_POINTERS": typed},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[1.0, 16.0, 4.0] [6.0, 801.0, 57.0]", done.stderr[-2000:]
