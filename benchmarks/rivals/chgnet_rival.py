"""CHGNet's energies from files, for bench_network.py.

    ENV/bin/python benchmarks/rivals/chgnet_rival.py order.json

Prints milliseconds of processor time for each crystal, from files to numbers (``total_ms``) and of
reading alone: CIF by pymatgen, extxyz by ASE. Imports and the loading of weights are not counted.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import ase.io
import torch
from chgnet.model import CHGNet
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor


def read_cif(folder: str) -> list[Structure]:
    return [Structure.from_file(path) for path in sorted(Path(folder).iterdir())]


def read_extxyz(path: str) -> list[Structure]:
    return [AseAtomsAdaptor.get_structure(atoms) for atoms in ase.io.read(path, ":")]


READERS = {"cif": read_cif, "extxyz": read_extxyz}


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with contextlib.redirect_stdout(io.StringIO()):
        model = CHGNet.load(use_device="cpu")
    found: dict = {"version": version("chgnet")}
    for name, source in order["sources"].items():
        structures = READERS[name](source)
        size = order["batch_size"]
        model.predict_structure(structures[:size], task="e", batch_size=size)
        start = time.process_time()
        structures = READERS[name](source)
        read = time.process_time() - start
        model.predict_structure(structures, task="e", batch_size=size)
        total = time.process_time() - start
        found[name] = {
            "total_ms": total / len(structures) * 1e3,
            "read_ms": read / len(structures) * 1e3,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
