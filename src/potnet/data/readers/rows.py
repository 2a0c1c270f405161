"""Rows of a table before their crystals are built, and what they may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from potnet.crystal import Crystal
from potnet.data.dataset import PARTS
from potnet.data.record import FOLD, LONGEST, MISSING, Labels, Record, word, yes_or_no
from potnet.data.units import Unit
from potnet.errors import DataError, PotNetError, StructureError
from potnet.io.json_files import plain_arrays
from potnet.text import printable

Item = TypeVar("Item")

ID_COLUMNS = ("id", "material_id", "jid", "mpid", "name", "filename", "file", "path")
STRUCTURE_COLUMNS = ("structure", "cif", "poscar", "crystal", "atoms", "path", "filename", "file")
FIELDS = (
    ("lattice", "species", "frac_coords"),
    ("numbers", "positions", "cell"),
    ("lattice_mat", "coords", "elements"),
    ("lattice", "sites"),
)
MAX_ID_LENGTH = 500
MAX_NAME = 240  # bytes of a path in a table; file systems take 255 for each part

LARGEST = 1e100  # of a target; squares of more than 1e154 are no numbers any more
FIRST_ROWS = 100  # that say whether a column holds words

# Each part can match in one way only, so that a failure is known after one walk along the word.
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.I)
# 1.5 eV, 1.0D+01, 1,234 m/s; 200 GPa if the words behind it are a unit. 4/mmm and 2H are words.
_QUANTITY = re.compile(r"[+\-\u2212]?\d*(?:[.,\u00a0\u202f]\d|\d\s+(\S.*)$)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class RawRecord:
    """One line of a table before its crystal is built.

    Attributes:
        place: File and line, row or record, for messages.
        id: Name of the crystal, as it was found.
        structure: What describes it: a crystal, a mapping, the text of a file, or a path.
        values: Columns that may be targets, as they were found.
        split: Label, or labels by target.
        info: Columns that are no targets.
        units: Unit of a column where the source says it.
    """

    place: str
    id: Any
    structure: Any
    values: Mapping[str, Any] = field(default_factory=dict)
    split: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("values", "info", "units"):
            found = getattr(self, key)
            if not all(name.isprintable() for name in found):
                named = {printable(name): value for name, value in found.items()}
                object.__setattr__(self, key, named)


RawRecords = Iterator[RawRecord | PotNetError]


def record_of(row: RawRecord, wanted: Sequence[str]) -> Record:
    """Return the record of a row.

    Args:
        row: The row.
        wanted: Columns that must be numbers or missing; if there are none, every number is a
            target.

    Raises:
        PotNetError: If the id, the crystal or a target cannot be used; the message says where.
    """
    try:
        id = _checked_id(row.id)
        targets, info = _sorted_out(row.values, wanted)
        crystal = _crystal(row.structure, id)
        info = {name: plain(value) for name, value in {**row.info, **info}.items()}
        return Record(id, crystal, targets, _labels(row.split), info, row.units)
    except PotNetError as error:
        raise type(error)(f"{row.place}: {error}") from error


def walled(build: Callable[[], Item], place: str) -> Item | PotNetError:
    """Return what ``build`` returns, or the reason why there is nothing.

    The wall around each row of a table: the row is foreign text, and libraries of others read a
    part of it, so no list of what they raise is complete; one row must never cost the others.
    ``KeyboardInterrupt`` and the like pass.

    Args:
        build: Reads one row.
        place: File and row, for the message.
    """
    try:
        return build()
    except PotNetError as error:
        return error
    except Exception as error:  # noqa: BLE001  (the wall: see above)
        text = printable(error, 200)
        return DataError(
            f"{place}: must be a row that can be read, got {type(error).__name__}"
            f"{f': {text}' if text else ''}. Correct it, or leave it out."
        )


def plain(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: dates and the like as text."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return str(value)


def row_of_object(record: Any, place: str, number: int, *, id: Any = None) -> RawRecord:
    """Return the row of an object: a crystal or a column of them, and values beside it.

    Args:
        record: Its structure lies in a column of ``STRUCTURE_COLUMNS`` or in keys of ``FIELDS``;
            its values in ``targets`` and, or only, beside them.
        place: File and line, for messages.
        number: The id if the record names none.
        id: The id by which the record was found, which it need not repeat.

    Raises:
        DataError: If it is not an object, or has no structure.
    """
    if not isinstance(record, Mapping):
        raise DataError(
            f"{place}: a record must be an object, got {type(record).__name__}. "
            "Write {id, lattice, species, frac_coords, targets}."
        )
    keys = structure_keys(record)
    if not keys:
        raise DataError(
            f"{place}: a record must have lattice, species and frac_coords, or one of "
            f"{', '.join(STRUCTURE_COLUMNS)}, got {', '.join(map(str, list(record)[:8]))}. "
            "Rename the column of structures."
        )
    one = len(keys) == 1
    structure = record[keys[0]]
    if not one:
        structure = {key: record[key] for key in (*keys, *_OPTIONAL) if key in record}
    named = [key for key in ID_COLUMNS if key in record and key not in keys]
    known = [record[key] for key in named if record[key] is not None]
    found = known[0] if known else (id if id is not None else "" if named else number)
    others = {key: record[key] for key in (*named, *STRUCTURE_COLUMNS) if key in record}
    nested = {k: record[k] for k in ("targets", "info") if isinstance(record.get(k), Mapping)}
    taken = {*keys, *others, *nested, "split", *(() if one else _OPTIONAL)}
    beside = {str(key): value for key, value in record.items() if key not in taken}
    info = {key: value for key, value in others.items() if key not in keys and value is not found}
    units = record.get("units")
    units = units if isinstance(units, Mapping) else {}
    beside = {k: v for k, v in beside.items() if k != "units" or not units}
    if "targets" in nested:
        info, beside = info | beside, {}
    values = beside | dict(nested.get("info", {})) | dict(nested.get("targets", {}))
    units = {str(name): str(unit) for name, unit in units.items()}
    return RawRecord(place, found, structure, values, record.get("split"), info, units)


_OPTIONAL = ("pbc", "cartesian", "abc", "angles", "charge", "@module", "@class")


def structure_keys(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of ``record`` that make its structure; none if it has no structure."""
    for keys in FIELDS:
        if record.keys() >= set(keys):
            return keys
    return next(((key,) for key in STRUCTURE_COLUMNS if record.get(key) is not None), ())


def number(value: Any) -> float | None:
    """Return a number, nan for a missing one, None for what is neither.

    >>> number("1.5e2"), number("na"), number("cubic"), number("1_0"), number(True)
    (150.0, nan, None, None, None)
    """
    if type(value) is float:
        return value
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if len(text) > LONGEST:
            return None
        if text.lower() in MISSING:
            return math.nan
        return float(text) if _NUMBER.fullmatch(text) else None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return None
    try:
        return float(value)
    except (OverflowError, TypeError):  # a whole number beyond all floats; a complex one
        return math.inf


def with_words_apart(
    rows: Iterator[RawRecord | PotNetError], wanted: Sequence[str]
) -> Iterator[RawRecord | PotNetError]:
    """Yield rows, those of the wanted columns that hold words with them among the info.

    The first rows decide what a column holds: numbers, true and false (which are numbers), or
    words. A word in a column of numbers is refused later, by its row.
    """
    first = list(islice(rows, FIRST_ROWS)) if wanted else []
    seen = [row.values for row in first if isinstance(row, RawRecord)]
    columns = [name for name in wanted if _holds_words([v[name] for v in seen if name in v])]
    for row in chain(first, rows):
        if isinstance(row, RawRecord) and any(name in row.values for name in columns):
            words = {name: _as_word(row.values[name]) for name in columns if name in row.values}
            values = {k: value for k, value in row.values.items() if k not in words}
            row = replace(row, values=values, info={**row.info, **words})
        yield row


def _holds_words(values: Sequence[Any]) -> bool:
    n_numbers = sum(x is not None and x == x for x in map(number, values))
    others = [value for value in values if number(value) is None and _is_word(value)]
    return len(others) > n_numbers and not all(yes_or_no(value) is not None for value in others)


def _is_word(value: Any) -> bool:
    """Return whether a cell names a class: it has a letter, and is no quantity and no error."""
    text = value.strip() if isinstance(value, str) else word(value) or ""
    quantity = _QUANTITY.match(text)
    is_number = quantity is not None and (not quantity[1] or Unit.parse(quantity[1]) is not None)
    is_missing = text.lower() in MISSING or text.startswith("#")  # as spreadsheets write errors
    return any(map(str.isalpha, text)) and not is_number and not is_missing


def _as_word(value: Any) -> str:
    found = word(value)
    return printable(value, LONGEST) if found is None else found


def _sorted_out(
    values: Mapping[str, Any], wanted: Sequence[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the targets, and what else there is."""
    targets: dict[str, float] = {}
    info: dict[str, Any] = {}
    for name in wanted or values:
        if name not in values:
            continue
        value = values[name]
        found = number(value)
        if found is None and wanted:
            found = yes_or_no(value)
        if found is None and wanted:
            raise DataError(
                f"target {name!r} must be a finite number or missing, got {str(value)[:60]!r}. "
                "Correct it, or leave it empty."
            )
        if found is not None and abs(found) > LARGEST:
            raise DataError(
                f"target {name!r} must be a finite number of at most {LARGEST:g}, got "
                f"{str(value)[:60]!r}. Correct it, or leave it empty."
            )
        if found is not None:
            targets[name] = found
    info = {name: value for name, value in values.items() if name not in targets}
    return targets, info


def _checked_id(id: Any) -> str:
    """Return the id of a row as text."""
    text = str(id).strip() if isinstance(id, (str, int, float, np.integer, np.floating)) else ""
    if not text or len(text) > MAX_ID_LENGTH or not text.isprintable() or isinstance(id, bool):
        raise DataError(
            f"`id` must be a name of 1 to {MAX_ID_LENGTH} printable characters, got "
            f"{str(id)[:60]!r}. Give each crystal a name."
        )
    return text


def _labels(split: Any) -> Labels | None:
    """Return the label of a row, or its labels by target; None if there is none."""
    if isinstance(split, Mapping):
        labels = {str(name): _labels(label) for name, label in split.items()}
        return {name: label for name, label in labels.items() if isinstance(label, str)}
    if split is None:
        return None
    if not isinstance(split, str):
        raise DataError(f"`split` must be a word, got {split!r}. Use train, val or test.")
    return _label(split)


@lru_cache(1024)
def _label(split: str) -> str | None:
    if not split.strip():
        return None
    if split.strip() not in PARTS and not FOLD.fullmatch(split.strip()):
        raise DataError(
            f"`split` must be {', '.join(PARTS)}, fold0, fold1... or empty, got {split[:60]!r}. "
            "Rename the label."
        )
    return split.strip()


# ---------------------------------------------------------------------------------- structures


def _crystal(structure: Any, id: str) -> Crystal:
    """Return the crystal that a row describes, under the id of the row."""
    if isinstance(structure, Path):
        if not structure.is_file():
            got = "a folder" if structure.is_dir() else "none"
            raise StructureError(
                f"{structure}: the structure file must exist, got {got}. Correct the name."
            )
        return _only(_read_file(structure), id).replace(id=id)
    if isinstance(structure, str):
        return _crystal_of_text(structure, id)
    if not isinstance(structure, (Mapping, Crystal)):
        raise StructureError(
            f"{id}: the structure must be text or a dictionary, got {type(structure).__name__}. "
            "Fill it in, or leave the row out."
        )
    if isinstance(structure, Mapping) and "numbers" in structure:
        structure = {
            key: plain_arrays(value) if isinstance(value, dict) else value
            for key, value in structure.items()
        }
    return Crystal.from_any(structure, id=id)


def structure_of_cell(cell: str, folder: Path) -> str | Path:
    """Return the content of a cell: text of a structure, or the path of a file in ``folder``."""
    text = cell.strip()
    is_text = "\n" in text or "\r" in text or text.startswith("{") or "_cell_length_a" in text
    return cell if is_text else path_within(folder, text)


def path_within(folder: Path, name: str) -> Path:
    """Return the path of file ``name`` in ``folder``; tables from Windows write ``\\`` for ``/``.

    Raises:
        DataError: If it lies outside of the folder: a table from elsewhere must not decide which
            files of this machine are read.
    """
    name = name.strip()
    for spelled in (name, name.replace("\\", "/")):
        path = Path(spelled)
        is_name = path.name and name.isprintable() and len(name.encode()) <= MAX_NAME
        is_inside = not (path.is_absolute() or ".." in path.parts or _DRIVE.match(spelled))
        if not is_name or not is_inside:
            raise DataError(
                f"the structure file must lie in the folder of the table, got {name[:60]!r}. "
                "Name it relative to the table."
            )
        if (folder / path).exists():
            break
    return folder / path


def _crystal_of_text(text: str, id: str) -> Crystal:
    """Return the crystal in JSON, in CIF or in POSCAR text."""
    if text.lstrip().startswith("{"):
        from potnet.data.readers.json_stream import parse

        return Crystal.from_any(parse(text, id), id=id)
    if "_cell_length_a" in text:
        from potnet.io.cif import parse_cif

        return _only([item for _, item in parse_cif(text, id, id)], id)
    from potnet.io.poscar import parse_poscar

    return parse_poscar(text, id).replace(id=id)


def _read_file(path: Path) -> list[Crystal]:
    from potnet.io import read

    return read(path)


def _only(found: Sequence[Crystal | StructureError], id: str) -> Crystal:
    if len(found) != 1:
        raise StructureError(
            f"{id}: must have one structure, got {len(found)}. Split the file, or name one."
        )
    crystal = found[0]
    if isinstance(crystal, StructureError):
        raise crystal
    return crystal
