"""The same two crystals in every form that datasets have, as other programs write it."""

import csv
import gzip
import json
import lzma
import zipfile

import ase.db
import ase.io
import numpy as np

from potnet import Crystal
from potnet.io.cif import format_cif
from potnet.io.poscar import format_poscar

SALT = Crystal(
    [11, 17], [[0, 0, 0], [2.8, 0, 0]], [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], id="salt"
)
OXIDE = Crystal(
    [22, 8, 8],
    [[0, 0, 0], [1.9, 0.1, 0], [0, 2.1, 1.4]],
    [[4.1, 0, 0], [0.2, 4.3, 0], [0.1, 0.3, 4.7]],
    id="oxide",
)
CRYSTALS = [SALT, OXIDE]
GAPS = [1.5, float("nan")]


def jsonl(*records):
    return "".join(json.dumps(item) + "\n" for item in records)


def pymatgen_dict(crystal):
    found = crystal.to_pymatgen().as_dict()
    for site in found["sites"]:  # Parquet has no empty objects
        site["properties"] = {"magmom": 0.0}
    return found | {"properties": {"note": "relaxed"}}


def jarvis_dict(crystal):
    return {
        "lattice_mat": crystal.cell.tolist(),
        "coords": crystal.scaled_positions.tolist(),
        "elements": crystal.symbols,
        "cartesian": False,
        "props": [""] * crystal.n_atoms,
    }


def ase_dict(crystal):
    atoms = crystal.to_ase()
    return {key: np.asarray(value).tolist() for key, value in atoms.todict().items()}


def resource(crystal, gap):
    attributes = {
        "lattice_vectors": crystal.cell.tolist(),
        "cartesian_site_positions": crystal.positions.tolist(),
        "species_at_sites": crystal.symbols,
        "species": [
            {"name": s, "chemical_symbols": [s], "concentration": [1.0]}
            for s in dict.fromkeys(crystal.symbols)
        ],
        "dimension_types": [1, 1, 1],
        "nsites": crystal.n_atoms,
        "last_modified": "2024-01-01T00:00:00Z",
        "structure_features": [],
        "_lab_gap": None if np.isnan(gap) else gap,
        "_lab_functional": "PBE",
    }
    return {"id": crystal.id, "type": "structures", "attributes": attributes}


def text_of(crystal, kind):
    return format_cif([crystal]) if kind == "cif" else format_poscar(crystal)


def rows(structure):
    functional = ["PBE", "HSE"]
    return [
        {
            "material_id": crystal.id,
            "structure": structure(crystal),
            "gap": None if np.isnan(gap) else gap,
            "functional": functional[k],
            "split": "train",
        }
        for k, (crystal, gap) in enumerate(zip(CRYSTALS, GAPS, strict=True))
    ]


def write_csv(path, structure, *, separator=",", encoding="utf-8", comma=False, hint=False):
    records = rows(structure)
    with open(path, "w", newline="", encoding=encoding) as file:
        if hint:
            file.write(f"sep={separator}\r\n")
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(records[0])
        for item in records:
            gap = "" if item["gap"] is None else str(item["gap"])
            item["gap"] = gap.replace(".", ",") if comma else gap
            writer.writerow(item.values())


def write_excel(path, structure):
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["a note"])
    sheet = book.create_sheet("data")
    records = rows(structure)
    sheet.append(list(records[0]))
    for item in records:
        sheet.append(list(item.values()))
    book.save(path)


def write_parquet(path, structure):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows(structure)), path)


def write_folder(path, table, suffix="cif"):
    path.mkdir()
    (path / "id_prop.csv").write_text(table)
    for crystal in CRYSTALS:
        (path / f"{crystal.id}.{suffix}").write_text(text_of(crystal, suffix))


def write_frames(path):
    atoms = [crystal.to_ase() for crystal in CRYSTALS]
    for item, crystal, functional in zip(atoms, CRYSTALS, ("PBE", "HSE"), strict=True):
        item.info = {"material_id": crystal.id, "functional": functional, "split": "train"}
        item.arrays["forces"] = np.zeros((len(item), 3))
    atoms[0].info["gap"] = 1.5
    atoms[0].info["stress"] = np.eye(3)
    ase.io.write(path, atoms, format="extxyz")


def write_database(path):
    with ase.db.connect(path) as database:
        for crystal, gap, functional in zip(CRYSTALS, GAPS, ("PBE", "HSE"), strict=True):
            pairs = {"name": crystal.id, "functional": functional, "split": "train"}
            pairs |= {} if np.isnan(gap) else {"gap": gap}
            database.write(crystal.to_ase(), **pairs, data={"note": [1, 2]})


def zipped(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.name.removesuffix(".zip"), content)


def split_table():
    records = rows(pymatgen_dict)
    names = [name for name in records[0] if name != "material_id"]
    return json.dumps(
        {
            "index": [item["material_id"] for item in records],
            "columns": names,
            "data": [[item[name] for name in names] for item in records],
        }
    )


def by_columns():
    table = {item["material_id"]: item for item in rows(jarvis_dict)}
    names = [name for name in next(iter(table.values())) if name != "material_id"]
    return json.dumps({name: {id: item[name] for id, item in table.items()} for name in names})


def response():
    resources = [resource(c, gap) for c, gap in zip(CRYSTALS, GAPS, strict=True)]
    resources[1]["attributes"]["_lab_functional"] = "HSE"
    meta = {"api_version": "1.1.0", "more_data_available": False}
    return json.dumps({"links": {"next": None}, "data": resources, "meta": meta})


def jarvis():
    names = {"material_id": "jid", "structure": "atoms"}
    records = [{names.get(k, k): v for k, v in item.items()} for item in rows(jarvis_dict)]
    for item in records:
        item["gap"] = "na" if item["gap"] is None else item["gap"]
    return json.dumps(records)


def json_text(convert):
    return lambda crystal: json.dumps(convert(crystal))


def cif(crystal):
    return text_of(crystal, "cif")


def poscar(crystal):
    return text_of(crystal, "poscar")


HEADED = "id,gap,functional,split\nsalt,1.5,PBE,train\noxide,,HSE,train\n"
SOURCES = {
    "a.csv: CIF": lambda p: write_csv(p, cif),
    "b.csv: semicolons and decimal commas": lambda p: write_csv(
        p, poscar, separator=";", comma=True, encoding="utf-8-sig"
    ),
    "c.csv: with the hint of Excel": lambda p: write_csv(p, cif, separator=";", hint=True),
    "d.txt: Unicode text of Excel": lambda p: write_csv(
        p, poscar, separator="\t", encoding="utf-16"
    ),
    "e.tsv: pymatgen": lambda p: write_csv(p, json_text(pymatgen_dict), separator="\t"),
    "f.xlsx: POSCAR": lambda p: write_excel(p, poscar),
    "g.parquet: CIF": lambda p: write_parquet(p, cif),
    "h.parquet: nested JARVIS": lambda p: write_parquet(p, jarvis_dict),
    "i.parquet: nested pymatgen": lambda p: write_parquet(p, pymatgen_dict),
    "j.jsonl: nested ASE": lambda p: p.write_text(jsonl(*rows(ase_dict))),
    "k.jsonl: ASE as text": lambda p: p.write_text(jsonl(*rows(json_text(ase_dict)))),
    "l.jsonl.xz: CIF": lambda p: p.write_bytes(lzma.compress(jsonl(*rows(cif)).encode())),
    "m.json: JARVIS": lambda p: p.write_text(jarvis()),
    "n.json.zip: JARVIS": lambda p: zipped(p, jarvis()),
    "o.json.gz: MatBench": lambda p: p.write_bytes(gzip.compress(split_table().encode())),
    "p.json: pandas by columns": lambda p: p.write_text(by_columns()),
    "q.json: records by id": lambda p: p.write_text(
        json.dumps({item.pop("material_id"): item for item in rows(cif)})
    ),
    "r.extxyz: ASE": write_frames,
    "s.db: ASE": write_database,
    "t.json: database of ASE": write_database,
    "u: CGCNN": lambda p: write_folder(p, HEADED),
    "v: ALIGNN": lambda p: write_folder(
        p, HEADED.replace("salt,", "salt.poscar,").replace("oxide,", "oxide.poscar,"), "poscar"
    ),
}
