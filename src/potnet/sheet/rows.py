"""Sheet: one row for each property of each crystal, and the same as a wide table."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

from potnet.errors import Failure
from potnet.prediction.rows import failures_html, html_table
from potnet.sheet.files import open_table, text_of

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Row:
    """One property of one crystal.

    Attributes:
        id: Id of the crystal; its place in the input, counted from 0, where it has none.
        formula: Reduced formula.
        n_atoms: Atoms of the cell as it was read.
        space_group: Symbol and number, within 0.01 Å; empty if none was found.
        property: Standard name of the property.
        value: Its value; nan where it does not apply, and ``note`` says why.
        lower, upper: Ends of the interval; nan where there is none.
        unit: Unit of the three numbers.
        level_of_theory: Functional of the values that the model has learned.
        model: Where the value comes from.
        flags: Reasons to doubt the value and its interval, in words.
        reference: The value that is known of this very crystal at this level; nan if none is.
        note: What else there is to say: what it decomposes into, where the reference is from.
    """

    id: str
    formula: str
    n_atoms: int
    space_group: str
    property: str
    value: float
    lower: float = math.nan
    upper: float = math.nan
    unit: str = ""
    level_of_theory: str = ""
    model: str = ""
    flags: tuple[str, ...] = ()
    reference: float = math.nan
    note: str = ""

    def record(self) -> dict[str, Any]:
        """Return the fields as tables hold them: flags as one text, None for what is not there."""
        found: dict[str, Any] = vars(self) | {"flags": "; ".join(self.flags)}
        for name in NUMBERS:
            if math.isnan(found[name]):
                found[name] = None
        return found

    def cells(self, *, digits: int = 7) -> list[str]:
        """Return the fields as text, in the order of ``COLUMNS``, empty for what is not there."""
        return [text_of(value, digits) for value in self.record().values()]


COLUMNS = tuple(field.name for field in fields(Row))
NUMBERS = ("value", "lower", "upper", "reference")
ABOUT = ("id", "formula", "n_atoms", "space_group")
"""Columns that say which crystal it is."""


class Sheet(Sequence[Row]):
    """Rows of a sheet, crystal after crystal; what failed is kept beside them.

    Args:
        rows: One row per crystal and property.
        failures: What could not be used, with the reason.
    """

    def __init__(self, rows: Iterable[Row], failures: Iterable[Failure] = ()) -> None:
        self._rows = tuple(rows)
        self.failures = tuple(failures)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sheet: ...
    def __getitem__(self, index: int | slice) -> Row | Sheet:
        return Sheet(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        n_crystals = sum(1 for _ in crystals_of(self._rows))
        return f"<Sheet: {n_crystals} crystals, {len(self)} rows, {len(self.failures)} failures>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the rows as a table."""
        names = ("id", "formula", "property", *NUMBERS[:3], "unit", "known", "remarks")
        rows = (
            (row.id, row.formula, row.property, row.value, row.lower, row.upper, row.unit,
             row.reference, "; ".join(filter(None, (*row.flags, row.note))))
            for row in self._rows
        )  # fmt: skip
        return html_table(names, rows, len(self)) + failures_html(self.failures)

    def wide(self) -> list[dict[str, Any]]:
        """Return one record a crystal: see :func:`wide_record`."""
        return [wide_record(rows) for rows in crystals_of(self._rows)]

    def to_pandas(self, *, wide: bool = False) -> pandas.DataFrame:
        """Return the rows, or one row a crystal, as a table of pandas."""
        import pandas

        if wide:
            return pandas.DataFrame(self.wide())
        return pandas.DataFrame([row.record() for row in self._rows], columns=list(COLUMNS))

    def write(self, path: str | os.PathLike[str], *, wide: bool = False) -> None:
        """Write a .csv, .json, .parquet or .xlsx file, whole or not at all.

        Raises:
            ConfigError: If the name ends otherwise, or the library for the format is missing.
        """
        with open_table(path, () if wide else COLUMNS) as table:
            for rows in crystals_of(self._rows):
                for record in records_of(rows, wide=wide):
                    table.write(record)


def crystals_of(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each crystal, which stand together."""
    group: list[Row] = []
    for row in rows:
        if is_next(group, row):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def is_next(group: Sequence[Row], row: Row) -> bool:
    """Return whether a row belongs to the next crystal: one has each property once."""
    return bool(group) and (
        any(getattr(row, name) != getattr(group[0], name) for name in ABOUT)
        or any((row.property, row.model) == (old.property, old.model) for old in group)
    )


def records_of(rows: Sequence[Row], *, wide: bool) -> list[dict[str, Any]]:
    """Return the records of a crystal as a table has them: one for each row, or one for all."""
    if wide:
        return [wide_record(rows)] if rows else []
    return [row.record() for row in rows]


def wide_record(rows: Sequence[Row]) -> dict[str, Any]:
    """Return one record for the rows of a crystal.

    Each property has the columns NAME, NAME_lower, NAME_upper and, if a reference is known,
    NAME_reference, units in brackets; a second model of the same property adds its name.
    ``flags`` and ``notes`` hold all of them, each after its property.
    """
    record: dict[str, Any] = {name: getattr(rows[0], name) for name in ABOUT}
    flags, notes = [], []
    for row in rows:
        cells = row.record()
        name = row.property
        if any(key.partition(" ")[0] == name for key in record):
            name = f"{name}.{row.model}"
        unit = f" [{row.unit}]" if row.unit else ""
        record[f"{name}{unit}"] = cells["value"]
        for end in ("lower", "upper", "reference"):
            record[f"{name}_{end}{unit}"] = cells[end]
        flags += [f"{name}: {flag}" for flag in row.flags]
        notes += [f"{name}: {row.note}"] if row.note else []
    return record | {"flags": "; ".join(flags), "notes": "; ".join(notes)}
