"""ALIGNN's own preparation of a table, in its environment: ``prepare_alignn.py TABLE FOLDER``.

Crystal graphs and line graphs with the settings of its paper (12 neighbours within 8 Å), in LMDB.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

import torch
from alignn.pure_lmdb_dataset import get_torch_dataset
from common import read_records


def main() -> None:
    table, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    start = time.process_time()
    records = read_records(table)
    dataset = [
        {
            "jid": record["id"],
            "target": 0.0,
            "atoms": {
                "lattice_mat": record["lattice"],
                "coords": record["frac_coords"],
                "elements": record["species"],
                "abc": [0, 0, 0],
                "angles": [0, 0, 0],
                "cartesian": False,
                "props": [""] * len(record["species"]),
            },
        }
        for record in records
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        get_torch_dataset(
            dataset,
            target="target",
            output_dir=str(folder),
            tmp_name=str(folder / "graphs"),
            map_size=2**36,
        )
    size = (folder / "graphs" / "data.mdb").stat().st_blocks * 512
    print(json.dumps({"seconds": time.process_time() - start, "bytes": size}))


if __name__ == "__main__":
    main()
