"""Reading datasets: by name, from a folder with ``id_prop.csv``, or from one table."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from potnet.crystal import Crystal
from potnet.data.dataset import Dataset
from potnet.data.elastic import LICENCE as ELASTIC_LICENCE
from potnet.data.elastic import SOURCE as ELASTIC_SOURCE
from potnet.errors import DataError, Failure, PotNetError, StructureError

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
TABLE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".extxyz", ".xyz")
STRUCTURE_SUFFIXES = (".cif", ".vasp", ".poscar", ".xyz", ".extxyz", ".json", ".pdb")
ID_COLUMNS = ("id", "material_id", "jid", "mpid", "name", "filename", "file", "path")
STRUCTURE_COLUMNS = ("structure", "cif", "poscar", "crystal", "atoms", "path", "filename", "file")
MISSING = {"", "na", "nan", "none", "null", "-", "?"}


@dataclass(frozen=True)
class _Row:
    """One line of a table before its crystal is built.

    Attributes:
        id: Name of the crystal.
        structure: What describes it: a crystal, a mapping, the text of a file, or a path.
        targets: Values as they were found.
        split: Label, or labels by target.
    """

    id: str
    structure: Any
    targets: Mapping[str, Any]
    split: str | Mapping[str, str | None] | None = None


def available() -> dict[str, str]:
    """Return the datasets that come with the package: name and one line about it."""
    return {"elastic": "1,181 inorganic crystals with bulk and shear modulus (VRH, GPa)"}


def open(  # noqa: A001  (potnet.data.open reads like gzip.open)
    source: str | os.PathLike[str],
    *,
    targets: str | Sequence[str] | None = None,
    units: Mapping[str, str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Dataset:
    """Return a dataset.

    Args:
        source: The name of an embedded dataset (see :func:`available`); a folder with an
            ``id_prop.csv`` beside structure files (CGCNN and ALIGNN layouts, header or not); or a
            table, also gzipped: JSON Lines or JSON with records ``{id, lattice, species,
            frac_coords, targets, split}`` or with a structure column (JARVIS, MatBench, pymatgen
            dictionaries); CSV with a column of structures (CIF or POSCAR text, JSON, or paths);
            extended XYZ with targets among the comment's keys.
        targets: Columns to keep, in this order; None keeps all columns of numbers.
        units: Unit of each target, where the source does not say.
        on_error: "raise" stops at the first row that cannot be used; "skip" leaves such rows out
            and lists them in ``failures`` of the dataset.

    Returns:
        Crystals, targets (nan where missing), units and the source's own split if it has one.

    Raises:
        DataError: If the source is unknown, empty or malformed, or a target is not in it.
        StructureError: If a crystal cannot be used and ``on_error`` is "raise".
    """
    wanted = [targets] if isinstance(targets, str) else list(targets or ())
    if str(source) in available():
        return _collect(
            _rows_of_json_lines(_text(EMBEDDED_FOLDER / f"{source}.jsonl.gz"), str(source)),
            name=str(source),
            wanted=wanted,
            units={"bulk_modulus": "GPa", "shear_modulus": "GPa", **(units or {})},
            on_error=on_error,
            source=ELASTIC_SOURCE,
            licence=ELASTIC_LICENCE,
        )
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{source}: a dataset must be one of {', '.join(available())} or an existing file or "
            "folder, got neither. Check the path."
        )
    try:
        return _collect(
            _rows_of(path),
            name=_stem(path),
            wanted=wanted,
            units=units or {},
            on_error=on_error,
            source=path.name,
        )
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: must be a readable table in UTF-8, got {type(error).__name__}: {error}. "
            "Copy or download it again."
        ) from error


# ------------------------------------------------------------------------------------- layouts


def _rows_of(path: Path) -> Iterator[_Row | Failure]:
    if path.is_dir():
        return _rows_of_folder(path)
    if path.name == "id_prop.csv":
        return _rows_of_folder(path.parent)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _rows_of_json_lines(_text(path), path.name)
    if suffix == ".json":
        return _rows_of_json(path)
    if suffix == ".csv":
        return _rows_of_csv(path)
    if suffix in (".extxyz", ".xyz"):
        return _rows_of_xyz(path)
    raise DataError(
        f"{path}: the name of a dataset must end in {', '.join(TABLE_SUFFIXES)} (or these with "
        f".gz), got {path.name!r}. Convert it, or name a folder with an id_prop.csv."
    )


def _rows_of_json_lines(file: TextIO, where: str) -> Iterator[_Row]:
    with file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _row_of_record(_parse_json(line, f"{where}: line {number}"), number, where)


def _rows_of_json(path: Path) -> Iterator[_Row]:
    with _text(path) as file:
        content = _parse_json(file.read(), path.name)
    if isinstance(content, Mapping) and {"columns", "data"} <= content.keys():
        records = _records_of_split_table(content, path.name)
    elif isinstance(content, list):
        records = content
    else:
        raise DataError(
            f"{path}: must hold a list of records, got {type(content).__name__}. "
            "Write one object per crystal, or JSON Lines."
        )
    return (_row_of_record(record, k, path.name) for k, record in enumerate(records, 1))


def _records_of_split_table(content: Mapping[str, Any], where: str) -> list[Any]:
    """Return the records of a table that pandas wrote with ``orient="split"``."""
    columns, rows = content["columns"], content["data"]
    index = content.get("index", list(range(len(rows))) if isinstance(rows, list) else None)
    is_table = all(isinstance(part, list) for part in (columns, rows, index))
    if not is_table or len(rows) != len(index):
        raise DataError(
            f"{where}: must have lists of columns, of data and of as many indices, got others. "
            "Write it with pandas, orient='split'."
        )
    for number, values in enumerate(rows, 1):
        _check_width(values if isinstance(values, list) else [], len(columns), f"{where}: {number}")
    return [
        {"id": id, **dict(zip(map(str, columns), values, strict=True))}
        for id, values in zip(index, rows, strict=True)
    ]


def _row_of_record(record: Any, number: int, where: str) -> _Row:
    """Return the row of a JSON object, with targets in ``targets`` or beside the structure."""
    if not isinstance(record, Mapping):
        raise DataError(
            f"{where}: record {number} must be an object, got {type(record).__name__}. "
            "Write {id, lattice, species, frac_coords, targets}."
        )
    id = str(next((record[key] for key in ID_COLUMNS if record.get(key) is not None), number))
    if {"lattice", "species", "frac_coords"} <= record.keys():
        keys = ("lattice", "species", "frac_coords")
        structure: Any = {key: record[key] for key in keys}
    else:
        column = next((key for key in STRUCTURE_COLUMNS if key in record), None)
        if column is None:
            raise DataError(
                f"{where}: record {number} must have lattice, species and frac_coords, or one of "
                f"{', '.join(STRUCTURE_COLUMNS)}, got {', '.join(list(record)[:8])}. "
                "Rename the column of structures."
            )
        structure = record[column]
    targets = record.get("targets")
    if not isinstance(targets, Mapping):
        taken = {*ID_COLUMNS, *STRUCTURE_COLUMNS, "lattice", "species", "frac_coords", "split"}
        targets = {key: value for key, value in record.items() if key not in taken}
    return _Row(id, structure, targets, record.get("split"))


def _rows_of_csv(path: Path) -> Iterator[_Row]:
    csv.field_size_limit(2**27)
    with _text(path) as file:
        reader = csv.reader(file, skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        lower = [name.lower() for name in header]
        structure = next((lower.index(k) for k in STRUCTURE_COLUMNS if k in lower), None)
        if structure is None:
            raise DataError(
                f"{path}: the header must name a column of structures "
                f"({', '.join(STRUCTURE_COLUMNS)}), got {', '.join(header) or 'nothing'}. "
                "Rename it, or put id_prop.csv beside structure files."
            )
        id = next((lower.index(k) for k in ID_COLUMNS if k in lower), None)
        split = lower.index("split") if "split" in lower else None
        values = [k for k in range(len(header)) if k not in (structure, id, split)]
        for number, cells in enumerate(reader, 1):
            if not any(cells):
                continue
            _check_width(cells, len(header), f"{path.name}: row {number}")
            yield _Row(
                cells[id] if id is not None else str(number),
                _cell_structure(cells[structure], path.parent),
                {header[k]: cells[k] for k in values},
                cells[split].strip() or None if split is not None else None,
            )


def _rows_of_folder(folder: Path) -> Iterator[_Row]:
    """Return the rows of an ``id_prop.csv``: id or file name, then targets; maybe a header."""
    path = folder / "id_prop.csv"
    if not path.is_file():
        raise DataError(
            f"{folder}: a dataset folder must hold id_prop.csv, got none. Write one line "
            "`name,target` per structure file, or give a table."
        )
    with _text(path) as file:
        lines = [row for row in csv.reader(file, skipinitialspace=True) if any(row)]
    if not lines:
        raise DataError(f"{path}: must hold at least one line, got none.")
    first, width = lines[0], max(map(len, lines))
    if not _find_structure(folder, first[0]) and not any(_is_value(cell) for cell in first[1:]):
        names, lines = first[1:], lines[1:]
    else:
        names = ["target"] if width == 2 else [f"target{k}" for k in range(1, width)]
    for number, cells in enumerate(lines, 1):
        if len(cells) > 1:  # An id alone is a crystal without targets.
            _check_width(cells, len(names) + 1, f"{path}: row {number}")
        structure = _find_structure(folder, cells[0]) or folder / cells[0]
        row = dict(zip(names, cells[1:], strict=False))
        split = row.pop("split", None)
        yield _Row(cells[0].strip(), structure, row, split)


def _rows_of_xyz(path: Path) -> Iterator[_Row | Failure]:
    from potnet.io import scan

    for number, item in enumerate(scan([path])):
        if isinstance(item, Failure):
            yield item
            continue
        info = {k: v for k, v in item.info.items() if not isinstance(v, Mapping)}
        id = next((str(info[key]) for key in ID_COLUMNS if key in info), item.id or str(number))
        targets = {k: v for k, v in info.items() if k not in (*ID_COLUMNS, "split")}
        split = info.get("split")
        yield _Row(id, item, targets, None if split is None else str(split))


def _find_structure(folder: Path, name: str) -> Path | None:
    """Return the structure file of a line, named in full (ALIGNN) or by its id (CGCNN)."""
    name = name.strip()
    candidates = (folder / f"{name}{suffix}" for suffix in ("", *STRUCTURE_SUFFIXES))
    return next((path for path in candidates if path.is_file()), None) if name else None


def _check_width(cells: Sequence[str], width: int, where: str) -> None:
    if len(cells) != width:
        raise DataError(
            f"{where}: must have {width} cells, got {len(cells)}. Leave missing values empty."
        )


# -------------------------------------------------------------------------------------- content


def _collect(
    rows: Iterable[_Row | Failure],
    *,
    name: str,
    wanted: Sequence[str],
    units: Mapping[str, str],
    on_error: str,
    source: str = "",
    licence: str = "",
) -> Dataset:
    """Build the crystals and the columns."""
    kept: list[tuple[_Row, Crystal]] = []
    failures: list[Failure] = []
    for row in rows:
        if isinstance(row, Failure):
            if on_error == "raise":
                raise StructureError(row.reason)
            failures.append(row)
            continue
        try:
            _check_targets(row, wanted)
            kept.append((row, _crystal(row)))
        except PotNetError as error:
            if on_error == "raise":
                raise
            failures.append(Failure(row.id, "read", str(error)))
    if not kept:
        reason = f"; first: {failures[0].reason}" if failures else ""
        raise DataError(f"{name}: must hold at least one usable crystal, got none{reason}")
    columns = _columns([row for row, _ in kept], wanted, name)
    unknown = [key for key in units if key not in columns] if wanted == [] else []
    if unknown:
        raise DataError(
            f"{name}: `units` must name targets ({', '.join(columns)}), got {unknown[0]!r}. "
            "Correct the name."
        )
    return Dataset(
        ids=tuple(row.id for row, _ in kept),
        crystals=tuple(crystal for _, crystal in kept),
        targets=columns,
        units={key: unit for key, unit in units.items() if key in columns},
        splits=_splits([row for row, _ in kept], list(columns)),
        name=name,
        source=source,
        licence=licence,
        failures=tuple(failures),
    )


def _columns(
    rows: Sequence[_Row], wanted: Sequence[str], name: str
) -> dict[str, NDArray[np.float64]]:
    """Return the columns asked for, or those that hold numbers and nothing else."""
    found = list(dict.fromkeys(chain.from_iterable(row.targets for row in rows)))
    absent = [target for target in wanted if target not in found]
    if absent:
        raise DataError(
            f"{name}: targets must be columns of the data ({', '.join(found) or 'it has none'}), "
            f"got {absent[0]!r}. Correct the name."
        )
    columns = {}
    for target in wanted or found:
        values = [_number(row.targets.get(target)) for row in rows]
        if None in values:  # Words, not numbers; a target asked for was checked row by row.
            continue
        column = np.array(values, dtype=np.float64)
        if target in wanted or not np.isnan(column).all():
            columns[target] = column
    return columns


def _check_targets(row: _Row, wanted: Sequence[str]) -> None:
    """Raise unless the targets asked for are numbers; without a wish, unless they are finite."""
    for name in wanted or row.targets:
        value = _number(row.targets.get(name))
        if (value is None and name in wanted) or (value is not None and math.isinf(value)):
            raise DataError(
                f"{row.id}: target {name!r} must be a finite number or missing, got "
                f"{row.targets[name]!r}. Correct it, or leave it empty."
            )


def _number(value: Any) -> float | None:
    """Return a number, nan for a missing one, None for what is neither."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        if value.strip().lower() in MISSING:
            return math.nan
        try:
            return float(value)
        except ValueError:
            return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return None
    return float(value)


def _is_value(cell: str) -> bool:
    return _number(cell) is not None


def _splits(rows: Sequence[_Row], targets: Sequence[str]) -> dict[str, NDArray[np.str_]]:
    """Return the labels for all targets, or by target where the rows say so."""
    if all(row.split is None for row in rows):
        return {}
    if not any(isinstance(row.split, Mapping) for row in rows):
        return {"": np.array([str(row.split or "") for row in rows])}
    maps = [row.split if isinstance(row.split, Mapping) else {} for row in rows]
    named = [target for target in targets if any(target in labels for labels in maps)]
    return {t: np.array([labels.get(t) or "" for labels in maps]) for t in named}


def _crystal(row: _Row) -> Crystal:
    """Return the crystal of a row."""
    structure = row.structure
    if isinstance(structure, Path):
        return _only(_read_file(structure), row.id)
    if isinstance(structure, str):
        return _crystal_of_text(structure, row.id)
    return Crystal.from_any(structure, id=row.id)


def _cell_structure(cell: str, folder: Path) -> str | Path:
    """Return the content of a cell, as a path if it is one line and no JSON."""
    text = cell.strip()
    return folder / text if "\n" not in text and not text.startswith("{") else text


def _crystal_of_text(text: str, id: str) -> Crystal:
    """Return the crystal in JSON, in CIF or in POSCAR text."""
    if text.startswith("{"):
        return Crystal.from_any(_parse_json(text, id), id=id)
    if "_cell_length_a" in text:
        from potnet.io.cif import parse_cif

        return _only([found for _, found in parse_cif(text, id, id)], id)
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


def _text(path: Path) -> TextIO:
    """Open a text file, gzipped or not; a byte order mark is passed over."""
    if path.name.endswith(".gz"):
        return io.TextIOWrapper(gzip.GzipFile(path, "rb"), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: must be JSON, got text that is not ({error}). Write it again."
        ) from None


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    suffix = Path(name).suffix.lower()
    return name.removesuffix(Path(name).suffix) if suffix in TABLE_SUFFIXES else name
