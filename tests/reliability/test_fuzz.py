"""Whatever happens to a file, it is read or refused in a sentence, soon, and never worse.

The fast part takes some hundred files of each kind; ``pytest -m slow`` takes many more, and
POTNET_FUZZ_SEED another lot.
"""

import gzip
import os
import random
import re
import time
import warnings

import numpy as np
import pytest
from sources import CRYSTALS as GOOD
from sources import SOURCES, cif, poscar, response

from potnet import data, io
from potnet.crystal import Crystal
from potnet.errors import Failure, PotNetError

SEED = int(os.environ.get("POTNET_FUZZ_SEED", "0"))
MAX_SECONDS = 20  # of processor time, for a file of some kB; the slowest take well below one

FILES = {
    **SOURCES,
    "w.json: OPTIMADE": lambda path: path.write_text(response()),
    "x.cif": lambda path: path.write_text(cif(GOOD[1])),
    "POSCAR": lambda path: path.write_text(poscar(GOOD[1])),
}
BINARY = ("f.xlsx", "g.parquet", "h.parquet", "i.parquet", "s.db", "l.jsonl.xz", "n.json.zip")

WORDS = """nan NaN inf -inf 1e999 -1 0 1e308 1e-308 00 0x10 1_0 ١٢ ½ null true false {} [] {"a":1}
" ' ; loop_ data_ # , . - + ? \\ \\n \\u0000 é 𝄞 ../../etc/passwd /dev/zero *.cif =1+1 #N/A Xx D NO
0.5 90 180 T F 99999999999999999999 %s ${HOME} <!DOCTYPE"""
TOKENS = [*WORDS.split(), "", " ", "\n", "\r", "\r\n", "\t", "\0", "\ufeff", "\u2028", "\x1b[31m"]
TOKENS += ["[" * 3000, '{"a":' * 3000, "9" * 5000, "A" * 70_000]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` after one to three accidents."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        content = rng.choice(ACCIDENTS)(content, rng)
    return content


def flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\xff"
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 4])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    kept = rng.choice([0, start + rng.choice([1, 2, 10, 100])])
    return content[:start] + content[kept:] * bool(kept)


def insert(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(TOKENS).encode("utf-8", "replace") + content[start:]


def swap_lines(content: bytes, rng: random.Random) -> bytes:
    """Delete, double, move or exchange lines."""
    lines = content.split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(two, lines[one])
    elif kind == 2:
        lines.insert(two, lines.pop(one))
    else:
        lines[one], lines[two] = lines[two], lines[one]
    return b"\n".join(lines)


def change_word(content: bytes, rng: random.Random) -> bytes:
    """Replace a number or a word by another of the file, or by a token."""
    words = list(re.finditer(rb"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|[A-Za-z_]+", content))
    if not words:
        return content
    old = rng.choice(words)
    new = rng.choice([rng.choice(words)[0], rng.choice(TOKENS).encode("utf-8", "replace")])
    return content[: old.start()] + new + content[old.end() :]


def change_digit(content: bytes, rng: random.Random) -> bytes:
    digits = [k for k, byte in enumerate(content) if 48 <= byte <= 57]
    if not digits:
        return content
    at = rng.choice(digits)
    return content[:at] + rng.choice(b"0123456789-.eE, ").to_bytes(1, "big") + content[at + 1 :]


def encode(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    kinds = ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037"]
    return text.encode(rng.choice(kinds), "replace")


def double(content: bytes, rng: random.Random) -> bytes:
    return content * 2


ACCIDENTS = [flip, cut, insert, swap_lines, change_word, change_word, change_digit, change_digit]
ACCIDENTS += [insert, encode, double]


def check(path, rng: random.Random) -> None:
    """Raise unless what comes of ``path`` can be defended."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # ours: what was left out, and why
        found = outcome(path, rng)
    assert time.process_time() - start < MAX_SECONDS
    for item in found:
        if isinstance(item, str):
            assert item.strip().endswith((".", '"', "'", ")")), item
            assert "Traceback" not in item
            assert 10 < len(item) < 2000, item
            continue
        crystal, targets = item
        assert isinstance(crystal, Crystal)
        assert all(np.isfinite(a).all() for a in (crystal.positions, crystal.cell))
        assert abs(np.linalg.det(crystal.cell)) > 0
        assert not np.isinf(list(targets.values())).any()


def outcome(path, rng: random.Random) -> list:
    """Return the sentences and the crystals that come of a file, by one way or another."""
    way = rng.randrange(3)
    try:
        if path.name in ("x.cif", "POSCAR") or (way == 0 and path.suffix == ".extxyz"):
            found = list(io.scan(path))
            return [i.reason if isinstance(i, Failure) else (i, {}) for i in found]
        if way == 1:
            dataset = data.open(path, on_error=rng.choice(["raise", "skip"]))
            columns = dataset.targets.items()
            rows = [{k: v[n] for k, v in columns} for n in range(len(dataset))]
            sentences = [failure.reason for failure in dataset.failures]
            return [*sentences, *zip(dataset.crystals, rows, strict=True)]
        targets = rng.choice([None, "gap"])
        found = list(data.iter_records(path, targets=targets))
        return [i.reason if isinstance(i, Failure) else (i.crystal, i.targets) for i in found]
    except PotNetError as error:
        return [str(error)]


def fuzz(folder, source: str, seed: str, count: int) -> None:
    rng = random.Random(f"{seed} {source}")
    path = folder / source.partition(":")[0]
    FILES[source](path)
    victims = sorted(path.iterdir()) if path.is_dir() else [path]
    contents = {victim: victim.read_bytes() for victim in victims}
    for k in range(count):
        victim = rng.choice(victims)
        content = contents[victim]
        inside = victim.suffix == ".gz" and rng.random() < 0.7
        broken = mutated(gzip.decompress(content) if inside else content, rng)
        victim.write_bytes(gzip.compress(broken) if inside else broken)
        try:
            check(path, rng)
        except Exception as error:
            keep = os.environ.get("POTNET_FUZZ_KEEP")
            if keep:
                with open(f"{keep}/{victim.name}.{k}", "wb") as file:
                    file.write(broken)
            raise AssertionError(
                f"{source}, number {k}: {type(error).__name__}: {error}"
            ) from error
        victim.write_bytes(content)


@pytest.mark.parametrize("source", FILES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_accident_to_a_file_does_harm(tmp_path, source):
    fuzz(tmp_path, source, f"fast {SEED}", 40 if source.partition(":")[0] in BINARY else 80)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", FILES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_accident_of_many_does_harm(tmp_path, source):
    fuzz(tmp_path, source, f"slow {SEED}", 5000)
