"""Energies above hull: the mixture, its parts, the snapshot's name, the user's own phases."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from potnet import Crystal, DataError, StructureError
from potnet.crystal.formula import parse_formula, reduced_formula
from potnet.stability import SNAPSHOT_NAME, Hull, Phase, diagram, load_hull, read_phases


@pytest.fixture
def spinel() -> Hull:
    return Hull([Phase.of("MgO", -3.0), Phase.of("Al2O3", -3.4), Phase.of("MgAl2O4", -3.3)])


def test_a_mixture_has_the_composition_that_was_asked_for() -> None:
    for formula in ("LiNiMnCoO2FSP", "Fe3C", "Ba2YCu3O7", "Na9Cl", "C6H12O6"):
        found = load_hull().decompose(formula)
        total: dict[int, float] = {}
        for phase, share in found.phases:
            n = sum(phase.amounts.values())
            for number, amount in phase.amounts.items():
                total[number] = total.get(number, 0) + share * amount / n
        asked = parse_formula(formula)
        for number, amount in asked.items():
            assert total[number] == pytest.approx(amount / sum(asked.values()), abs=1e-9)
        by_parts = sum(share * phase.energy for phase, share in found.phases)
        assert found.energy == pytest.approx(by_parts, abs=1e-12)


def test_every_phase_of_the_snapshot_is_on_its_own_hull() -> None:
    hull = load_hull()
    table = hull._phases
    for k in range(0, len(table), 400):
        phase = table[k]
        found = hull.decompose(phase.formula)
        # Energies are rounded to 0.1 meV/atom: a vertex that flat may lie on the mixture.
        assert found.energy == pytest.approx(phase.energy, abs=1.5e-4)
        without = hull.decompose(phase.formula, own_composition=False)
        assert without.energy >= found.energy - 1e-12


def test_a_stable_phase_decomposes_into_itself(spinel: Hull) -> None:
    found = spinel.above("MgAl2O4", -3.25, -3.35, -3.15)
    assert str(found.decomposition) == "MgAl2O4"
    ends = (found.energy_above_hull, found.lower, found.upper)
    assert ends == pytest.approx((0.05, -0.05, 0.15), abs=1e-12)


def test_without_its_own_composition_a_phase_competes_with_the_others(spinel: Hull) -> None:
    found = spinel.decompose("MgAl2O4", own_composition=False)
    assert str(found) == "0.714 Al2O3 + 0.286 MgO"
    assert found.energy == pytest.approx(-5 / 7 * 3.4 - 2 / 7 * 3.0)


def test_an_element_is_zero_unless_a_phase_of_it_is_lower() -> None:
    hull = load_hull()
    assert hull.decompose("Fe").energy == 0
    assert hull.with_phases([Phase.of("Fe", -0.1)]).decompose("Fe").energy == pytest.approx(-0.1)


def test_elements_without_phases_are_named() -> None:
    found = load_hull().decompose("HeNaO2")
    assert found.unknown == ("He",)
    assert "He" in str(found)


def test_the_size_of_the_formula_does_not_matter(spinel: Hull) -> None:
    one, many = (spinel.decompose(formula) for formula in ("MgAlO2", "Mg7Al7O14"))
    assert one == many
    cell = [[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]]
    crystal = Crystal([12, 8], [[0, 0, 0], [2.1, 2.1, 2.1]], cell)
    assert spinel.decompose(crystal) == spinel.decompose(crystal.supercell(2))
    assert spinel.decompose(crystal).phases == spinel.decompose({"Mg": 0.5, "O": 0.5}).phases


def test_own_phases_lower_the_hull_and_are_named(spinel: Hull) -> None:
    more = spinel.with_phases([Phase.of("MgAl2O4", -3.5, "run 7")])
    found = more.decompose("MgAl2O4")
    assert found.energy == pytest.approx(-3.5)
    assert found.phases[0][0].id == "run 7"
    assert more.snapshot == "own phases; with 1 own phases"
    assert len(more) == len(spinel) + 1
    assert spinel.decompose("MgAl2O4").energy == pytest.approx(-3.3)


def test_every_answer_names_the_snapshot() -> None:
    assert load_hull().decompose("NaCl").snapshot == SNAPSHOT_NAME
    assert "MP 2019.04" in SNAPSHOT_NAME


def test_an_energy_without_interval_gives_none(spinel: Hull) -> None:
    found = spinel.above("MgO", -2.9)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)


@pytest.mark.parametrize(
    "text",
    ["formula,formation_energy_per_atom,id\nMg(AlO2)2,-3.5,a\n",
     '[{"formula": "MgAl2O4", "e_form": -3.5, "id": "a"}]'],
)  # fmt: skip
def test_phases_are_read_from_csv_and_json(text: str, tmp_path: Path) -> None:
    path = tmp_path / ("phases.json" if text[0] == "[" else "phases.csv")
    path.write_text(text)
    assert read_phases(path) == [Phase("MgAl2O4", -3.5, "a")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "formula,energy\nMgO,-3\n", "row 2: an entry must have `formula`"),
        ("a.csv", "formula,e_form\nMgO,low\n", "row 2: `e_form` must be a number, got 'low'"),
        ("a.csv", "formula,e_form\nMgO,nan\n", "formation energy of MgO must be finite"),
        ("a.csv", "formula,e_form\nmagnesia,-3\n", "row 2: `formula` must be symbols"),
        ("a.csv", "formula,e_form\n", "must have entries, got none"),
        ("a.json", "{}", "must be a list of objects"),
        ("a.json", "[1", "must be JSON"),
        ("a.txt", "", "must be .csv or .json"),
        ("missing.csv", None, "must be text that can be read"),
    ],
)
def test_a_file_of_phases_that_cannot_be_used_says_why(
    name: str, text: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_phases(path)


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("Al2O3", {13: 2, 8: 3}),
        ("Ca(OH)2", {20: 1, 8: 2, 1: 2}),
        ("K4[Fe(CN)6]", {19: 4, 26: 1, 6: 6, 7: 6}),
        ("Li0.5CoO2", {3: 0.5, 27: 1, 8: 2}),
        ("Al2 O3", {13: 2, 8: 3}),
        ("CO", {6: 1, 8: 1}),
        ("Co", {27: 1}),
    ],
)
def test_formulas_are_read(text: str, amounts: dict[int, float]) -> None:
    assert parse_formula(text) == amounts


@pytest.mark.parametrize(
    "text", ["", "2", "al2o3", "Al2O3)", "(Al2O3", "(Al]2", "Al-O", "Zz2", "Fe0", "Al2O3-x", "()2"]
)
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(StructureError, match="must be"):
        parse_formula(text)


@pytest.mark.parametrize(
    "formula", ["NaCl", "LiFePO4", "SrTiO3", "H2O", "NH3", "CH4", "GaAs", "SiC", "MoS2", "CaCO3"]
)
def test_formulas_are_written_as_chemists_do(formula: str) -> None:
    assert reduced_formula(parse_formula(formula)) == formula


def test_amounts_that_are_not_whole_are_kept() -> None:
    assert reduced_formula({3: 0.5, 27: 1, 8: 2}) == "Li0.5CoO2"


@pytest.mark.parametrize("amounts", [{}, {"Al": 0.0}, {"Al": -1.0}, {"Al": math.nan}])
def test_a_composition_of_nothing_is_refused(amounts: dict[str, float], spinel: Hull) -> None:
    with pytest.raises(StructureError, match="must be positive and finite"):
        spinel.decompose(amounts)


def test_a_diagram_joins_the_phases_that_coexist(spinel) -> None:
    drawn = diagram(spinel, ("O", "Mg", "Al"))
    names = [phase.formula for phase in drawn.phases]
    lines = {frozenset((names[a], names[b])) for a, b in drawn.lines}
    assert {frozenset(("MgO", "MgAl2O4")), frozenset(("Al2O3", "MgAl2O4"))} <= lines
    assert frozenset(("MgO", "Al2O3")) not in lines, "the spinel lies between"
    for target in ("MgAl4O7", "Mg2AlO3", "MgAlO"):
        parts = spinel.decompose(target).phases
        assert all(
            frozenset((a.formula, b.formula)) in lines
            for (a, _), (b, _) in itertools.combinations(parts, 2)
        )


def test_a_diagram_of_more_elements_is_refused() -> None:
    with pytest.raises(StructureError, match="must be two or three"):
        diagram(Hull([]), ("O", "Mg", "Al", "Si"))
