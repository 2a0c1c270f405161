"""The hull agrees with pymatgen's phase diagram and with a general solver of linear programs."""

from __future__ import annotations

import numpy as np
import pytest

from potnet.crystal import SYMBOLS
from potnet.stability import Hull, Phase, load_hull
from potnet.stability.phases import PhaseTable

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def mixtures(n: int, seed: int, most_elements: int = 5) -> list[dict[str, float]]:
    """Return compositions, each a mixture of one to three known phases."""
    rng = np.random.default_rng(seed)
    table, found = PhaseTable.load(), []
    while len(found) < n:
        total: dict[str, float] = {}
        for k in rng.integers(len(table), size=rng.integers(1, 4)):
            factor = int(rng.integers(1, 4))
            for number, amount in table[int(k)].amounts.items():
                total[SYMBOLS[number]] = total.get(SYMBOLS[number], 0) + factor * amount
        if len(total) <= most_elements:
            found.append(total)
    return found


def energy_by_pymatgen(composition: dict[str, float]) -> float:
    diagrams = pytest.importorskip("pymatgen.analysis.phase_diagram")
    core = pytest.importorskip("pymatgen.core")
    table = PhaseTable.load()
    allowed = np.zeros(len(SYMBOLS), dtype=bool)
    allowed[[0, *(SYMBOLS.index(symbol) for symbol in composition)]] = True
    phases = [table[int(k)] for k in np.flatnonzero(allowed[table.elements].all(1))]
    entries = [
        diagrams.PDEntry(core.Composition(p.formula), p.energy * sum(p.amounts.values()))
        for p in phases
    ]
    diagram = diagrams.PhaseDiagram(entries)
    return diagram.get_hull_energy_per_atom(core.Composition(composition))


def compare_with_pymatgen(compositions: list[dict[str, float]]) -> None:
    for composition in compositions:
        ours = load_hull().decompose(composition)
        assert ours.energy == pytest.approx(energy_by_pymatgen(composition), abs=1e-9), composition


def test_hull_energies_are_those_of_pymatgen_on_forty_mixtures() -> None:
    compare_with_pymatgen(mixtures(40, seed=0, most_elements=4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_hull_energies_are_those_of_pymatgen_on_a_thousand_mixtures() -> None:
    compare_with_pymatgen(mixtures(1_000, seed=1))


def energy_by_linprog(hull: Hull, composition: dict[str, float]) -> float:
    optimize = pytest.importorskip("scipy.optimize")
    numbers = tuple(sorted(SYMBOLS.index(symbol) for symbol in composition))
    _, shares, costs = hull._find_system(numbers)
    target = np.array([composition[SYMBOLS[number]] for number in numbers])
    found = optimize.linprog(costs, A_eq=shares, b_eq=target / target.sum(), method="highs")
    assert found.status == 0
    return found.fun


@pytest.mark.parametrize("seed", range(3))
def test_mixtures_of_up_to_ten_elements_are_those_of_a_general_solver(seed: int) -> None:
    for composition in mixtures(60, seed, most_elements=10):
        ours = load_hull().decompose(composition).energy
        assert ours == pytest.approx(energy_by_linprog(load_hull(), composition), abs=1e-9)


@pytest.mark.parametrize("n_elements", [1, 2, 5, 8, 12])
def test_random_phases_with_ties_and_positive_energies_are_solved(n_elements: int) -> None:
    rng = np.random.default_rng(n_elements)
    symbols = [SYMBOLS[k] for k in range(3, 3 + n_elements)]
    phases = []
    for _ in range(400):
        amounts = rng.integers(0, 4, n_elements)
        if amounts.any():
            formula = "".join(f"{s}{a}" for s, a in zip(symbols, amounts, strict=True) if a)
            # A tenth of eV: many phases lie exactly on common planes.
            phases.append(Phase.of(formula, round(float(rng.normal()), 1)))
    hull = Hull(phases)
    for _ in range(20):
        target = dict(zip(symbols, rng.integers(1, 6, n_elements).astype(float), strict=True))
        ours = hull.decompose(target)
        assert ours.energy == pytest.approx(energy_by_linprog(hull, target), abs=1e-9)
        assert sum(share for _, share in ours.phases) == pytest.approx(1, abs=1e-9)
