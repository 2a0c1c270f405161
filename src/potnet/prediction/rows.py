"""Rows of predictions: one, many, and the file that they are written to."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from potnet.errors import FAILURE_COLUMNS, Failure
from potnet.files import atomic_write
from potnet.targets import class_target
from potnet.text import csv_cell

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

SHOWN = 60  # rows


@dataclass(frozen=True, slots=True)
class Prediction:
    """One predicted property of one crystal.

    Attributes:
        id: Id of the crystal; its place in the input, counted from 0, where it has none.
        property: Name of what is predicted.
        prediction: The predicted value, in ``unit``.
        lower: Lower end of the interval; nan if the model was never calibrated.
        upper: Upper end of the interval; nan if the model was never calibrated.
        unit: Unit of the three numbers.
        flags: Reasons to doubt the value and its interval, in words; empty if there are none.
        familiarity: Share of the crystals held out that are as far from training as this one or
            farther; nan if the model never measured it.
    """

    id: str
    property: str
    prediction: float
    lower: float
    upper: float
    unit: str
    flags: tuple[str, ...] = ()
    familiarity: float = math.nan

    def cells(self, *, digits: int = 7) -> list[str]:
        """Return the fields as text, in the order of ``COLUMNS``, as a CSV file holds them."""
        numbers = (f"{x:.{digits}g}" for x in (self.prediction, self.lower, self.upper))
        flags, familiarity = "; ".join(self.flags), f"{self.familiarity:.3g}"
        return [self.id, self.property, *numbers, self.unit, flags, familiarity]


@dataclass(frozen=True)
class Gradients:
    """One property of one crystal with its derivatives.

    Attributes:
        property: Name of what is predicted.
        value: The predicted value, in ``unit``.
        positions: Derivative by the position of each atom, ``unit`` per Å, shape (n_atoms, 3).
        strain: Derivative by strain, ``unit``, symmetric, shape (3, 3).
        unit: Unit of the value.
    """

    property: str
    value: float
    positions: NDArray[np.float64]
    strain: NDArray[np.float64]
    unit: str


COLUMNS = tuple(field.name for field in fields(Prediction))


class Predictions(Sequence[Prediction]):
    """Rows of predictions, in the order of the input; what failed is kept beside them.

    Args:
        rows: One row per crystal and property.
        failures: What could not be predicted, with the reason.
        classes: The classes of each column that is predicted as such.
    """

    def __init__(
        self,
        rows: Iterable[Prediction],
        failures: Iterable[Failure] = (),
        classes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._rows = tuple(rows)
        self.failures = tuple(failures)
        self._classes = dict(classes or {})

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        if isinstance(index, slice):
            return Predictions(self._rows[index], classes=self._classes)
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Predictions: {len(self)} rows, {len(self.failures)} failures>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the rows as a table."""
        rows = ([getattr(row, name) for name in COLUMNS[:-1]] + ["; ".join(row.flags)]
                for row in self._rows)  # fmt: skip
        return html_table(COLUMNS, rows, len(self)) + failures_html(self.failures)

    @property
    def values(self) -> NDArray[np.float64]:
        """The predicted values, shape (n_rows,)."""
        return np.array([row.prediction for row in self._rows], dtype=np.float64)

    @property
    def classes(self) -> dict[str, list[str]]:
        """The most probable class of each crystal, in order, by column of classes."""
        found = {}
        for column, words in self._classes.items():
            targets = [class_target(column, word) for word in words]
            chances = [[r.prediction for r in self._rows if r.property == t] for t in targets]
            if all(len(row) == len(chances[0]) for row in chances):
                found[column] = [words[k] for k in np.argmax(chances, axis=0).tolist()]
        return found

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas table (pandas is not installed with potnet)."""
        import pandas

        records = [[getattr(row, name) for name in COLUMNS] for row in self._rows]
        return pandas.DataFrame(records, columns=list(COLUMNS))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a CSV file, whole or not at all."""
        with PredictionFile(path) as file:
            for row in self._rows:
                file.write(row)


class PredictionFile:
    """A CSV file of predictions that grows row by row and appears when it is complete.

    Args:
        path: The file to write; its folder must exist.
        errors: A second file that lists the failures (id, stage, reason), if wanted. It is
            written when there are some, and stays as it is when there are none.
    """

    def __init__(
        self, path: str | os.PathLike[str], errors: str | os.PathLike[str] | None = None
    ) -> None:
        self._path = Path(path)
        self._errors = None if errors is None else Path(errors)

    def __enter__(self) -> PredictionFile:
        self._stack = ExitStack()
        self._failures: Any = None
        self._rows = self._table(self._path, COLUMNS)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def write(self, item: Prediction | Failure) -> None:
        """Add one row; a failure goes to the file of errors, if there is one."""
        if isinstance(item, Prediction):
            self._rows.writerow(map(csv_cell, item.cells()))
        elif self._errors is not None:
            if self._failures is None:
                self._failures = self._table(self._errors, FAILURE_COLUMNS)
            self._failures.writerow([csv_cell(item.id), item.stage, csv_cell(item.reason)])

    def _table(self, path: Path, header: Sequence[str]) -> Any:
        file = self._stack.enter_context(atomic_write(path))
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        return writer


def html_table(header: Sequence[str], rows: Iterable[Sequence[object]], n_rows: int) -> str:
    """Return a table of the first rows as HTML, numbers with four digits to the right.

    Args:
        header: Names of the columns.
        rows: The rows; no more than ``SHOWN`` of them are looked at.
        n_rows: How many there are in all.
    """
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in islice(rows, SHOWN))
    more = f"<p>The first {SHOWN} of {n_rows:,} rows.</p>" if n_rows > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def failures_html(failures: Sequence[Failure]) -> str:
    """Return why some items could not be used, as HTML; nothing if there are none."""
    if not failures:
        return ""
    reasons = "".join(f"<li>{escape(failure.reason)}</li>" for failure in failures[:SHOWN])
    return f"<p>{len(failures):,} could not be used:</p><ul>{reasons}</ul>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        text = "" if value != value else f"{value:.4g}"
        return f'<td style="text-align:right">{text}</td>'
    return f'<td style="text-align:left">{escape(str(value))}</td>'
