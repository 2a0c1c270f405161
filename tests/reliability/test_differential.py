"""Valid CIF files by chance: potnet reads each right, whatever the others do; see valid_cifs.py."""

from collections import Counter

import pytest
from valid_cifs import READERS, files, judge


def compare(folder, seed: str, count: int, readers: list[str]) -> Counter:
    """Return how often each reader reads right, refuses or reads wrong, and of what kind."""
    path = folder / "x.cif"
    found: Counter = Counter()
    for index, file in enumerate(files(seed, count)):
        path.write_text(file.text, newline="")
        for reader in readers:
            result, kind = judge(reader, file, path)
            found[reader, result, kind] += 1
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
    for (reader, result, kind), count in sorted(found.items()):
        print(f"{reader} | {result} | {kind} | {count}")
        assert kind != "has other atoms"
