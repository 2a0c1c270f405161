"""JSON: lists and tables of records, as JARVIS, MatBench, pandas and OPTIMADE write them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from potnet.data.readers.ase import row_of_ase
from potnet.data.readers.json_stream import JsonStream, parse
from potnet.data.readers.rows import (
    STRUCTURE_COLUMNS,
    RawRecord,
    RawRecords,
    row_of_object,
    structure_keys,
    structure_of_cell,
    walled,
)
from potnet.data.readers.text import lines_of, open_text
from potnet.errors import DataError, PotNetError

_ASE_ROW = {"numbers", "positions", "cell", "pbc", "unique_id"}
# What a structure of OPTIMADE needs.
_NEEDED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")
_READ = object()  # what stands for the data of a table that was read already


def read_json_lines(path: Path) -> RawRecords:
    """Yield the row of each line; a bad line does not hide the others."""
    return _with_files(_lines(path), path.parent)


def _lines(path: Path) -> RawRecords:
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file, path.name), 1):
            if not line.strip():
                continue
            place = f"{path.name}, line {number}"
            try:
                record = parse(line, place)
            except PotNetError as error:
                yield error
            else:
                yield _row(record, place, number)


def read_json(path: Path) -> RawRecords:
    """Yield the rows of a document, whichever of the usual forms it has."""
    return _with_files(_document(path), path.parent)


def _document(path: Path) -> RawRecords:
    with open_text(path) as file:
        stream = JsonStream(file, path.name)
        start = stream.peek()
        if start == "[":
            yield from _records(stream.items(), path.name)
        elif start == "{":
            yield from _rows_of_object(stream, path)
            number = 1
            while stream.peek() == "{":  # JSON Lines under the name of JSON
                number += 1
                yield _row(stream.value(), f"{path.name}, record {number}", number)
        else:
            stream.value()
            raise _unknown(path.name, "something else")
        stream.end()


def _with_files(rows: RawRecords, folder: Path) -> RawRecords:
    """Yield rows, the names of files in them as paths in ``folder``."""
    for row in rows:
        if isinstance(row, RawRecord) and isinstance(row.structure, str):
            try:
                row = replace(row, structure=structure_of_cell(row.structure, folder))
            except DataError as error:
                row = DataError(f"{row.place}: {error}")
        yield row


def _records(records: Iterator[Any], place: str) -> RawRecords:
    for number, record in enumerate(records, 1):
        yield _row(record, f"{place}, record {number}", number)


def _row(record: Any, place: str, number: int, id: Any = None) -> RawRecord | PotNetError:
    def build() -> RawRecord:
        if _is_resource(record):
            return _row_of_resource(record, place)
        if isinstance(record, Mapping) and record.keys() >= _ASE_ROW:
            structure = {key: record[key] for key in ("numbers", "positions", "cell", "pbc")}
            return row_of_ase(record, structure, place, number if id is None else id)
        return row_of_object(record, place, number, id=id)

    return walled(build, place)


def _rows_of_object(stream: JsonStream, path: Path) -> RawRecords:
    """Yield the rows of an object: a table, records by id, or one record.

    What a large document lists is read piece by piece: ``data`` of a table whose columns are
    known by then, and records by id. The rest is kept until the end.
    """
    head: dict[str, Any] = {}
    by_id = 0
    for key in stream.names():
        if key == "data" and stream.peek() == "[":
            items = stream.items()
            first = list(islice(items, 1))
            items = chain(first, items)
            if "columns" in head:
                yield from _rows_of_table(head, items, path.name)
                head["data"] = _READ
            elif first and isinstance(first[0], Mapping):
                yield from _records(items, path.name)
                head["data"] = _READ
            else:
                head["data"] = list(items)
            continue
        value = stream.value()
        if by_id and key in ("ids", "nextid"):  # the end of a database of ASE
            continue
        if by_id or (not head and _is_record(key, value)):
            by_id += 1
            yield _row(value, f"{path.name}, record {key!r}", by_id, id=key)
        else:
            head[key] = value
    if by_id:
        return
    _check_response(head, path.name)
    data = head.get("data")
    if _is_resource(data):
        yield _row(data, path.name, 1)
    elif isinstance(data, list) and "columns" in head:
        yield from _rows_of_table(head, iter(data), path.name)
    elif isinstance(data, list):
        yield from _records(iter(data), path.name)
    elif data is not _READ:
        yield from _rows_of_columns(head, path)


def _is_record(key: str, value: Any) -> bool:
    """Return whether a first item is a record under its id, and no part of a single record."""
    return (
        key not in STRUCTURE_COLUMNS and isinstance(value, Mapping) and bool(structure_keys(value))
    )


def _rows_of_table(head: Mapping[str, Any], rows: Iterator[Any], place: str) -> RawRecords:
    """Yield the rows of a table that pandas wrote with ``orient="split"``, as MatBench has it."""
    columns, index = head["columns"], head.get("index")
    if not isinstance(columns, list) or not (index is None or isinstance(index, list)):
        raise DataError(
            f"{place}: must have lists of columns, of data and of as many indices, got others. "
            "Write it with pandas, orient='split'."
        )
    names = [str(column) for column in columns]
    count = 0
    for count, cells in enumerate(rows, 1):
        where = f"{place}, row {count}"
        id = index[count - 1] if index and count <= len(index) else count
        yield _row_of_cells(cells, names, where, count, id)
    if index is not None and len(index) != count:
        raise DataError(
            f"{place}: must have as many rows as indices, got {count} and {len(index)}. "
            "Write it with pandas, orient='split'."
        )


def _row_of_cells(
    cells: Any, names: Sequence[str], place: str, number: int, id: Any
) -> RawRecord | PotNetError:
    if not isinstance(cells, list) or len(cells) != len(names):
        got = len(cells) if isinstance(cells, list) else type(cells).__name__
        return DataError(f"{place}: must have {len(names)} cells, got {got}. Complete the row.")
    return _row(dict(zip(names, cells, strict=True)), place, number, id)


def _rows_of_columns(head: Mapping[str, Any], path: Path) -> RawRecords:
    """Yield the rows of a table by columns, as pandas writes it by default, or the one record."""
    keys = structure_keys(head)
    tables = [value for value in head.values() if isinstance(value, Mapping)]
    if len(keys) == 1 and len(tables) == len(head) and not structure_keys(head[keys[0]]):
        for number, index in enumerate(head[keys[0]], 1):
            record = {name: column[index] for name, column in head.items() if index in column}
            yield _row(record, f"{path.name}, row {index!r}", number, id=index)
    elif keys:
        yield _row(head, path.name, 1)
    else:
        raise _unknown(path.name, f"the keys {', '.join(list(head)[:8]) or 'none'}")


def _unknown(place: str, got: str) -> DataError:
    return DataError(
        f"{place}: must hold a list of records, got {got}. "
        "Write one object per crystal, or JSON Lines."
    )


def _is_resource(record: Any) -> bool:
    """Return whether a record is a structure of OPTIMADE."""
    return isinstance(record, Mapping) and isinstance(record.get("attributes"), Mapping)


def _row_of_resource(resource: Mapping[str, Any], place: str) -> RawRecord:
    """Return the row of a resource; properties whose name begins with ``_`` may be targets.

    Raises:
        DataError: If an attribute that the structure needs was not sent.
    """
    attributes = resource["attributes"]
    if resource.get("type", "structures") != "structures":
        raise DataError(
            f"{place}: a resource must be of type structures, got {str(resource['type'])[:60]!r}. "
            "Ask the structures endpoint."
        )
    absent = next((name for name in _NEEDED if attributes.get(name) is None), None)
    if absent:
        raise DataError(
            f"{place}: a structure must have `{absent}`, got none. Name it in response_fields."
        )
    provided = {k: v for k, v in attributes.items() if k.startswith("_")}
    standard = {k: v for k, v in attributes.items() if not k.startswith("_")}
    info = {k: v for k, v in standard.items() if isinstance(v, (str, int, float))}
    structure = {"type": "structures", "attributes": standard}
    return RawRecord(place, resource.get("id", ""), structure, dict(_flat(provided)), info=info)


def _check_response(head: Mapping[str, Any], place: str) -> None:
    """Raise if a response reports an error; warn if it is one page of several.

    Warns:
        UserWarning: If there is more data on the server.
    """
    errors = head.get("errors")
    if errors:
        detail = errors[0] if isinstance(errors, list) else errors
        raise DataError(
            f"{place}: the response must hold structures, got the error {str(detail)[:200]}. "
            "Correct the request."
        )
    meta, links = head.get("meta"), head.get("links")
    more = isinstance(meta, Mapping) and meta.get("more_data_available")
    if more or (isinstance(links, Mapping) and links.get("next")):
        warnings.warn(
            f"{place}: the response is one page of several (`more_data_available`). "
            "Download the others too, and join them.",
            stacklevel=2,
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the items of nested mappings, with points between the keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
