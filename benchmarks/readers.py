"""What potnet, gemmi, pymatgen and ASE read of valid CIF files that are made by chance.

    python benchmarks/readers.py --output benchmarks/results/readers.json

The files of tests/valid_cifs.py have all 230 groups, all settings that gemmi knows with both
origins, seven ways to state the symmetry, digits, labels, charges and contents by chance; the atoms
that each stands for are known. The JSON says how many each program reads right, refuses, or reads
as another crystal, and of what kind that is. The exit code is 1 if potnet has not read all of them
right.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from valid_cifs import READERS, SETTINGS, files, judge  # noqa: E402

PACKAGES = {"potnet": "potnet", "gemmi": "gemmi", "pymatgen": "pymatgen-core", "ASE": "ase"}


def count(seed: str, n_files: int, readers: list[str]) -> dict:
    """Return the table of what the readers make of the files of a seed."""
    outcomes: Counter[tuple[str, str]] = Counter()
    styles: Counter[tuple[str, str]] = Counter()
    kinds: dict[str, Counter[str]] = {reader: Counter() for reader in readers}
    settings, groups = set(), set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.cif")
        for index, file in enumerate(files(seed, n_files)):
            path.write_text(file.text, newline="")
            settings.add(file.setting.xhm())
            groups.add(file.setting.number)
            styles[file.style, "files"] += 1
            for reader in readers:
                result, kind = judge(reader, file, path)
                outcomes[reader, result] += 1
                if result != "right":
                    styles[file.style, reader] += 1
                    kinds[reader][f"{result}, {file.style}: {kind}"] += 1
                    if reader == "potnet":
                        print(f"file {index}: {result}: {kind}\n{file.text}", flush=True)
    return {
        "files": n_files,
        "groups": len(groups),
        "settings": len(settings),
        "readers": {
            reader: {
                "version": version(PACKAGES[reader]),
                **{kind: outcomes[reader, kind] for kind in ("right", "refused", "wrong")},
                "kinds": dict(kinds[reader].most_common()),
            }
            for reader in readers
        },
        "not right by style": {
            style: {name: styles[style, name] for name in ("files", *readers)}
            for style in sorted({style for style, _ in styles})
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10 * len(SETTINGS))
    parser.add_argument("--seed", default="readers")
    parser.add_argument("--readers", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start = time.process_time()
    found = count(given.seed, given.files, given.readers)
    command = f"python benchmarks/readers.py --files {given.files} --seed {given.seed}"
    about = {"command": command, "python": platform.python_version()}
    about["processor_seconds"] = round(time.process_time() - start)
    text = json.dumps(about | found, indent=1, ensure_ascii=False) + "\n"
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    print(text)
    potnet = found["readers"].get("potnet", {"right": given.files})
    sys.exit(potnet["right"] != given.files)


if __name__ == "__main__":
    main()
