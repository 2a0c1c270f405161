"""Numbers of atoms that a file states beside the structure: forces, charges, oxidation states.

They are for looking at. Nothing is predicted from them, so that a table of them that cannot be read
is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.errors import Failure, StructureError
from potnet.io.extxyz import columns_of_atoms, frames_of
from potnet.io.found import NUMBER
from potnet.io.json_files import items_of, plain_arrays
from potnet.text import printable

MAX_TABLES = 30
SAME_SITE = 0.1  # Å; an atom nearer to an image of a site is one of its atoms

Values = dict[str, list[float]]
_TELLING = ("_atom_type_oxidation_number", "_atom_site_type_symbol", "_atom_site_U_iso_or_equiv")
_STRUCTURE = ("numbers", "positions", "scaled_positions", "pbc", "cell", "species", "symbols")


def atom_values(path: Path, items: Sequence[Crystal | Failure]) -> list[Values]:
    """Return for each structure of a file its numbers of atoms, by what they are called.

    Vectors are told by their lengths. Of extxyz these are all columns of numbers; of JSON all lists
    as long as there are atoms, and what pymatgen says of its sites; of CIF oxidation states and
    displacements.

    Args:
        path: The file.
        items: What :func:`potnet.io.scan` made of it.
    """
    try:
        found = list(_tables(path, items))
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, RecursionError):
        found = []
    if len(found) != len(items):  # nobody knows which belongs to which
        return [{} for _ in items]
    return [_kept(*pair) for pair in zip(found, items, strict=True)]


def _tables(path: Path, items: Sequence[Crystal | Failure]) -> Iterator[Mapping[str, Any]]:
    """Yield the tables of each structure of a file."""
    kind = path.suffix.lower()
    if kind in (".extxyz", ".xyz"):
        lines = path.read_text("utf-8").splitlines()
        yield from (_of_frame(frame) for frame, _, _ in frames_of(lines))
    elif kind == ".json":
        for _, item in items_of(plain_arrays(json.loads(path.read_bytes()))):
            yield _of_record(item) if isinstance(item, Mapping) else {}
    elif kind == ".cif":
        yield from _of_cif(path, items)


def _kept(tables: Mapping[str, Any], item: Crystal | Failure) -> Values:
    """Return what is one finite number for each atom, or the length of one vector."""
    found: Values = {}
    if isinstance(item, Failure):
        return found
    for name, table in tables.items():
        try:
            values = np.asarray(table, float)
        except (ValueError, TypeError):
            continue
        if values.ndim not in (1, 2) or len(values) != item.n_atoms:
            continue
        is_vector = values.ndim == 2 and values.shape[1] > 1
        values = np.linalg.norm(values, axis=1) if is_vector else values.ravel()
        if np.isfinite(values).all() and len(found) < MAX_TABLES:
            shown = f"{name}, length" if is_vector else str(name)
            found[printable(shown, 60)] = values.tolist()
    return found


def _of_frame(frame: Any) -> Mapping[str, Any]:
    try:
        return columns_of_atoms(frame)
    except StructureError:  # told where the crystal was read
        return {}


def _of_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the lists of a structure as JSON: potnet's, ASE's or pymatgen's."""
    found = {k: v for k, v in record.items() if isinstance(v, list) and k not in _STRUCTURE}
    for inner in ("arrays", "info", "results"):
        if isinstance(record.get(inner), Mapping):
            found |= {k: v for k, v in record[inner].items() if isinstance(v, list)}
    sites = record.get("sites")
    if not isinstance(sites, list) or not sites:
        return found
    for name in sites[0].get("properties") or ():
        found[name] = [site["properties"].get(name) for site in sites]
    states = [site["species"][0].get("oxidation_state") for site in sites]
    if None not in states:
        found["oxidation state"] = states
    return found


def _of_cif(path: Path, items: Sequence[Crystal | Failure]) -> Iterator[Mapping[str, Any]]:
    """Yield oxidation states and displacements of each block that lists atoms."""
    import gemmi

    blocks = [b for b in gemmi.cif.read(str(path)) if b.find_values("_atom_site_label")]
    for block, item in zip(blocks, items, strict=True):
        yield {} if isinstance(item, Failure) else _of_block(block, item)


def _of_block(block: Any, crystal: Crystal) -> Mapping[str, Any]:
    import gemmi

    if not any(block.find_values(tag) for tag in _TELLING):
        return {}
    small = gemmi.make_small_structure_from_block(block)
    small.setup_cell_images()
    sites = list(small.get_all_unit_cell_sites())
    owner = _owners(crystal, np.array([site.fract.tolist() for site in sites]))
    if owner is None or any(sites[k].element.atomic_number != z for k, z in owner):
        return {}
    return _of_sites(block, [sites[k] for k, _ in owner])


def _of_sites(block: Any, sites: Sequence[Any]) -> Mapping[str, Any]:
    """Return what a block says of the sites of atoms, one of each atom."""
    states = dict(
        zip(
            block.find_values("_atom_type_symbol"),
            block.find_values("_atom_type_oxidation_number"),
            strict=False,
        )
    )
    stated = [states.get(site.type_symbol or site.label, "") for site in sites]
    found: dict[str, Any] = {}
    if all(NUMBER.fullmatch(text) for text in stated):
        found["oxidation state"] = [float(text) for text in stated]
    elif any(site.charge for site in sites):
        found["oxidation state"] = [site.charge for site in sites]
    if all(site.u_iso for site in sites):
        found["displacement U, Å²"] = [site.u_iso for site in sites]
    return found


def _owners(crystal: Crystal, scaled: NDArray[np.float64]) -> list[tuple[int, int]] | None:
    """Return for each atom the nearest of some places and its atomic number; None if one is far."""
    found = []
    for place, number in zip(crystal.scaled_positions, crystal.numbers.tolist(), strict=True):
        apart = scaled - place
        lengths = np.linalg.norm((apart - np.round(apart)) @ crystal.cell, axis=1)
        nearest = int(lengths.argmin())
        if lengths[nearest] > SAME_SITE:
            return None
        found.append((nearest, number))
    return found
