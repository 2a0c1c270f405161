"""Crystals as JSON: one, a list, a table by id, or a database of ASE."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from potnet.crystal import Crystal
from potnet.crystal.claims import say_content
from potnet.crystal.convert import name_in
from potnet.errors import StructureError
from potnet.io.found import Found, attempt
from potnet.io.site_elements import say_labels

MAX_LISTS = 4_000_000  # and objects, of one document: each takes some hundred bytes
MAX_VALUES = 16_000_000

_BLANKS = re.compile(r"\s*")
_DTYPES = ("float64", "float32", "int64", "int32", "int8", "uint8", "bool")


def parse_json(text: str, source: str, id: str) -> Iterator[Found]:
    """Yield the crystals of a JSON document: one, a list, a table by id, or ASE's own."""
    check_size(text, source)
    try:
        items = list(items_of(plain_arrays(_documents(text))))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        yield id, StructureError(f"{source}: the file must be valid JSON, got '{error}'. Mend it.")
        return
    if not items:
        yield id, StructureError(f"{source}: the file must hold a crystal, got none. Check it.")
    for key, item in items:
        name, where = (id, source) if key is None else (f"{id}#{key}", f"{source}, item {key}")

        def build(item: Any = item, where: str = where) -> Crystal:
            own = name_in(item)
            try:
                crystal = Crystal.from_any(item, id=own or where)
            except StructureError as error:
                raise StructureError(f"{where}: {error}" if own else str(error)) from error
            if isinstance(item, Mapping):
                _say_what_differs(item, crystal, where)
            return crystal.replace(id=own)

        yield attempt(name, where, build)


def _documents(text: str) -> Any:
    """Return what a JSON text holds; of JSON Lines under the name of JSON, the list of lines."""
    found, at, text = [], 0, text.strip()
    while at < len(text) or not found:
        item, end = json.JSONDecoder().raw_decode(text, at)
        found.append(item)
        at = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
    return found[0] if len(found) == 1 else found


def _say_what_differs(item: Mapping[str, Any], crystal: Crystal, where: str) -> None:
    """Say which formula, number of atoms or labels beside a crystal are not its own."""
    parts = [part for part in (item, item.get("attributes"), item.get("structure")) if part]
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        say_content(part, crystal.numbers, where)
        sites = part.get("sites")
        labels = [site.get("label") for site in sites] if isinstance(sites, list) else []
        if len(labels) == crystal.n_atoms and all(isinstance(label, str) for label in labels):
            say_labels(labels, crystal.numbers, where)


def check_size(text: str, source: str) -> None:
    """Raise if the document would need much more memory as objects than as text."""
    lists, values = text.count("[") + text.count("{"), text.count(",")
    if lists > MAX_LISTS or values > MAX_VALUES:
        raise StructureError(
            f"{source}: a JSON document must have at most {MAX_LISTS} lists and {MAX_VALUES} "
            f"values, got {lists} and {values}. Split it, or use JSON lines."
        )


def items_of(data: Any) -> Iterator[tuple[object, Any]]:
    """Yield the structures of a document with what names each, None where there is but one."""
    if isinstance(data, list):
        yield from enumerate(data) if len(data) > 1 else ((None, item) for item in data)
    elif isinstance(data, Mapping) and isinstance(data.get("data"), list):  # of a server
        yield from items_of(data["data"])
    elif isinstance(data, Mapping) and data.keys() >= {"data", "meta"}:  # one of OPTIMADE
        yield None, data["data"]
    elif isinstance(data, Mapping) and {"ids", "nextid"} <= data.keys():  # a database of ASE
        for key in data["ids"]:
            row = data.get(str(key))
            if isinstance(row, Mapping):
                row = {k: row.get(k) for k in ("numbers", "positions", "cell", "pbc")}
            yield key, row
    elif isinstance(data, Mapping) and data and all(isinstance(v, Mapping) for v in data.values()):
        yield from data.items()
    else:
        yield None, data


def plain_arrays(data: Any) -> Any:
    """Return JSON data with the arrays and cells of ASE as plain lists.

    Raises:
        StructureError: If an array does not fit its shape, or is of a kind that no crystal has:
            its size would be whatever the file says.
    """
    if isinstance(data, list):
        return [plain_arrays(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "__ndarray__" in data:
        return _array(data["__ndarray__"])
    data = {key: plain_arrays(value) for key, value in data.items()}
    kind = data.pop("__ase_objtype__", None)
    return data["array"] if kind == "cell" and "array" in data else data


def _array(content: Any) -> list:
    try:
        shape, dtype, values = content
        if dtype not in _DTYPES:
            raise ValueError(f"the kind {str(dtype)[:60]!r}")
        if np.prod([int(n) for n in shape], dtype=float) != np.size(values) or 0 in shape:
            raise ValueError(f"{np.size(values)} values for the shape {str(shape)[:60]}")
        return np.array(values, dtype=dtype).reshape(shape).tolist()
    except (TypeError, ValueError, OverflowError) as error:
        raise StructureError(
            f"array: `__ndarray__` must hold shape, kind ({', '.join(_DTYPES)}) and as many "
            f"numbers, got '{error}'. Write the file again."
        ) from error


def dumps(data: Any) -> str:
    """Return ``data`` as JSON, arrays as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return value.tolist()
        raise StructureError(
            f"crystal: `info` must hold numbers, text, lists and dictionaries to be written, got "
            f"{type(value).__name__}. Leave it out with replace(info={{}})."
        )

    return json.dumps(data, default=plain)
