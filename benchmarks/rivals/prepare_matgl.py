"""MatGL's own preparation of a table, in its environment: ``prepare_matgl.py TABLE FOLDER``.

Graphs within 5 Å, as its training examples make them, kept by its ``MGLDataset``.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("MATGL_BACKEND", "PYG")

import torch
from common import read_records
from matgl.ext.pymatgen import Structure2Graph, get_element_list
from matgl.graph.data import MGLDataset
from pymatgen.core import Structure


def main() -> None:
    table, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    start = time.process_time()
    records = read_records(table)
    structures = [Structure(r["lattice"], r["species"], r["frac_coords"]) for r in records]
    MGLDataset(
        converter=Structure2Graph(get_element_list(structures), 5.0),
        structures=structures,
        labels={"target": [0.0] * len(structures)},
        root=str(folder),
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(json.dumps({"seconds": time.process_time() - start, "bytes": size}))


if __name__ == "__main__":
    main()
