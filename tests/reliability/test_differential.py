"""Valid CIF files by chance: potnet reads each right, whatever the others do; see valid_cifs.py."""

from collections import Counter

import pytest
from valid_cifs import READERS, files, outcome

# Where other programs read another crystal, or none, and why; potnet is held to the atoms that the
# files were made of, not to them.
EXPLAINED = {
    ("gemmi", "number and code"): "takes the number for no symmetry",
    ("gemmi", "H-M symbol with subscripts"): "does not know P 2_1/c",
    ("ASE", "Hall symbol"): "takes a Hall symbol alone for no symmetry",
    ("ASE", "number and code"): "takes the standard setting",
    ("ASE", "H-M symbol with subscripts"): "does not know P 2_1/c",
    ("ASE", "H-M symbol"): "knows the standard settings alone",
    ("ASE", "H-M symbol and number"): "takes the standard setting of the number",
    ("ASE", "operations"): "asks for a name beside the operations, with origin and axes",
    ("ASE", "operations and name"): "asks for a name that it knows",
    ("pymatgen", "Hall symbol"): "takes a Hall symbol alone for no symmetry",
    ("pymatgen", "number and code"): "takes the standard setting",
    ("pymatgen", "H-M symbol with subscripts"): "takes the first origin or axes",
    ("pymatgen", "H-M symbol"): "takes the first origin or axes",
    ("pymatgen", "H-M symbol and number"): "takes the first origin or axes",
    ("pymatgen", "operations"): "leaves out sites whose occupancy is '.', and joins by a tolerance",
    (
        "pymatgen",
        "operations and name",
    ): "leaves out sites whose occupancy is '.', and joins by a tolerance",
}


def compare(folder, seed: str, count: int, readers: list[str]) -> Counter:
    """Return how many files each reader reads right, refuses or reads wrong, by style."""
    path = folder / "x.cif"
    found: Counter = Counter()
    for index, file in enumerate(files(seed, count)):
        path.write_text(file.text, newline="")
        for reader in readers:
            result = outcome(reader, file, path)
            found[reader, file.style, result] += 1
            if reader == "potnet":
                assert result == "right", f"file {index} of {seed!r}: {result}\n{file.text}"
    return found


def test_files_by_chance_are_read_right(tmp_path):
    found = compare(tmp_path, "fast", 150, ["potnet"])
    assert found.total() == 150


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_file_of_thousands_is_read_right_and_each_other_reading_is_explained(tmp_path):
    pytest.importorskip("pymatgen.io.cif")
    found = compare(tmp_path, "slow", 5640, list(READERS))
    for (reader, style, result), count in sorted(found.items()):
        print(f"{reader} | {style} | {result} | {count}")
        assert result == "right" or (reader, style) in EXPLAINED
