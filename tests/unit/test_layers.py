"""Layers, chains, molecules and networks are told apart, however the cell is written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import potnet
from potnet import Crystal, StructureError
from potnet.crystal.layers import bonding, single_layer, spacing, stretched

ROOT = Path(__file__).resolve().parents[2]


def hexagonal(
    a: float, c: float, species: list[int], scaled: list[list[float]], id: str
) -> Crystal:
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    return Crystal(species, np.array(scaled) @ cell, cell, id=id)


THIRD, TWO = 1 / 3, 2 / 3
GRAPHITE = hexagonal(
    2.464, 6.711, [6] * 4,
    [[0, 0, 0.25], [0, 0, 0.75], [THIRD, TWO, 0.25], [TWO, THIRD, 0.75]], "graphite",
)  # fmt: skip
BORON_NITRIDE = hexagonal(
    2.504, 6.656, [5, 5, 7, 7],
    [[THIRD, TWO, 0.25], [TWO, THIRD, 0.75], [TWO, THIRD, 0.25], [THIRD, TWO, 0.75]], "h-BN",
)  # fmt: skip
MOLYBDENITE = hexagonal(
    3.160, 12.294, [42, 42, 16, 16, 16, 16],
    [[THIRD, TWO, 0.25], [TWO, THIRD, 0.75], [THIRD, TWO, 0.621], [TWO, THIRD, 0.121],
     [TWO, THIRD, 0.379], [THIRD, TWO, 0.879]], "MoS2",
)  # fmt: skip
BISMUTH_TELLURIDE = hexagonal(
    4.386, 30.497, [83] * 6 + [52] * 9,
    [[x, y, (z + s) % 1] for s in (0.4, -0.4) for x, y, z in
     ((0, 0, 0), (TWO, THIRD, THIRD), (THIRD, TWO, TWO))]
    + [[x, y, (z + s) % 1] for s in (0, 0.2095, -0.2095) for x, y, z in
       ((0, 0, 0), (TWO, THIRD, THIRD), (THIRD, TWO, TWO))], "Bi2Te3",
)  # fmt: skip
SELENIUM = hexagonal(
    4.366, 4.954, [34] * 3,
    [[0.225, 0, THIRD], [0, 0.225, TWO], [0.775, 0.775, 0]], "selenium",
)  # fmt: skip
ZINC = hexagonal(2.665, 4.947, [30, 30], [[THIRD, TWO, 0.25], [TWO, THIRD, 0.75]], "zinc")
CAESIUM_CHLORIDE = Crystal([55, 17], [[0, 0, 0], [2.06, 2.06, 2.06]], 4.12 * np.eye(3), id="CsCl")
SODIUM = Crystal([11, 11], [[0, 0, 0], [2.1453] * 3], 4.2906 * np.eye(3), id="sodium")


def dry_ice() -> Crystal:
    """Return solid CO2 (Pa-3): molecules along the diagonals."""
    a, x = 5.624, 0.1185
    centres = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    axes = np.array([[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]])
    scaled = np.concatenate([centres, centres + x * axes, centres - x * axes])
    return Crystal([6] * 4 + [8] * 8, a * scaled, a * np.eye(3), id="CO2")


KINDS = [
    (GRAPHITE, (2,)),
    (BORON_NITRIDE, (2,)),
    (MOLYBDENITE, (2,)),
    (BISMUTH_TELLURIDE, (2,)),
    (SELENIUM, (1,)),
    (dry_ice(), (0,)),
    (ZINC, (3,)),
    (CAESIUM_CHLORIDE, (3,)),
    (SODIUM, (3,)),
    *((crystal, (3,)) for crystal in potnet.read(ROOT / "examples" / "crystals")),
]


@pytest.mark.parametrize(("crystal", "kind"), KINDS, ids=lambda x: getattr(x, "id", ""))
def test_textbook_crystals_are_what_chemists_call_them(
    crystal: Crystal, kind: tuple[int, ...]
) -> None:
    assert bonding(crystal).dimensions == kind


@pytest.mark.parametrize(("crystal", "kind"), KINDS, ids=lambda x: getattr(x, "id", ""))
def test_the_answer_is_that_of_ase(crystal: Crystal, kind: tuple[int, ...]) -> None:
    from ase.geometry.dimensionality import analyze_dimensionality

    best = analyze_dimensionality(crystal.to_ase(), method="RDA", merge=True)[0]
    ours = bonding(crystal)
    assert "".join(map(str, ours.dimensions)) + "D" == best.dimtype
    # Beyond two sums of radii nothing counts here, which is 0.022 of the score.
    assert ours.score == pytest.approx(best.score, abs=0.03)


@given(seed=st.integers(0, 2**32 - 1), which=st.sampled_from(range(6)))
def test_the_answer_does_not_depend_on_the_writing_of_the_cell(seed: int, which: int) -> None:
    crystal, kind = KINDS[which]
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-2, 3, (3, 3))
    while not 0 < abs(round(np.linalg.det(matrix))) <= 6:
        matrix = rng.integers(-2, 3, (3, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    other = crystal.supercell(matrix)
    shift = rng.integers(-2, 3, (other.n_atoms, 3)) @ other.cell + rng.normal(size=3)
    order = rng.permutation(other.n_atoms)
    other = Crystal(
        other.numbers[order], ((other.positions + shift) @ rotation)[order], other.cell @ rotation
    )
    found = bonding(other)
    assert found.dimensions == kind
    assert found.score == pytest.approx(bonding(crystal).score, abs=1e-4)


def test_molecules_between_layers_are_both() -> None:
    a = 2.464 * 2
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 7.0]])
    half = [[u / 2, v / 2, 0] for u in (0, 1) for v in (0, 1)]
    sheet = [[x + d, y + e, 0] for x, y, _ in half for d, e in ((0, 0), (THIRD / 2, TWO / 2))]
    nitrogen = [[2.0, 2.0, 3.5], [3.1, 2.0, 3.5]]
    crystal = Crystal([6] * 8 + [7] * 2, [*(np.array(sheet) @ cell), *nitrogen], cell)
    assert bonding(crystal).dimensions == (0, 2)
    assert not bonding(crystal).is_layered


def test_a_direction_without_repetition_carries_no_bonds() -> None:
    chain = Crystal([6], [[0, 0, 0]], np.diag([1.4, 2.5, 1.4]), pbc=[True, False, False])
    assert bonding(chain).dimensions == (1,)


@pytest.mark.parametrize(
    ("crystal", "n_atoms"),
    [(GRAPHITE, 2), (BORON_NITRIDE, 2), (MOLYBDENITE, 3), (BISMUTH_TELLURIDE, 5)],
    ids=lambda x: getattr(x, "id", ""),
)
def test_a_single_layer_is_one_layer_with_vacuum(crystal: Crystal, n_atoms: int) -> None:
    layer = single_layer(crystal.supercell([[2, 1, 0], [0, 1, 0], [0, 0, 2]]), vacuum=17.0)
    layer = layer.primitive()
    assert layer.n_atoms == n_atoms
    assert layer.formula == crystal.formula
    assert bonding(layer).dimensions == (2,)
    area = np.linalg.norm(np.cross(*crystal.cell[:2]))
    height = layer.volume / area
    thickness = {2: 0.0, 3: 3.17, 5: 7.55}[n_atoms]
    assert height - 17 == pytest.approx(thickness, abs=0.2)


def test_what_has_no_layers_has_no_single_layer() -> None:
    with pytest.raises(StructureError, match="must consist of layers, got parts that go on in 3"):
        single_layer(CAESIUM_CHLORIDE)


@given(seed=st.integers(0, 2**32 - 1), vacuum=st.sampled_from([7.0, 20.0]))
def test_the_space_between_layers_does_not_depend_on_the_cell(seed: int, vacuum: float) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-1, 2, (3, 3))
    while not 0 < abs(round(np.linalg.det(matrix))) <= 3:
        matrix = rng.integers(-1, 2, (3, 3))
    for crystal, width in ((GRAPHITE, 6.711 / 2), (single_layer(GRAPHITE, vacuum), vacuum)):
        other = crystal.supercell(matrix)
        other = other.replace(positions=other.positions + rng.normal(size=3))
        assert spacing(other, bonding(other)) == pytest.approx(width, abs=1e-6)


@pytest.mark.parametrize("factor", [0.9, 1.3])
def test_stretched_layers_stay_as_they_are(factor: float) -> None:
    other = GRAPHITE.supercell([[1, 0, 1], [0, 1, 0], [0, 0, 2]])
    for crystal in (GRAPHITE, other):
        moved = stretched(crystal, bonding(crystal), factor)
        assert moved.volume == pytest.approx(factor * crystal.volume)
        assert spacing(moved, bonding(moved)) == pytest.approx(factor * 6.711 / 2)
        layers = [single_layer(found).primitive() for found in (crystal, moved)]
        assert layers[1].volume == pytest.approx(layers[0].volume)
