"""Tables of predictions: one line per crystal, fold and seed; as .csv, or packed as .csv.gz."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from potnet.errors import DataError
from potnet.files import atomic_write

COLUMNS = ("id", "fold", "seed", "target", "prediction")


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predictions with their targets.

    Attributes:
        ids: Crystals, shape (n,).
        folds: In which fold, shape (n,).
        seeds: By which of the networks, -1 for several together, shape (n,).
        targets: True values, nan where not known, shape (n,).
        values: Predicted values, shape (n,).
    """

    ids: NDArray[np.str_]
    folds: NDArray[np.int64]
    seeds: NDArray[np.int64]
    targets: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, mask: NDArray[np.bool_]) -> PredictionTable:
        """Return the lines where ``mask`` is true."""
        return PredictionTable(
            self.ids[mask],
            self.folds[mask],
            self.seeds[mask],
            self.targets[mask],
            self.values[mask],
        )

    def combined(self, rule: str = "mean") -> PredictionTable:
        """Return one line per crystal, in order of first appearance: the seeds as one network."""
        _, first, place = np.unique(self.ids, return_index=True, return_inverse=True)
        combine = np.median if rule == "median" else np.mean
        order = np.argsort(place, kind="stable")
        groups = np.split(self.values[order], np.cumsum(np.bincount(place))[:-1])
        values = np.array([combine(group) for group in groups], dtype=np.float64)
        appearance = np.argsort(first)
        rows = first[appearance]
        return PredictionTable(
            self.ids[rows],
            self.folds[rows],
            np.full(len(rows), -1),
            self.targets[rows],
            values[appearance],
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file, packed if its name ends in .gz; unknown targets stay empty."""
        with _new_table(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            columns = (self.ids, self.folds, self.seeds, self.targets, self.values)
            for id, fold, seed, target, value in zip(*(c.tolist() for c in columns), strict=True):
                true = "" if np.isnan(target) else f"{target:.9g}"
                writer.writerow([id, fold, seed if seed >= 0 else "", true, f"{value:.9g}"])

    def write_submission(self, path: str | os.PathLike[str]) -> None:
        """Write ``id,prediction``, as those who keep the targets back want it."""
        with _new_table(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "prediction"])
            rows = zip(self.ids.tolist(), self.values.tolist(), strict=True)
            writer.writerows([id, f"{value:.9g}"] for id, value in rows)


@contextmanager
def _new_table(path: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Open a new text file, packed if its name ends in .gz: equal text makes equal bytes."""
    if Path(path).suffix != ".gz":
        with atomic_write(path) as file:
            yield file
        return
    with (
        atomic_write(path, "wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text


def concatenated(parts: Sequence[PredictionTable]) -> PredictionTable:
    """Return the lines of all ``parts``, of which there must be one."""
    return PredictionTable(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.folds for part in parts]),
        np.concatenate([part.seeds for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def read_predictions(path: str | os.PathLike[str]) -> PredictionTable:
    """Return the predictions in a CSV file, of this package or another.

    Args:
        path: A table with the columns ``id`` and ``prediction``; ``target``, ``fold`` and
            ``seed`` may be missing. Unpacked if its name ends in .gz.

    Raises:
        DataError: If a column is missing or a cell is not a number.
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error):
        header, rows = [], []
    if not {"id", "prediction"} <= set(header) or not rows:
        raise DataError(
            f"{path}: must be a table with the columns id and prediction, got "
            f"{', '.join(header) or 'no header'} and {len(rows)} rows. Correct the file."
        )
    try:
        return PredictionTable(
            np.array([row["id"] for row in rows]),
            np.array([int(row.get("fold") or 0) for row in rows]),
            np.array([int(row.get("seed") or 0) for row in rows]),
            np.array([float(row.get("target") or "nan") for row in rows]),
            np.array([float(row["prediction"]) for row in rows]),
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: cells must be numbers, got {error}. Correct the file.") from None
