"""Extended XYZ: frames of atoms with a line of keys, read one by one and to the letter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import MAX_ATOMS, NUMBERS, Crystal, number_of
from potnet.crystal.claims import check_cartesian, check_claims, periodicity, say_content
from potnet.crystal.elements import SYMBOLS
from potnet.errors import StructureError
from potnet.io.found import NUMBER, Found, attempt

_INTEGER = re.compile("[+-]?[0-9]{1,18}")
_ITEM = re.compile(
    r"""\s*(?P<key>"(?:[^"\\]|\\.)*"|[^\s="']+)
    (?:\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|\{[^{}]*\}|\[[^]]*(?:\](?=\s*[],[])[^]]*)*\]
    |[^\s"'{\[]\S*))?(?=\s|$)""",
    re.VERBOSE,
)
MAX_FRAME = 2**26  # characters of all lines of a frame

_DEFAULT = "species:S:1:pos:R:3"
_TAKEN = ("lattice", "pbc", "properties", "periodic", "periodicity", "is_periodic")
_OCCUPANCIES = ("occupancy", "occupancies", "occ")


class _Frame(NamedTuple):
    """The lines of a frame, with the number of the first; a reason where they are no frame."""

    line: int
    header: str
    atoms: list[str]
    reason: str = ""


def frames_of(lines: Iterable[str]) -> Iterator[tuple[_Frame, int, bool]]:
    """Yield the frames of a text, their numbers, and whether each is the only one.

    The memory needed is that of two frames. A frame that lacks lines is the last one, as nobody
    knows where the next would begin.
    """
    frames = _frames(iter(lines))
    first = next(frames, None)
    if first is None:
        yield _Frame(0, "", []), 0, True
        return
    second = next(frames, None)
    yield first, 0, second is None
    for index, frame in enumerate(chain([second] if second else [], frames), 1):
        yield frame, index, False


def read_frame(frame: _Frame, index: int, is_only: bool, source: str, id: str) -> Iterator[Found]:
    """Yield id and crystal of a frame of :func:`frames_of`, or what is wrong with it.

    Args:
        frame: Its lines.
        index: Its number.
        is_only: Whether there is no other.
        source: Name of the file, for messages.
        id: Name of a crystal that has none in its frame, with ``#`` and the number of the frame if
            there are several.
    """
    if not frame.line:
        yield id, StructureError(f"{source}: the file must hold a frame, got none. Check it.")
        return
    yield _found(frame, index, is_only, source, id)


def format_extxyz(crystals: list[Crystal]) -> str:
    """Return one frame of extended XYZ for each crystal, with its ``info``."""
    from ase.io.extxyz import key_val_dict_to_str

    frames = []
    for crystal in crystals:
        info = dict(crystal.info) | ({"id": crystal.id} if crystal.id else {})
        header = [
            f'Lattice="{_join(crystal.cell.ravel())}"',
            f"Properties={_DEFAULT}",
            f'pbc="{" ".join("FT"[int(flag)] for flag in crystal.pbc)}"',
            key_val_dict_to_str(info).replace("\n", " "),
        ]
        atoms = zip(crystal.symbols, crystal.positions, strict=True)
        rows = [f"{symbol} {_join(xyz)}" for symbol, xyz in atoms]
        frames.append("\n".join([str(crystal.n_atoms), " ".join(header).strip(), *rows]))
    return "\n".join(frames) + "\n"


def _join(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)


def _frames(lines: Iterator[str]) -> Iterator[_Frame]:
    at = 0
    for line in lines:
        at += 1
        word = line.strip()
        if not word:  # between frames and after the last
            continue
        n_atoms = int(word) if re.fullmatch("[0-9]{1,9}", word) else 0
        if not 1 <= n_atoms <= MAX_ATOMS:
            yield _Frame(at, "", [], f"{word[:60]!r}")
            return
        header = next(lines, None)
        atoms, size = [], 0
        for atom in islice(lines, n_atoms):
            atoms.append(atom)
            size += len(atom)
            if size > MAX_FRAME:
                yield _Frame(at, "", [], f"lines of more than {MAX_FRAME} characters")
                return
        if header is None or len(atoms) < n_atoms:
            yield _Frame(at, "", [], f"{word!r} and {len(atoms)} lines of atoms")
            return
        yield _Frame(at, header, atoms)
        at += 1 + n_atoms


def _found(frame: _Frame, index: int, is_only: bool, source: str, id: str) -> Found:
    name, where = (id, source) if is_only else (f"{id}#{index}", f"{source}, frame {index}")

    def build() -> Crystal:
        if frame.reason:
            raise StructureError(
                f"{source}, line {frame.line}: a frame must begin with its number of atoms, 1 to "
                f"{MAX_ATOMS}, and have a line for each, got {frame.reason}. Mend the frame."
            )
        info = _parse_header(frame.header, f"{source}, line {frame.line + 1}")
        crystal = _crystal(frame, info, where, source)
        return crystal.replace(id=str(info.get("id", "")).strip())

    return attempt(name, where, build)


def _crystal(frame: _Frame, info: dict[str, Any], where: str, source: str) -> Crystal:
    taken = _taken(info, where)
    lattice: Any = taken.get("lattice")
    flat = np.asarray(lattice, dtype=object).ravel() if np.shape(lattice) in ((9,), (3, 3)) else ()
    if len(flat) != 9 or any(isinstance(value, bool) for value in flat):
        got = "none" if lattice is None else repr(str(lattice)[:60])
        raise StructureError(
            f"{where}: `Lattice` must be nine numbers, the three lattice vectors, got {got}. "
            "Give the cell in the second line of the frame."
        )
    check_claims(info, where)
    pbc = periodicity(taken, where)
    numbers, positions = _parse_atoms(frame, str(taken.get("properties", _DEFAULT)), source)
    crystal = Crystal(numbers, positions, np.reshape(lattice, (3, 3)), pbc, id=where, info=info)
    check_cartesian(crystal.numbers, crystal.positions, crystal.cell, where)
    say_content(info, crystal.numbers, where)
    return crystal


def _taken(info: dict[str, Any], where: str) -> dict[str, Any]:
    """Take the keys that say what a frame is out of ``info``, in capitals or not."""
    found: dict[str, Any] = {}
    for key in [key for key in info if key.lower() in _TAKEN]:
        value = info.pop(key)
        if found.setdefault(key.lower(), value) != value:
            raise StructureError(
                f"{where}: `{key}` must be given once, got two values. Remove one of them."
            )
    return found


def _parse_header(text: str, where: str) -> dict[str, Any]:
    """Return the items of the line of keys; words without a value are true."""
    info: dict[str, Any] = {}
    at, text = 0, text.strip()
    while at < len(text):
        match = _ITEM.match(text, at)
        if match is None:
            if "lattice" not in text.lower():
                return {}  # any comment, as plain XYZ has it; the cell will be missed
            raise StructureError(
                f"{where}: the keys must be key=value, quoted where there are spaces, got "
                f"{text[at : at + 60].strip()!r}. Correct the line."
            )
        key = _unquoted(match["key"])
        if key in info and not (info[key] is True and match["value"] is None):
            raise StructureError(
                f"{where}: a key must not repeat, got {key[:60]!r} twice. Remove one."
            )
        info[key] = True if match["value"] is None else _value(match["value"], where)
        at = match.end()
    return info


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _value(text: str, where: str) -> Any:
    """Return a number, a bool, a list of them, or text."""
    if text[0] in "\"'":
        text = _unquoted(text) if text.startswith('"') else text[1:-1]
    elif text[0] in "{[":
        return _array(text)
    if text.startswith("_JSON "):
        try:
            return json.loads(text.removeprefix("_JSON "))
        except (ValueError, RecursionError) as error:
            raise StructureError(
                f"{where}: the value after _JSON must be JSON, got '{error}'. Correct the line."
            ) from error
    words = text.split()
    plain = [_scalar(word) for word in words]
    if len(plain) > 1 and not any(isinstance(value, str) for value in plain):
        return plain
    return plain[0] if len(plain) == 1 and text == words[0] else text


def _array(text: str) -> Any:
    inner = text[1:-1]
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    values = [_scalar(word) for word in re.split(r"[\s,]+", inner.strip()) if word]
    return text if any(isinstance(value, str) for value in values) else values


def _scalar(word: str) -> Any:
    if word in ("T", "True", "true", "TRUE"):
        return True
    if word in ("F", "False", "false", "FALSE"):
        return False
    if _INTEGER.fullmatch(word):
        return int(word)
    return _float(word) if NUMBER.fullmatch(word) else word


def _float(word: str) -> float:
    return float(word.replace("d", "e").replace("D", "e"))


def _parse_atoms(
    frame: _Frame, properties: str, source: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return atomic numbers and positions; the columns are as ``Properties`` says."""
    columns, width = _columns(properties)
    if not columns:
        raise StructureError(
            f"{source}, line {frame.line + 1}: `Properties` must list name, kind and columns of "
            "each, with species:S:1 (or Z:I:1) and pos:R:3, got "
            f"{properties[:80]!r}. Correct the line."
        )
    occupancies = [name for name in _OCCUPANCIES if name in columns]
    numbers: list[int] = []
    rows: list[list[str]] = []
    strict = properties != _DEFAULT  # plain XYZ may have more columns than it says
    for at, line in enumerate(frame.atoms, frame.line + 2):
        words = line.split()
        where = f"{source}, line {at}"
        xyz = words[columns["pos"]]
        is_full = len(words) == width if strict else len(words) >= width
        if not is_full or not all(map(NUMBER.fullmatch, xyz)):
            raise StructureError(
                f"{where}: an atom must have {width} columns with three numbers for its position, "
                f"got {line.strip()[:60]!r}. Correct the line."
            )
        numbers.append(_element(words, columns, where))
        rows.append(xyz)
        for name in occupancies:
            _check_occupancy(words[columns[name]], where)
    return np.array(numbers), np.array([[_float(word) for word in xyz] for xyz in rows])


def columns_of_atoms(frame: _Frame) -> dict[str, list[list[float]]]:
    """Return the numbers that a frame states of its atoms beside element and place, by name.

    Raises:
        StructureError: If the line of keys cannot be read.
    """
    taken = _taken(_parse_header(frame.header, "extxyz"), "extxyz")
    columns, _ = _columns(str(taken.get("properties", _DEFAULT)))
    rows = [line.split() for line in frame.atoms]
    found = {}
    for name in columns.keys() - {"species", "pos", "Z"}:
        words = [row[columns[name]] for row in rows]
        if all(row and all(map(NUMBER.fullmatch, row)) for row in words):
            found[name] = [list(map(_float, row)) for row in words]
    return {name: found[name] for name in columns if name in found}


@lru_cache(maxsize=256)
def _columns(properties: str) -> tuple[Mapping[str, slice], int]:
    """Return which words of a line each property is, none if that is wrong, and their number."""
    parts = properties.split(":")
    triples = list(zip(parts[::3], parts[1::3], parts[2::3], strict=False))
    counts = [int(count) if re.fullmatch("[1-9][0-9]{0,3}", count) else 0 for *_, count in triples]
    columns: dict[str, slice] = {}
    at = 0
    for (name, _, _), count in zip(triples, counts, strict=True):
        columns[name] = slice(at, at + count)
        at += count
    kinds = {name: (kind, count) for (name, kind, _), count in zip(triples, counts, strict=True)}
    valid = len(parts) % 3 == 0 and all(counts) and len(columns) == len(triples)
    has_atoms = kinds.get("species") == ("S", 1) or kinds.get("Z") == ("I", 1)
    if not valid or not has_atoms or kinds.get("pos") != ("R", 3):
        return {}, 0
    return columns, at


def _element(words: list[str], columns: Mapping[str, slice], where: str) -> int:
    """Return the atomic number of an atom, from its columns ``Z`` and ``species``."""
    number = 0
    if "Z" in columns:
        word = words[columns["Z"].start]
        number = int(word) if re.fullmatch("[0-9]{1,3}", word) else 0
        if not 1 <= number < len(SYMBOLS):
            raise StructureError(
                f"{where}: `Z` must be an atomic number, got {word[:60]!r}. Correct the line."
            )
    if "species" not in columns:
        return number
    symbol = words[columns["species"].start]
    if re.fullmatch("[0-9]{1,9}", symbol):  # atomic numbers, or types that somebody numbered
        if number:
            return number
        raise StructureError(
            f"{where}: `species` must be the symbol of an element, got {symbol!r}. Write symbols; "
            "or name the column Z:I:1 if these are atomic numbers."
        )
    found = NUMBERS.get(symbol) or number_of(symbol, where)
    if number not in (0, found):
        raise StructureError(
            f"{where}: `species` and `Z` must agree, got {symbol} and {number}. Correct the line."
        )
    return found


def _check_occupancy(words: list[str], where: str) -> None:
    if any(not NUMBER.fullmatch(word) or not abs(_float(word) - 1) <= 1e-3 for word in words):
        raise StructureError(
            f"{where}: `occupancy` must be 1, got {' '.join(words)}. "
            "Replace the disordered sites by an ordered model."
        )
