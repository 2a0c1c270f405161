"""Small files in the formats of the public benchmarks."""

import json
import pickle  # noqa: TID251  (two benchmarks exist in this format only)
import zipfile

import numpy as np


def jarvis_atoms(length):
    return {
        "lattice_mat": [[0, length, length], [length, 0, length], [length, length, 0]],
        "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "elements": ["Na", "Cl"],
        "abc": [round(length * 2**0.5, 6)] * 3,
        "angles": [60, 60, 60],
        "cartesian": False,
        "props": ["", ""],
    }


def matbench_structure(length):
    rows = jarvis_atoms(length)["lattice_mat"]
    sites = [
        {"species": [{"element": element, "occu": 1}], "abc": xyz, "label": element}
        for element, xyz in (("Na", [0, 0, 0]), ("Cl", [0.5, 0.5, 0.5]))
    ]
    lattice = {"matrix": rows}
    return {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": None,
            "lattice": lattice, "sites": sites}  # fmt: skip


def zipped(path, name, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, json.dumps(content))
    return path


def jarvis_file(tmp_path, n=40):
    records = [
        {
            "jid": f"JVASP-{k}" if k != 7 else "JVASP-3",
            "formation_energy_peratom": 0.01 * k,
            "mbj_bandgap": "na" if k % 2 else 0.1 * k,
            "slme": 5.0 + k,
            "spg_symbol": "Fm-3m",
            "search": "-Cl-Na",
            "desc": [0.0] * 50,
            "atoms": jarvis_atoms(2.5 + 0.01 * k),
        }
        for k in range(n)
    ]
    return zipped(tmp_path / "jdft_3d-8-18-2021.json.zip", "jdft_3d-8-18-2021.json", records)


def modulus_files(folder, sizes=(12, 3, 3), value=lambda k: np.array(1.5 + 0.01 * k)):
    folder.mkdir(exist_ok=True)
    paths, k = [], 0
    for part, size in zip(("train", "val", "test"), sizes, strict=True):
        records = []
        for _ in range(size):
            atoms = jarvis_atoms(2.5 + 0.01 * k)
            records.append({"id": f"mp-{k}", "shear modulus": value(k), "atoms": atoms})
            k += 1
        path = folder / f"shear_megnet_{part}.pkl"
        path.write_bytes(pickle.dumps(records, 4))
        paths.append(path)
    return paths
