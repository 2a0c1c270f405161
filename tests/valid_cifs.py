"""Valid CIF files by chance, with the atoms that they stand for, and what programs read of them.

``benchmarks/readers.py`` counts what each program makes of thousands of them, and why.
"""

from __future__ import annotations

import math
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np

SETTINGS = list(gemmi.spacegroup_table())
ELEMENTS = ["Li", "O", "F", "Na", "Si", "Cl", "Ti", "Fe", "Sr", "Sn", "Bi", "Ca", "C", "B", "Ho"]
MAX_ATOMS = 120
APART = 0.9  # Å, at least
TOLERANCE = 0.12  # Å, of the digits of the file


class File(NamedTuple):
    """A CIF, how it states its symmetry, the atoms that it stands for, and the sites it lists.

    Atoms and sites are symbols and scaled positions; the cell has lattice vectors as rows, in Å.
    """

    text: str
    style: str
    setting: gemmi.SpaceGroup
    symbols: list[str]
    scaled: np.ndarray
    cell: np.ndarray
    listed: tuple[list[str], np.ndarray]


def files(seed: str, count: int) -> Iterator[File]:
    """Yield ``count`` files; all settings take turns."""
    rng = random.Random(seed)
    order = SETTINGS * (count // len(SETTINGS) + 1)
    rng.shuffle(order)
    for setting in order[:count]:
        made = None
        while made is None:
            made = _file(setting, rng)
        yield made


def _parameters(setting: gemmi.SpaceGroup, rng: random.Random) -> list[float]:
    """Return lengths and angles that the operations allow: the mean of a metric over the group."""
    lengths = [rng.uniform(4.0, 9.0) for _ in range(3)]
    angles = [np.radians(rng.uniform(70, 110)) for _ in range(3)]
    metric = np.outer(lengths, lengths)
    for (i, j), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        metric[i, j] = metric[j, i] = lengths[i] * lengths[j] * np.cos(angle)
    rotations = [np.array(op.rot) / op.DEN for op in setting.operations().sym_ops]
    metric = np.mean([rotation.T @ metric @ rotation for rotation in rotations], axis=0)
    lengths = np.sqrt(metric.diagonal())
    cosines = [metric[i, j] / lengths[i] / lengths[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    return [*np.round(lengths, 4).tolist(), *np.round(np.degrees(np.arccos(cosines)), 4).tolist()]


def _operations(setting: gemmi.SpaceGroup) -> tuple[np.ndarray, np.ndarray]:
    operations = list(setting.operations())
    rotations = np.array([op.rot for op in operations]) / gemmi.Op.DEN
    return rotations, np.array([op.tran for op in operations]) / gemmi.Op.DEN


def _orbit(position: np.ndarray, operations: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the different images of a position, which is exact."""
    images = (operations[0] @ position + operations[1]) % 1
    kept: list[np.ndarray] = []
    for image in images:
        apart = np.array([image - other for other in kept]).reshape(-1, 3)
        if not (abs(apart - np.round(apart)) < 1e-6).all(1).any():
            kept.append(image)
    return np.array(kept)


def _special(operations: tuple[np.ndarray, np.ndarray], rng: random.Random) -> np.ndarray:
    """Return a position on an element of symmetry where there is one, else any."""
    position = np.array([rng.uniform(-0.2, 1.2) for _ in range(3)])
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        k = rng.randrange(len(operations[0]))
        # The mean over the powers of an operation is fixed by it, up to its own translation.
        powers = [position]
        for _ in range(5):
            powers.append(operations[0][k] @ powers[-1] + operations[1][k])
            powers[-1] -= np.round(powers[-1] - position)
        order = next((n for n in range(1, 6) if np.allclose(powers[n], position)), 0)
        if order:
            position = np.mean(powers[:order], axis=0)
    return position


def _file(setting: gemmi.SpaceGroup, rng: random.Random) -> File | None:
    parameters = _parameters(setting, rng)
    matrix = np.array(gemmi.UnitCell(*parameters).orth.mat.tolist()).T
    operations = _operations(setting)
    digits = rng.choice([3, 4, 4, 5, 5, 6, 8])
    rows, symbols, orbits = [], [], []
    for number in range(1, rng.choice([2, 3, 4]) + 1):
        position = _special(operations, rng)
        orbit = _orbit(position, operations)
        symbol = rng.choice(ELEMENTS)
        if not _is_free(np.concatenate([*orbits, orbit]), len(orbit), matrix):
            continue
        written = [f"{x:.{digits}f}" for x in position]
        # What is written must be as clearly special, or general, as what is meant.
        if len(_orbit(np.array([float(x) for x in written]), operations)) < len(orbit):
            continue
        orbits.append(orbit)
        symbols += [symbol] * len(orbit)
        rows.append((symbol, number, written, rng))
    if not rows or len(symbols) > MAX_ATOMS:
        return None
    style, symmetry = _symmetry(setting, rng)
    content = _content(Counter(symbols), float(np.linalg.det(matrix)), rng)
    text = _text(parameters, symmetry, rows, content, rng)
    places = np.array([[float(x) for x in written] for _, _, written, _ in rows])
    listed = [symbol for symbol, *_ in rows], places
    return File(text, style, setting, symbols, np.concatenate(orbits), matrix, listed)


def _is_free(scaled: np.ndarray, n_new: int, cell: np.ndarray) -> bool:
    apart = scaled[:, None] - scaled[-n_new:]
    apart -= np.round(apart)
    steps = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T
    distances = np.linalg.norm((apart[:, :, None] + steps) @ cell, axis=-1)
    return bool(np.partition(distances[distances > 1e-9], 0)[0] > APART) and (
        (distances < 1e-3).sum() == n_new
    )


def _symmetry(setting: gemmi.SpaceGroup, rng: random.Random) -> tuple[str, str]:
    """Return the style and the lines that state the symmetry, so that nothing is left open."""
    names = ["_symmetry_space_group_name_H-M", "_space_group_name_H-M_alt"]
    triplets = [op.triplet() for op in setting.operations()]
    first, rest = triplets[0], triplets[1:]
    rng.shuffle(rest)
    tag = rng.choice(["_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz"])
    quote = rng.choice(["'", '"'])
    listed = "\n".join(["loop_", tag, *(f"{quote}{t}{quote}" for t in [first, *rest])]) + "\n"
    hall = f"{rng.choice(['_symmetry', '_space_group'])}_name_Hall '{setting.hall}'\n"
    hall = hall.replace("_symmetry_name", "_symmetry_space_group_name")
    choice = setting.ext if setting.ext in ("1", "2", "H", "R") else ""
    named = f"{setting.hm}:{choice}" if choice else setting.hm
    named = rng.choice([named, named.replace(" ", ""), named.replace(":", " :")])
    styles = {
        "operations": listed,
        "operations and name": f"{rng.choice(names)} '{setting.hm}'\n{listed}",
        "Hall symbol": hall,
        "H-M symbol": f"{rng.choice(names)} '{named}'\n",
        "H-M symbol and number": f"{rng.choice(names)} '{named}'\n"
        f"_space_group_IT_number {setting.number}\n",
    }
    subscripts = re.sub(r"([2346])([1-5])(?![0-9])", rng.choice([r"\1_\2", r"\1(\2)"]), setting.hm)
    marked = f"{subscripts}:{choice}" if choice else subscripts
    styles["H-M symbol with subscripts"] = f"{rng.choice(names)} '{marked}'\n"
    code = choice.lower() + setting.qualifier
    alike = [s for s in SETTINGS if s.number == setting.number]
    if code or len(alike) == 1:
        line = f"_space_group_IT_coordinate_system_code {code}\n" if code else ""
        styles["number and code"] = f"_space_group_IT_number {setting.number}\n{line}"
    style = rng.choice(list(styles))
    return style, styles[style]


def _content(counts: Counter[str], volume: float, rng: random.Random) -> str:
    """Return lines that state some of formula, Z, weight, density, F(000) and volume, all right."""
    units = math.gcd(*counts.values())
    formula = " ".join(f"{s}{n // units}" for s, n in sorted(counts.items()))
    mass = sum(gemmi.Element(s).weight * n for s, n in counts.items())
    electrons = sum(gemmi.Element(s).atomic_number * n for s, n in counts.items())
    lines = {
        "_chemical_formula_sum": f"'{formula}'",
        "_cell_formula_units_Z": units,
        "_chemical_formula_weight": f"{mass / units:.{rng.choice([1, 2, 4])}f}",
        "_exptl_crystal_density_diffrn": f"{1.66053906892 * mass / volume:.3f}",
        "_exptl_crystal_F_000": electrons,
        "_cell_volume": f"{volume:.{rng.choice([1, 2, 3])}f}",
    }
    if rng.random() < 0.3:
        return ""
    return "".join(f"{tag} {value}\n" for tag, value in lines.items() if rng.random() < 0.5)


def _text(
    parameters: list[float],
    symmetry: str,
    rows: list[tuple[str, int, list[str], random.Random]],
    content: str,
    rng: random.Random,
) -> str:
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    esd = rng.choice(["", "(2)"])
    cell = "".join(f"_cell_{t} {v}{esd}\n" for t, v in zip(tags, parameters, strict=True))
    has_types = rng.random() < 0.7
    charge = rng.choice(["", "", "2+", "1-", "+3", "0+"])
    label = rng.choice(["{s}{n}", "{s}{n}a", "{s}_{n}", "{s}({n})", "{s}{n}'"])
    columns = ["label", *(["type_symbol"] if has_types else []), "fract_x", "fract_y", "fract_z"]
    lines = []
    for symbol, number, written, _ in rows:
        types = [symbol + charge] if has_types else []
        values = [x + esd for x in written]
        lines.append(" ".join([label.format(s=symbol, n=number), *types, *values]))
    if rng.random() < 0.5:
        columns.append("occupancy")
        lines = [f"{line} {rng.choice(['1', '1.0', '1.000', '.'])}" for line in lines]
    atoms = "loop_\n" + "".join(f"_atom_site_{c}\n" for c in columns) + "\n".join(lines) + "\n"
    extra = rng.choice(["", "_journal_name_full 'Acta'\n"])
    text = rng.choice(["data_x\n", "# made\n\ndata_a_b\n"]) + extra + content
    text += symmetry + cell + atoms if rng.random() < 0.5 else cell + symmetry + atoms
    return text.replace("\n", "\r\n") if rng.random() < 0.2 else text


def is_right(file: File, symbols: list[str], scaled: np.ndarray) -> bool:
    """Return whether atoms that were read are those of the file, each once."""
    return are_same((file.symbols, file.scaled), (symbols, scaled), file.cell)


def are_same(
    expected: tuple[list[str], np.ndarray], found: tuple[list[str], np.ndarray], cell: np.ndarray
) -> bool:
    """Return whether two lists of atoms are the same in any order, up to the digits of a file."""
    if Counter(expected[0]) != Counter(found[0]):
        return False
    apart = np.asarray(found[1])[:, None] - expected[1]
    distances = np.linalg.norm((apart - np.round(apart)) @ cell, axis=-1)
    distances[np.array(found[0])[:, None] != np.array(expected[0])] = np.inf
    nearest = distances.argmin(1)
    return len(set(nearest)) == len(nearest) and bool(distances.min(1).max() < TOLERANCE)


def expanded(
    listed: tuple[list[str], np.ndarray], setting: gemmi.SpaceGroup, cell: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Return the atoms that sites stand for in a setting; images closer than 0.12 Å are one."""
    rotations, shifts = _operations(setting)
    symbols, places = [], []
    for symbol, position in zip(*listed, strict=True):
        kept: list[np.ndarray] = []
        for image in rotations @ position + shifts:
            apart = np.array([image - other for other in kept]).reshape(-1, 3)
            distances = np.linalg.norm((apart - np.round(apart)) @ cell, axis=1)
            if not (distances < TOLERANCE).any():
                kept.append(image)
        symbols += [symbol] * len(kept)
        places += kept
    return symbols, np.array(places)


def by_potnet(path: Path) -> tuple[list[str], np.ndarray]:
    from potnet import io

    (crystal,) = io.read(path)
    return crystal.symbols, crystal.scaled_positions


def by_gemmi(path: Path) -> tuple[list[str], np.ndarray]:
    structure = gemmi.read_small_structure(str(path))
    sites = structure.get_all_unit_cell_sites()
    return [s.element.name for s in sites], np.array([s.fract.tolist() for s in sites])


def by_pymatgen(path: Path) -> tuple[list[str], np.ndarray]:
    from pymatgen.io.cif import CifParser

    (structure,) = CifParser(path).parse_structures(primitive=False)
    return [site.specie.symbol for site in structure], structure.frac_coords


def by_ase(path: Path) -> tuple[list[str], np.ndarray]:
    from ase.io import read

    atoms = read(path, format="cif")
    return atoms.get_chemical_symbols(), atoms.get_scaled_positions()


READERS: dict[str, Callable[[Path], tuple[list[str], np.ndarray]]] = {
    "potnet": by_potnet,
    "gemmi": by_gemmi,
    "pymatgen": by_pymatgen,
    "ASE": by_ase,
}


def outcome(reader: str, file: File, path: Path) -> str:
    """Return what a reader makes of a file: right, refused or wrong."""
    return judge(reader, file, path)[0]


def judge(reader: str, file: File, path: Path) -> tuple[str, str]:
    """Return right, refused or wrong, and of what kind that is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = READERS[reader](path)
        except Exception as error:  # noqa: BLE001
            what = re.sub(r"\s+", " ", re.sub(r"(['\"`]).*?\1|\d+|/\S+", "...", str(error)))
            return "refused", f"{type(error).__name__}: {what[:60].strip()}"
    if is_right(file, *found):
        return "right", ""
    return "wrong", _kind_of_wrong(file, found)


def _kind_of_wrong(file: File, found: tuple[list[str], np.ndarray]) -> str:
    """Return by which mistake atoms come of a file that are not its own."""
    alike = [s for s in SETTINGS if s.number == file.setting.number]
    stated = gemmi.cif.read_string(file.text).sole_block().find_values("_atom_site_occupancy")
    whole = [k for k in range(len(file.listed[0])) if not stated or stated[k] != "."]
    without = [file.listed[0][k] for k in whole], file.listed[1][whole]
    readings = []
    for listed, rest in ((file.listed, ""), (without, ", without the sites of occupancy '.'")):
        readings.append((f"takes no symmetry: the listed sites alone{rest}", listed))
        own = "takes the atoms of the file" + rest
        settings = [(own, file.setting), *((_OTHER + rest, s) for s in alike)]
        readings += [(kind, expanded(listed, s, file.cell)) for kind, s in settings]
    for kind, atoms in readings:
        if are_same(atoms, found, file.cell):
            return kind
    for kind, atoms in readings:
        if _is_covered(found, atoms, file.cell):
            n_more = len(found[0]) - len(atoms[0])
            how = "images near a special position twice" if n_more > 0 else "fewer atoms"
            return f"{kind}, with {how}"
    for setting in SETTINGS:
        for listed in (file.listed, without):
            if _is_covered(found, expanded(listed, setting, file.cell), file.cell):
                return "takes another space group"
    return "has other atoms"


_OTHER = "takes another setting (origin, axes or cell) of the group"


def _is_covered(
    found: tuple[list[str], np.ndarray], atoms: tuple[list[str], np.ndarray], cell: np.ndarray
) -> bool:
    """Return whether each atom that was found lies where one of its element should."""
    apart = np.asarray(found[1])[:, None] - atoms[1]
    distances = np.linalg.norm((apart - np.round(apart)) @ cell, axis=-1)
    distances[np.array(found[0])[:, None] != np.array(atoms[0])] = np.inf
    return bool(distances.min(1).max() < 2 * TOLERANCE)
